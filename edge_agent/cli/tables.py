"""Plain text for terminals: columns, colours, durations and sizes in words.

Everything shown passes `plain`: text from devices and files must not steer a terminal.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
NOTHING = "-"


class Paint:
    """Colours words, or leaves them as they are."""

    def __init__(self, *, on: bool) -> None:
        self.on = on

    @classmethod
    def fitting(cls, stream: TextIO) -> Paint:
        """Colours on a terminal, unless NO_COLOR is set or the terminal is dumb."""
        plain_wanted = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(on=stream.isatty() and not plain_wanted)

    def __call__(self, text: str, *colours: str) -> str:
        if not self.on or not text:
            return text
        codes = ";".join(_CODES[colour] for colour in colours if colour)
        return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


def plain(value: Any) -> str:
    """Text without control characters; None is a dash."""
    if value is None or value == "":
        return NOTHING
    return "".join(char if char.isprintable() else "\ufffd" for char in str(value))


def width(text: str) -> int:
    """The cells that `text` takes on a terminal; colours take none."""
    return sum(_cells(char) for char in _ESCAPE.sub("", text))


def _cells(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, cells: int) -> str:
    """`text` cut to `cells`, with an ellipsis where something is missing."""
    if width(text) <= cells:
        return text
    kept, used, coloured = [], 0, False
    for piece in re.split(f"({_ESCAPE.pattern})", text):
        if _ESCAPE.fullmatch(piece):
            kept.append(piece)
            coloured = True
            continue
        for char in piece:
            used += _cells(char)
            if used > cells - 1:
                return "".join(kept) + "…" + ("\x1b[0m" if coloured else "")
            kept.append(char)
    return "".join(kept)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns, two blanks apart; numbers stand right by their header's `>`."""
    heads = [head.lstrip(">") for head in header]
    wide = [
        max([width(head), *(width(row[column]) for row in rows)])
        for column, head in enumerate(heads)
    ]
    right = [head.startswith(">") for head in header]
    lines = []
    for cells in (heads, *rows):
        padded = [
            " " * (wide[column] - width(cell)) + cell
            if right[column]
            else cell + " " * (wide[column] - width(cell))
            for column, cell in enumerate(cells)
        ]
        lines.append("  ".join(padded).rstrip())
    return lines


def fields(pairs: Sequence[tuple[str, str]], *, indent: str = "") -> list[str]:
    """`name  value` lines with the values below each other."""
    wide = max((width(name) for name, _ in pairs), default=0)
    return [f"{indent}{name}{' ' * (wide - width(name))}  {value}" for name, value in pairs]


def number(value: Any, digits: int = 1) -> str:
    """A number with `digits` decimals; a dash when there is none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else NOTHING


def duration(seconds: Any) -> str:
    """`12 s`, `02:11:08` or `3d04h`."""
    if not isinstance(seconds, int | float) or seconds < 0:
        return NOTHING
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 86_400:
        return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86_400}d{whole // 3600 % 24:02}h"


def size(count: Any) -> str:
    """Bytes in the unit that fits."""
    if not isinstance(count, int | float):
        return NOTHING
    scaled = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(scaled) < 1024 or unit == "GiB":
            break
        scaled /= 1024
    return f"{scaled:.0f} {unit}" if unit == "B" or scaled >= 100 else f"{scaled:.1f} {unit}"


def share(part: Any, whole: Any) -> str:
    """Per cent, with a decimal."""
    if not isinstance(part, int | float) or not isinstance(whole, int | float) or whole <= 0:
        return NOTHING
    return f"{100 * part / whole:.1f}%"
