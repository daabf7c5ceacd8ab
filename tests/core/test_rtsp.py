"""Addresses, answers and logins of RTSP."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import rtsp

PLACE = rtsp.Address("h", 554, "rtsp://h/dir/index.html", "Mufasa", "Circle Of Life", False)


@pytest.mark.parametrize(
    ("url", "host", "port", "of", "login"),
    [
        ("rtsp://10.0.0.7", "10.0.0.7", 554, "rtsp://10.0.0.7", ("", "")),
        ("RTSPS://cam/x?y=1", "cam", 322, "RTSPS://cam/x?y=1", ("", "")),
        ("rtsp://[::1]:8554/a", "::1", 8554, "rtsp://[::1]:8554/a", ("", "")),
        ("rtsp://[fe80::1%eth0]/a", "fe80::1%eth0", 554, "rtsp://[fe80::1%eth0]/a", ("", "")),
        ("rtsp://u:p%40s%2Fs@cam:1/a b", "cam", 1, "rtsp://cam:1/a%20b", ("u", "p@s/s")),
        ("rtsp://u:p@w@cam/@x", "cam", 554, "rtsp://cam/@x", ("u", "p@w")),
    ],
)
def test_an_address_is_taken_apart_and_its_login_is_not_in_what_is_asked(
    url: str, host: str, port: int, of: str, login: tuple[str, str]
) -> None:
    found = rtsp.address(url)
    assert found is not None
    assert (found.host, found.port, found.of) == (host, port, of)
    assert (found.user, found.password) == login


@pytest.mark.parametrize(
    "url",
    ["http://cam/x", "/dev/video0", "rtsp://", "rtsp://u@/x", "rtsp://cam:99999/x", "rtsp://cam:0",
     "rtsp://cam/a\r\nX: y", "rtsp://cam:port/", "rtsp:cam", "clip.mp4", ""],
)  # fmt: skip
def test_what_is_no_address_of_a_host_is_left_to_the_decoder(url: str) -> None:
    assert rtsp.address(url) is None


@given(user=st.text(max_size=20), password=st.text(max_size=20), path=st.text(max_size=20))
def test_no_login_and_no_second_line_is_ever_in_a_request(
    user: str, password: str, path: str
) -> None:
    login = f"{quote('a' + user, safe='')}:{quote('SECRET' + password, safe='')}"
    found = rtsp.address(f"rtsp://{login}@cam/{path}")
    if found is None:
        return
    sent = rtsp.request("OPTIONS", found.of, 1)
    assert b"SECRET" not in sent
    assert sent.count(b"\r\n") == 4
    assert found.password == "SECRET" + password


@pytest.mark.parametrize(
    ("got", "is_whole"),
    [
        (b"", False),
        (b"RTS", False),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n", False),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", True),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nv=0", False),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nv=0\n", True),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 70_000, True),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", True),
        (b"RTSP/" + b"x" * 70_000, True),
        (b"HTTP/1.1 400", True),
        (b"\x00", True),
    ],
)
def test_an_answer_is_waited_for_no_longer_than_it_can_tell_something(
    got: bytes, is_whole: bool
) -> None:
    assert rtsp.is_whole(got) is is_whole


@given(st.binary(max_size=200))
def test_whatever_answers_is_an_answer_or_none(got: bytes) -> None:
    for made in (got, b"RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Digest " + got):
        rtsp.is_whole(made)
        answer = rtsp.reply(made)
        if answer is None:
            assert rtsp.not_rtsp(made)
        else:
            login = rtsp.login(answer.challenges, PLACE, "0" * 16)
            assert "\r" not in login
            assert "\n" not in login
            assert rtsp.described(answer, tried=bool(login), has_login=True)[0]


def test_a_digest_is_that_of_the_standard() -> None:
    """The login of RFC 2617, 3.5; a real server takes one in tests/sources/test_rtsp.py."""
    challenge = 'Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    said = rtsp.login(("Basic realm=x", challenge), PLACE, "0a4f113b")
    response = re.search(r'response="([0-9a-f]{32})"', said)
    assert response is not None
    assert response[1] == "e7e6d950ef47cf45deedb7d668542a62"
    quality = rtsp.login((f'{challenge}, qop="auth,auth-int", opaque="x"',), PLACE, "0a4f")
    assert 'cnonce="0a4f"' in quality
    assert "qop=auth, nc=00000001" in quality
    assert 'opaque="x"' in quality
    assert PLACE.password not in said + quality


def test_a_digest_goes_before_what_is_sent_in_the_open() -> None:
    digest = 'Digest realm="x", nonce="1"'
    assert rtsp.login(("Basic realm=x", digest), PLACE, "00").startswith("Digest ")
    assert rtsp.login(('Basic realm="x"',), PLACE, "00") == "Basic TXVmYXNhOkNpcmNsZSBPZiBMaWZl"
    for challenge in ("Digest realm=x", 'Digest nonce="1", algorithm=MD4', "", "Negotiate"):
        assert rtsp.login((challenge,), PLACE, "00") == ""


@pytest.mark.parametrize(
    ("status", "tried", "has_login", "words"),
    [
        (401, True, True, "user or the password is wrong"),
        (401, False, True, "the one that is configured was not taken"),
        (401, False, False, "none is configured"),
        (404, False, False, "no stream of this path"),
        (453, False, False, "one more viewer"),
        (461, False, False, "transport"),
        (302, False, False, "another address"),
        (500, False, False, "an error (500)"),
        (200, False, False, "describes its video"),
    ],
)
def test_each_answer_has_its_own_sentence(
    status: int, tried: bool, has_login: bool, words: str
) -> None:
    what, hint = rtsp.described(rtsp.Reply(status, (), b""), tried=tried, has_login=has_login)
    assert words in what
    assert hint


def test_a_stream_of_sound_alone_is_told() -> None:
    answer = rtsp.Reply(200, (), b"v=0\r\nm=audio 0 RTP/AVP 0\r\n")
    assert "without video" in rtsp.described(answer, tried=False, has_login=False)[0]
