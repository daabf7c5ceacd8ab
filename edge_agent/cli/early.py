"""What has to hold before anything heavy is imported: standard streams that can be written, and
signals that are heard. The standard library alone.

A service's first seconds go into imports. Without handlers SIGHUP would kill it there, and SIGTERM
too, with another exit code than a stop. What the terminal's encoding has no letter for becomes
something that it has; it is never an error.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TextIO

HANDLER = "edge-agent"
AGAIN = "EDGE_AGENT_UTF8"  # set in what was started anew: once is enough
# One cell for one cell, so that columns stay columns.
_LIKE = str.maketrans(
    {
        "…": "~", "·": ".", "•": "*", "→": ">", "←": "<", "↑": "^", "↓": "v", "±": "~", "°": "o",
        "µ": "u", "μ": "u", "≤": "<", "≥": ">", "—": "-", "─": "-", "━": "-", "│": "|", "┃": "|",
        "┌": "+", "┐": "+", "└": "+", "┘": "+", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "├": "+",
        "┤": "+", "┬": "+", "┴": "+", "┼": "+", "█": "#", "▀": "#", "▄": "#", "▌": "#", "▐": "#",
        "░": ".", "▒": ":", "▓": "#", "▁": "_", "▂": "_", "▃": ".", "▅": "=", "▆": "=", "▇": "#",
        "✓": "+", "✗": "x", "●": "*", "○": "o", "▶": ">", "▲": "^", "▼": "v", "“": "'", "”": "'",
        "„": "'", "\u2018": "'", "\u2019": "'", "\u2013": "-", "\u00d7": "x", "\u00a0": " ",
        "\ufffd": "?",
    }
)  # fmt: skip


class EarlySignals:
    """The signals of the time before there is anybody to obey them."""

    def __init__(self) -> None:
        self.reload = False

    def hang_up(self, _number: int, _frame: FrameType | None) -> None:
        """Kept for whoever is ready later."""
        self.reload = True

    def stop(self, _number: int, _frame: FrameType | None) -> None:
        """Nothing has begun: nothing has to be ended. An exception could be lost in an import."""
        os._exit(0)


heard = EarlySignals()


def listen(words: Sequence[str]) -> None:
    """For the service. Any other command ends as commands do."""
    if words[:1] == ["run"]:
        signal.signal(signal.SIGHUP, heard.hang_up)
        signal.signal(signal.SIGTERM, heard.stop)
        signal.signal(signal.SIGINT, heard.stop)


def mend_paths() -> None:
    """Paths of files are UTF-8 whatever the locale says: with a file system encoding of ASCII no
    file could be opened whose name has an umlaut. That is settled before Python starts, so this
    starts it anew, with what the terminal reads kept as it is. Does not return then.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or os.environ.get(AGAIN):
        return
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    more = {"PYTHONUTF8": "1", "PYTHONIOENCODING": f"{encoding}:backslashreplace", AGAIN: "1"}
    with contextlib.suppress(OSError):  # then with the encoding that there is
        words = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, words, {**os.environ, **more})  # noqa: S606 - it is this one


def mend_streams() -> None:
    """Closed standard descriptors get a place to write to: the next file that is opened would be
    taken for standard output. Then the encoding is made one that never fails.
    """
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            _open_if_closed(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for good
    sys.stdout = sys.stdout or _writer(1)
    sys.stderr = sys.stderr or _writer(2)
    codecs.register_error(HANDLER, replace)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # a test may have put another there
        if reconfigure is not None:
            reconfigure(errors=HANDLER)


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one


def _writer(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", closefd=False)


def replace(error: UnicodeError) -> tuple[str, int]:
    r"""What has no letter in an encoding: our own signs by one that looks alike, any other by its
    number, `\u00e4`. In JSON each by its number: it says the same then.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, is_json = error.object[error.start : error.end], error.object[:1] in "{["
    return "".join(_number(char) if is_json else _like(char) for char in text), error.end


def _like(char: str) -> str:
    like = char.translate(_LIKE)
    return like if like.isascii() else _number(char)


def _number(char: str) -> str:
    code = ord(char)
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
