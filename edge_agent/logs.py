"""Structured logs on the standard library: one JSON object a line, or words for a terminal.

A line is UTC, bounded, without control characters, and has of an address scheme, host and port
alone, whoever wrote it. The same line again and again is cut to a few a minute and its repeats are
counted; audit lines are never cut. It must never raise, and never be given names of patients, UIDs
or file paths.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import time
import traceback
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, TextIO

import msgspec

from edge_agent.config.structs import LogConfig
from edge_agent.core.places import without_addresses

ROOT: Final = "edge_agent"
AUDIT: Final = "audit"  # the room whose lines are written at every level
MAX_MESSAGE_CHARS = 2000
MAX_FIELD_CHARS = 500
MAX_FIELDS = 32
MAX_TRACE_CHARS = 8000
REPEATS_PER_WINDOW = 20
WINDOW_S = 60.0
MAX_REMEMBERED = 256  # different messages whose repeats are counted

if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler  # no generic on 3.10

_COLOURS: Final = {"debug": "2", "warning": "33", "error": "31", "critical": "31;1"}
_RESERVED: Final = ("ts", "level", "room", "message")
_SECRETS: Final = re.compile(r"(?i)\b(password|passwd|secret|token|api_?key)=[^\s&'\"]+")
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TRACE_CONTROLS: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Log:
    """`log.info("opened", stream="us0", fps=30.0)`: a message and its fields."""

    def __init__(self, room: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{room}")

    def debug(self, message: str, **fields: object) -> None:
        self._write(logging.DEBUG, message, None, fields)

    def info(self, message: str, **fields: object) -> None:
        self._write(logging.INFO, message, None, fields)

    def warning(self, message: str, **fields: object) -> None:
        self._write(logging.WARNING, message, None, fields)

    def error(
        self, message: str, *, trace: BaseException | str | None = None, **fields: object
    ) -> None:
        """trace: the error whose traceback belongs to the line, or that of another process."""
        self._write(logging.ERROR, message, trace, fields)

    def _write(
        self, level: int, message: str, trace: BaseException | str | None, fields: dict[str, object]
    ) -> None:
        if self._logger.isEnabledFor(level):
            words, error = (trace, None) if isinstance(trace, str) else ("", trace)
            extra = {"fields": fields, "trace": words}
            self._logger.log(level, "%s", message, exc_info=error, extra=extra)


def get(room: str) -> Log:
    """The log of a room: `get("console")`."""
    return Log(room)


def audit(verb: str, **fields: object) -> None:
    """Who did what: neither a level nor a repeat keeps it out."""
    Log(AUDIT).info("audit", audit=True, verb=verb, **fields)


def setup(config: LogConfig, stream: TextIO | None = None) -> None:
    """Sends every logger of the process to `stream` (standard error). Call again to change it."""
    stream = sys.stderr if stream is None else stream
    tty = stream.isatty()
    human = config.format == "human" or (config.format == "auto" and tty)
    colour = human and tty and not os.environ.get("NO_COLOR")
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(old)
    root.addHandler(_Lines(stream, human=human, colour=colour))
    root.setLevel(logging.WARNING)  # libraries
    logging.getLogger(ROOT).setLevel(config.level.upper())
    logging.getLogger(f"{ROOT}.{AUDIT}").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)


def mask(text: str) -> str:
    """Cuts addresses down to scheme, host and port, and takes out passwords of `password=...`
    pairs and the files that errors of the system name.
    """
    return _SECRETS.sub(r"\1=***", without_addresses(text))


class Repeats:
    """Which repeat is still written: at most `limit` of a key in `window_s`. Pure."""

    def __init__(self, limit: int = REPEATS_PER_WINDOW, window_s: float = WINDOW_S) -> None:
        self._limit = limit
        self._window_s = window_s
        self._seen: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def admit(self, key: tuple[str, ...], now_s: float) -> int | None:
        """None: do not write it. Else the number of repeats that were left out before it."""
        since_s, count = self._seen.pop(key, (now_s, 0))
        left_out = 0
        if not 0 <= now_s - since_s < self._window_s:  # over, or the clock was set back
            left_out = max(0, count - self._limit)
            since_s, count = now_s, 0
        self._seen[key] = (since_s, count + 1)
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return None if count >= self._limit else left_out


class _Lines(_StreamHandler):
    def __init__(self, stream: TextIO, *, human: bool, colour: bool) -> None:
        super().__init__(stream)
        self._human = human
        self._colour = colour
        self._repeats = Repeats()

    def filter(self, record: logging.LogRecord) -> Any:
        """Called under no lock: two threads may count one repeat too few, which is harmless."""
        fields = getattr(record, "fields", {})
        if fields.get("audit"):
            return super().filter(record)
        key = (record.name, record.levelname, record.getMessage(), str(fields.get("stream", "")))
        left_out = self._repeats.admit(key, record.created)
        if left_out is None:
            return False
        if left_out:
            record.fields = {**fields, "suppressed": left_out}
        return super().filter(record)

    def format(self, record: logging.LogRecord) -> str:
        line = _shape(record)
        if self._human:
            return _words(line, colour=self._colour)
        return msgspec.json.encode(line).decode()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A broken pipe must not stop inference; there is nobody left to tell."""


def _shape(record: logging.LogRecord) -> dict[str, Any]:
    """The line as it is written: masked, bounded, free of control characters."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    line: dict[str, Any] = {
        "ts": f"{moment}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "room": record.name.removeprefix(f"{ROOT}."),
        "message": _clean(record.getMessage(), MAX_MESSAGE_CHARS),
    }
    fields: dict[str, object] = getattr(record, "fields", {})
    for name, value in list(fields.items())[:MAX_FIELDS]:
        line[f"{name}_" if name in _RESERVED else name] = _value(value)
    trace: str = getattr(record, "trace", "")
    if record.exc_info and record.exc_info[1] is not None:
        trace = "".join(traceback.format_exception(record.exc_info[1]))
    if trace:  # its end names the error
        line["trace"] = _TRACE_CONTROLS.sub("?", mask(trace))[-MAX_TRACE_CHARS:]
    return line


def _value(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _clean(str(value), MAX_FIELD_CHARS)


def _clean(text: str, limit: int) -> str:
    """Masked before it is cut, so that no half of a password stays."""
    text = _CONTROLS.sub(lambda hit: f"\\x{ord(hit.group()):02x}", mask(text[: 4 * limit]))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _words(line: dict[str, Any], *, colour: bool) -> str:
    trace = line.pop("trace", "")
    moment, level, room, message = (str(line.pop(name)) for name in _RESERVED)
    tag = f"{level:<7}"
    if colour and level in _COLOURS:
        tag = f"\x1b[{_COLOURS[level]}m{tag}\x1b[0m"
    fields = "".join(f" {name}={value}" for name, value in line.items())
    text = f"{moment.replace('T', ' ')} {tag} {room:<10} {message}{fields}"
    return f"{text}\n{trace.rstrip()}" if trace else text
