from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.load import load_text
from edge_agent.config.merge import parse_toml
from edge_agent.config.problems import Problem, dotted, masked, quoted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rtsp://user:secret@host:554/path", "rtsp://user:***@host:554/path"),
        ("rtsp://:secret@host", "rtsp://:***@host"),
        ("rtsp://user:s@cr/et@host", "rtsp://user:***@host"),
        ("rtsp://user:{password}@host", "rtsp://user:{password}@host"),
        ("rtsp://host:554/path", "rtsp://host:554/path"),
        ("rtspsrc location=rtsp://a:secret@h ! x", "rtspsrc location=rtsp://a:***@h ! x"),
        ("rtspsrc user-id=a user-pw=secret ! x", "rtspsrc user-id=a user-pw=*** ! x"),
        ('rtspsrc user-pw="se cret" ! x', "rtspsrc user-pw=*** ! x"),
        ("rtspsrc user-pw={password} ! x", "rtspsrc user-pw={password} ! x"),
        ("http://h/s?token=secret&a=1", "http://h/s?token=***&a=1"),
        ("http://h/s?Password=secret", "http://h/s?Password=***"),
        ("password_file=/etc/x", "password_file=/etc/x"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_a_password_is_masked_and_nothing_else(text: str, wanted: str) -> None:
    assert masked(text) == wanted


_SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'"), min_size=4
).filter(lambda text: text != "{password}")


@given(_SECRETS.map(lambda text: f"Q{text}Q"))
def test_no_password_of_a_url_is_ever_seen(secret: str) -> None:
    assert secret not in masked(f"rtsp://user:{secret}@camera/path")


@pytest.mark.parametrize(
    "text",
    [
        'node = "rtsp://u:hunter2@h"',
        '[log]\nlevel = "rtsp://u:hunter2@h"',
        '[streams."rtsp://u:hunter2@h"]',
        "[streams.a]\nsource = 'rtsp://u:hunter2@h'",
        '[streams.a.source]\nkind = "video"\nwhere = "rtsp://u:hunter2@h"\npipelin = true',
        'streams = "rtsp://u:hunter2@h"',
        '"rtsp://u:hunter2@h" = 1',
    ],
)
def test_no_message_shows_a_password(text: str) -> None:
    loaded = load_text(text, overrides=["rtsp://u:hunter2@h", "node=rtsp://u:hunter2@h"])
    assert loaded.problems
    assert "hunter2" not in loaded.text()
    assert "hunter2" not in repr(loaded.problems)


@given(st.text())
def test_a_quoted_text_is_the_text_again(text: str) -> None:
    assert parse_toml(f"a = {quoted(text)}") == {"a": text}
    assert quoted(text).isprintable()


def test_a_key_is_written_as_set_takes_it() -> None:
    assert dotted(("streams", "us", "models", 0, "every")) == "streams.us.models.0.every"
    assert dotted(("streams", "US 1\n")) == 'streams."US 1\\n"'


def test_a_problem_is_one_line() -> None:
    problem = Problem(file="c", line=3, key="a.b", message="m", hint="h", severity="warn")
    assert problem.text() == "c:3: warning: a.b — m -> h"
    assert Problem(message="m").text() == "m"
