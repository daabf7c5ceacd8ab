"""Of a place only scheme and host are told, whatever stands in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.config.problems import shareable
from edge_agent.core.places import in_words, local_path, reduced, without_addresses, without_places

TOLD = re.compile(r"word|camera|/dev/video\d{1,3}|[a-z]+://(\*{3}|[\w.-]+|\[[0-9A-Fa-f:.%\w]+\])")
SECRET = "Mustermann"
SCHEMES = ("rtsp", "http", "HTTPS", "file", "udp", "concat:http", "smb", "x-Mustermann", "")


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("rtsp://user:secret@10.0.0.7:554/live/1?x=y", "rtsp://10.0.0.7"),
        ("rtsp://user:{password}@camera.or-3.local/1", "rtsp://camera.or-3.local"),
        ("RTSP://10.0.0.7", "rtsp://10.0.0.7"),
        ("udp://@239.0.0.1:1234", "udp://239.0.0.1"),
        ("rtsp://[fe80::1%eth0]:554/1", "rtsp://[fe80::1%eth0]"),
        ("http://127.0.0.1:9/pacs/Mustermann/1.2.840.mp4", "http://127.0.0.1"),
        ("rtsp://user:sec/ret@10.0.0.7/1", "rtsp://***"),  # user: could be the host
        ("http://host/mail?to=a@b.example", "http://***"),
        ("http://", "http://***"),
        ("file:///data/Mustermann/a.mp4", "word"),
        ("file:/data/Mustermann/a.mp4", "word"),
        ("concat:http://a/x|http://b/Mustermann", "word"),
        ("Mustermann://host/x", "word"),
        ("/data/Mustermann/a.mp4", "word"),
        ("Mustermann.avi", "word"),
        ("/dev/video0", "/dev/video0"),
        ("/dev/v4l/by-id/Mustermann", "camera"),
        ("/dev/../data/Mustermann/a.mp4", "camera"),
    ],
)
def test_a_source_is_told_by_scheme_and_host(where: str, told: str) -> None:
    assert reduced(where, "word") == told
    scheme, slashes, _ = told.partition("://")
    assert in_words(where, "word") == (f"{scheme} stream" if slashes else told)


@settings(max_examples=60, deadline=None)
@given(
    scheme=st.sampled_from(SCHEMES),
    user=st.sampled_from(["", "u@", f"{SECRET}:x@", f"u:{SECRET}/@", f"u:p@{SECRET}@"]),
    host=st.sampled_from(["10.0.0.7", "cam.local:554", "[::1]:9", "", "with space"]),
    tail=st.text(st.sampled_from("/?#\\@:&=. |%aé\n"), max_size=12),
)
@example(scheme="rtsp", user=f"{SECRET}:a/b@", host="h", tail="")
@example(scheme="http", user="", host="h", tail="@")
def test_no_user_path_or_query_of_any_address_is_told(
    scheme: str, user: str, host: str, tail: str
) -> None:
    where = f"{scheme}://{user}{host}/{tail}{SECRET}"
    told = reduced(where, "word")
    assert SECRET not in told
    assert TOLD.fullmatch(told), told
    if scheme and SECRET not in scheme:
        word = "".join(where.split())
        assert SECRET not in without_addresses(f"open {word}")


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_anything_is_told_in_one_of_few_ways(where: str) -> None:
    assert TOLD.fullmatch(reduced(where, "word"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("connect to mqtt://u:p@h:1883: refused", "connect to mqtt://h:1883: refused"),
        ("see (https://h/x).", "see (https://h)."),
        ("open file:///a/Mustermann: gone", "open file:(path) gone"),
        ("[Errno 13] Permission denied: '/a/Erika Mustermann/b'", "[Errno 13] Permission denied"),
        ("frames/s and 1/2 stay", "frames/s and 1/2 stay"),
    ],
)
def test_a_text_keeps_scheme_host_and_port(text: str, told: str) -> None:
    assert without_addresses(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "read /data/Mustermann",
        'read "/data/Erika Mustermann/a.mp4" twice',
        "read '/Mustermann'",
        "read ~/Mustermann/a",
        "open rtsp://h/Mustermann",
    ],
)
def test_a_text_for_others_has_no_path(text: str) -> None:
    assert SECRET not in without_places(text)
    assert without_places(text).startswith(text.split(maxsplit=1)[0])


def test_problems_of_a_configuration_are_told_without_what_stands_in_a_source() -> None:
    told = shareable(
        '/etc/Mustermann/config.toml:12: streams.a.source.path — no "/data/Erika Mustermann"\n'
        "streams.b.source.path — not usable now: No such file or directory\n"
        'config.toml:4: streams.a.source.fps — wrong type (expected a number, got "Mustermann")\n'
        'config.toml:5: streams.a.source.fsp — unknown key, did you mean "fps"?\n'
        'config.toml:6: streams.e.source — wrong type (expected a table, got "Mustermann")\n'
        "config.toml:7: streams.e.source.where — missing (expected text)\n"
        'config.toml:3: node — "rtsp://u:Mustermann@h/x", expected a name -> say cart\n'
        "config.toml: warning: spool.limit_bytes — too small\n"
        "/etc/Mustermann/config.toml: no TOML: expected a value"
    )
    assert SECRET not in told
    assert told.splitlines() == [
        "config.toml:12: streams.a.source.path: edge-agent config check says more",
        "streams.b.source.path — not usable now: No such file or directory",
        "config.toml:4: streams.a.source.fps — wrong type (expected a number, got something else)",
        'config.toml:5: streams.a.source.fsp — unknown key, did you mean "fps"?',
        "config.toml:6: streams.e.source: edge-agent config check says more",
        "config.toml:7: streams.e.source.where — missing (expected text)",
        "config.toml:3: node — (path), expected a name -> say cart",
        "config.toml: warning: spool.limit_bytes — too small",
        "config.toml: no TOML: expected a value",
    ]


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("file:///srv/a.avi", "/srv/a.avi"),
        ("FILE://localhost/srv/a%20b.avi", "/srv/a b.avi"),
        ("file:/srv/a.avi", "/srv/a.avi"),
        ("/srv/a%20b.avi", "/srv/a%20b.avi"),
        ("file://other/srv/a.avi", "file://other/srv/a.avi"),
        ("rtsp://cam/a", "rtsp://cam/a"),
    ],
)
def test_a_file_address_of_this_machine_is_its_path(where: str, path: str) -> None:
    assert local_path(where) == path


def test_the_word_file_before_a_colon_is_no_address() -> None:
    assert without_places("open video file: Permission denied") == (
        "open video file: Permission denied"
    )
