"""Which line does a key of a TOML text stand on? tomllib does not say.

A lenient scanner beside the real parser: it follows tables, arrays of tables, dotted keys, inline
tables, arrays and all four kinds of strings, judges nothing, and never raises. What it does not
understand ends the scan; the parser will have said why. Bounded in depth and in keys.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from edge_agent.config.problems import Key

MAX_DEPTH: Final = 16  # parts of one path; the config needs 5, and tomllib recurses
MAX_KEYS: Final = 20_000  # later ones get the line of their table

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[^\s=.,\[\]{}\"'#]+")
_BARE_VALUE = re.compile(r"[^,\]}#\n]+")
_STRING = re.compile(
    r'"""(?:[^"\\]+|\\.|"{1,2}(?!"))*(?:"{3,5})?'
    r"|'''(?:[^']+|'{1,2}(?!'))*(?:'{3,5})?"
    r'|"(?:[^"\\\n]+|\\.)*"?'
    r"|'[^'\n]*'?",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|[^uU])", re.DOTALL)
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


class Scan(msgspec.Struct, frozen=True):
    """lines: 1-based, where each key, table and array item first stands. too_deep_line: 0: none."""

    lines: dict[Key, int]
    too_deep_line: int = 0


def key_lines(text: str) -> Scan:
    """Scans a whole TOML text. Never raises; an unclear text gives what was found before."""
    scanner = _Scanner(text)
    try:
        while scanner.statement():
            pass
    except _TooDeep:
        return Scan(scanner.lines, scanner.line)
    except _Unclear:
        pass
    return Scan(scanner.lines)


class _Unclear(Exception):
    """Ends the scan; no error, the parser will tell."""


class _TooDeep(Exception):
    """More levels than `MAX_DEPTH`."""


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._table: Key = ()
        self._counts: dict[Key, int] = {}  # of arrays of tables
        self.line = 1
        self.lines: dict[Key, int] = {}

    def statement(self) -> bool:
        self._skip(_BLANK)
        if self._at >= len(self._text):
            return False
        if self._peek() == "[":
            self._header()
        else:
            self._pair(self._table)
        return True

    def _header(self) -> None:
        line = self.line
        is_array = self._text.startswith("[[", self._at)
        self._move(self._at + (2 if is_array else 1))
        parts = self._key()
        self._expect("]]" if is_array else "]")
        path: Key = ()
        for index, part in enumerate(parts):
            path = (*path, part)
            self._note(path, line)
            if is_array and index == len(parts) - 1:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        self._note(path, line)
        self._table = path

    def _pair(self, table: Key) -> None:
        line = self.line
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, line)
        self._expect("=")
        self._value(path)

    def _value(self, path: Key) -> None:
        self._skip(_SPACE)
        start = self._at
        sign = self._peek()
        if sign == "[":
            self._array(path)
        elif sign == "{":
            self._inline_table(path)
        else:
            self._skip(_STRING if sign in {'"', "'"} else _BARE_VALUE)
        if self._at == start:
            raise _Unclear

    def _array(self, path: Key) -> None:
        self._move(self._at + 1)
        index = 0
        while self._inside("]"):
            item: Key = (*path, index)
            self._note(item, self.line)
            self._value(item)
            index += 1
        self._move(self._at + 1)

    def _inline_table(self, path: Key) -> None:
        self._move(self._at + 1)
        while self._inside("}"):
            self._pair(path)
        self._move(self._at + 1)

    def _inside(self, closer: str) -> bool:
        """Goes to the next item; False at the closer."""
        self._skip(_BLANK)
        while self._peek() == ",":
            self._move(self._at + 1)
            self._skip(_BLANK)
        return self._peek() != closer

    def _key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip(_SPACE)
            sign = self._text[self._at : self._at + 1]
            found = (_STRING if sign in {'"', "'"} else _BARE_KEY).match(self._text, self._at)
            if found is None or len(parts) >= MAX_DEPTH:
                raise _TooDeep if found else _Unclear
            self._move(found.end())
            parts.append(_plain(found[0]))
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return parts
            self._move(self._at + 1)

    def _note(self, path: Key, line: int) -> None:
        if len(path) > MAX_DEPTH:
            raise _TooDeep
        if len(self.lines) < MAX_KEYS:
            self.lines.setdefault(path, line)

    def _peek(self) -> str:
        if self._at >= len(self._text):
            raise _Unclear
        return self._text[self._at]

    def _expect(self, signs: str) -> None:
        self._skip(_SPACE)
        if not self._text.startswith(signs, self._at):
            raise _Unclear
        self._move(self._at + len(signs))

    def _skip(self, pattern: re.Pattern[str]) -> None:
        found = pattern.match(self._text, self._at)
        if found:
            self._move(found.end())

    def _move(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to


def _plain(key: str) -> str:
    """A key without its quotes and escapes."""
    if key[0] not in "\"'":
        return key
    inner = key[1:-1]
    return _ESCAPE.sub(_unescaped, inner) if key[0] == '"' else inner


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] not in "uU":
        return _ESCAPES.get(code, code)
    point = int(code[1:], 16)
    return chr(point) if point <= 0x10FFFF else found[0]
