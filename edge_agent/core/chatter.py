"""What libraries write past the log, made fit for it: few lines a minute, no place, no name. Pure.

A library says the same of every frame, with the address or the file that it reads. Its words are
kept, its particulars are not; repeats are counted. Traces of a process that died pass whole.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

LIMIT: Final = 10  # different lines in a window, and as many counts at its end
TRACES: Final = 5  # in a window
WINDOW_S: Final = 60.0
MAX_LINE_CHARS: Final = 300
MAX_TRACE_LINES: Final = 150
MAX_TRACE_CHARS: Final = 8000

_TRACE: Final = re.compile(
    r"Traceback \(most recent call last\)|Exception ignored in|Fatal Python error|Current thread 0x"
    r"|terminate called|double free|free\(\): |malloc\(\)|corrupted (?:size|double)|Segmentation"
    r"|\*\*\* .* \*\*\*|[Aa]ssertion .*failed"
)
_CUTS: Final = (
    (re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,31}:/{1,2}\S+"), "(address)"),
    (re.compile(r"\"[^\"]*\"?|`[^'`]*['`]?|(?<!\w)'[^']*'"), "(name)"),
    (re.compile(r"\S*[/\\]\S*"), "(path)"),
    (re.compile(r"\S*@\S*"), "(address)"),
    (re.compile(r"\S*\^\S*"), "(name)"),
    (re.compile(r"\b\d+(?:\.\d+){3,}(?::\d+)?\b"), "(number)"),
    (re.compile(r"[^\s(\[]+\.[A-Za-z]\w{0,5}\b"), "(file)"),
    (re.compile(r"\b0x[0-9A-Fa-f]+\b"), "0x"),
    (re.compile(r"\d{5,}"), "#"),
)
_DIGITS: Final = re.compile(r"\d+")


class Said(NamedTuple):
    """text: of a line, or a trace of many. more: lines like it that were left out before."""

    text: str
    more: int = 0
    is_trace: bool = False


class Chatter:
    """Takes lines as they come, gives what is to be logged."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._seen: dict[str, list[int]] = {}  # line without numbers: how often it was left out
        self._texts: dict[str, str] = {}
        self._others = 0
        self._traces = 0
        self._trace: list[str] = []

    def take(self, line: str, now_s: float) -> list[Said]:
        """A line, without its end."""
        said = self._turn(now_s)
        if self._trace:
            if len(self._trace) < MAX_TRACE_LINES:
                self._trace.append(line[: 4 * MAX_LINE_CHARS])
            return said
        if _TRACE.search(line):
            self._trace = [line[: 4 * MAX_LINE_CHARS]]
            return said
        return said + self._admit(without_particulars(line))

    def quiet(self, now_s: float) -> list[Said]:
        """Nothing came for a moment: a trace has ended."""
        said = self._turn(now_s)
        if self._trace:
            text, self._trace = "\n".join(self._trace)[-MAX_TRACE_CHARS:], []
            self._traces += 1
            if self._traces <= TRACES:
                said.append(Said(text, is_trace=True))
            else:
                self._others += 1
        return said

    def _admit(self, text: str) -> list[Said]:
        key = _DIGITS.sub("#", text)
        if not text:
            return []
        if key in self._seen:
            self._seen[key][0] += 1
        elif len(self._seen) < LIMIT:
            self._seen[key], self._texts[key] = [0], text
            return [Said(text)]
        else:
            self._others += 1
        return []

    def _turn(self, now_s: float) -> list[Said]:
        """What was left out of a window that is over."""
        if self._since_s is not None and 0 <= now_s - self._since_s < WINDOW_S:
            return []
        said = self.end()
        self._since_s = now_s
        return said

    def end(self) -> list[Said]:
        """What has been left out so far."""
        said = [Said(self._texts[key], more) for key, (more,) in self._seen.items() if more]
        if self._others:
            said.append(Said("other lines", self._others))
        self._others = self._traces = 0
        self._seen, self._texts = {}, {}
        return said


def without_particulars(line: str) -> str:
    """A line of a library without addresses, paths, files, quoted names and long numbers."""
    text = line[: 4 * MAX_LINE_CHARS]
    for pattern, word in _CUTS:
        text = pattern.sub(word, text)
    return " ".join(text.split())[:MAX_LINE_CHARS]
