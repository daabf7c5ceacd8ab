from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import logs
from edge_agent.config.structs import LogConfig


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger(logs.ROOT).setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def written(stream: io.StringIO | None = None, **config: Any) -> io.StringIO:
    stream = stream or io.StringIO()
    logs.setup(LogConfig(**config), stream)
    return stream


def test_a_line_is_one_json_object_with_its_fields() -> None:
    stream = written()
    logs.get("console").info("listening", port=9810, host=None, load=0.5, bad=float("nan"))
    (line,) = lines(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {
        "level": "info",
        "room": "console",
        "message": "listening",
        "port": 9810,
        "host": None,
        "load": 0.5,
        "bad": "nan",
    }


def test_no_field_takes_the_place_of_a_reserved_one() -> None:
    stream = written()
    logs.get("x").info("hello", room="other", level="high")
    (line,) = lines(stream)
    assert (line["room"], line["room_"], line["level_"]) == ("x", "other", "high")


def test_of_an_address_only_scheme_and_host_are_written() -> None:
    stream = written()
    url = "rtsp://nurse:s3cr%2Ft@10.0.0.7:554/live/Mustermann?token=s3cret#s3cret"
    try:
        raise OSError(f"cannot open {url}")
    except OSError as error:
        logs.get("video").error(f"open {url}", trace=error, where=url)
    text = stream.getvalue()
    assert not any(word in text for word in ("s3c", "nurse", "Mustermann"))
    assert text.count("rtsp://10.0.0.7:554") == 3


def test_a_file_that_the_system_names_is_not_written() -> None:
    stream = written()
    names = ("Erika Mustermann", "O'Neil")  # not in the line that the trace shows
    try:
        Path("/nowhere").joinpath(*names).read_bytes()
    except OSError as error:
        logs.get("video").error(f"read: {error}", trace=error, why=str(error))
    text = stream.getvalue()
    assert "Mustermann" not in text
    assert text.count("[Errno 2] No such file or directory") == 3


def test_messages_are_bounded_and_cannot_forge_a_second_line() -> None:
    stream = written(format="human")
    logs.get("x").info("a\n2026-01-01 forged\x1b[31m" + "y" * 10_000, field="z" * 10_000)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert len(text) < logs.MAX_MESSAGE_CHARS + logs.MAX_FIELD_CHARS + 100


def test_an_error_brings_its_traceback() -> None:
    stream = written()
    try:
        _ = dict[str, int]()["gone"]
    except KeyError as error:
        logs.get("x").error("crashed", trace=error)
    assert "KeyError: 'gone'" in lines(stream)[0]["trace"]


def test_repeats_are_cut_and_counted_but_audit_lines_never() -> None:
    stream = written()
    log = logs.get("x")
    for _ in range(100):
        log.warning("again")
        log.warning("again", stream="us0")
        log.info("frame read", audit=True)
    assert len(lines(stream)) == 2 * logs.REPEATS_PER_WINDOW + 100


def test_audit_lines_are_written_at_every_level() -> None:
    stream = written(level="error")
    logs.get("x").info("quiet")
    logs.audit("POST /v1/reload", uid=1000)
    (line,) = lines(stream)
    assert (line["room"], line["audit"], line["verb"]) == ("audit", True, "POST /v1/reload")
    assert line["uid"] == 1000


def test_repeats_say_how_many_were_left_out_when_the_window_is_over() -> None:
    repeats = logs.Repeats(limit=2, window_s=60.0)
    assert [repeats.admit(("k",), now) for now in (0.0, 1.0, 2.0, 3.0)] == [0, 0, None, None]
    assert repeats.admit(("k",), 60.0) == 2
    assert repeats.admit(("k",), 50.0) == 0  # a clock that was set back opens a new window


def test_the_table_of_repeats_is_bounded() -> None:
    repeats = logs.Repeats()
    for number in range(10 * logs.MAX_REMEMBERED):
        repeats.admit((str(number),), 0.0)
    assert len(repeats._seen) == logs.MAX_REMEMBERED


def test_a_terminal_gets_words_in_colour_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = written(Terminal())
    logs.get("x").warning("careful", stream="us0")
    assert "\x1b[33mwarning" in stream.getvalue()
    assert "careful stream=us0" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = written(Terminal())
    logs.get("x").warning("careful")
    assert "\x1b" not in plain.getvalue()


def test_levels_are_kept_and_a_second_setup_replaces_the_first() -> None:
    first = written(level="error")
    logs.get("x").warning("quiet")
    second = written(level="debug")
    logs.get("x").debug("heard")
    logging.getLogger("aiohttp.access").info("spam")
    assert first.getvalue() == ""
    assert [line["message"] for line in lines(second)] == ["heard"]


def test_a_broken_stream_is_nobodys_problem() -> None:
    stream = written()
    stream.close()
    logs.get("x").error("into the void")
