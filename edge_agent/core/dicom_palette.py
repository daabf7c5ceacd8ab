"""Palettes: the colour of each stored value, by descriptors and by the bytes that are there.

Pure. PS3.3 C.7.6.3.1.5 and C.7.9. A table that is missing, too short or unclear is named: half a
palette would be a picture of wrong colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

COLOURS = ("red", "green", "blue")
MAX_ENTRIES = 1 << 16
MAX_SEGMENTS = 1 << 17
DISCRETE, LINEAR, INDIRECT = range(3)
HINT = "export it again, as RGB or with whole palettes"

Words = NDArray[np.int64]


class BadPalette(ValueError):
    """Its words name the colour, what was expected, and what came."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One colour as the file has it.

    descriptor: entries, first value, bits; unsigned, as stored; None where there is none.
    stored: None where there is none. is_bytewise: not in words that the byte order turns.
    """

    colour: str
    descriptor: tuple[int, int, int] | None
    stored: bytes | None
    is_big_endian: bool = False
    is_segmented: bool = False
    is_bytewise: bool = False


def colours(
    tables: Sequence[Table], values: NDArray[np.float64], *, is_signed: bool
) -> tuple[NDArray[np.uint8], str]:
    """uint8 N x 3, BGR: the colour of each stored value; and words of what was done.

    tables: red, green, blue. values: what each bit pattern of a pixel stands for. Those before the
    first entry get the first colour, those after the last one the last. Raises: BadPalette.
    """
    read = [_entries(table) for table in tables]
    bits = [bits for _, bits in read]
    words = "palette"
    if all(bits == 16 for bits in bits) and 0 < max(int(levels.max()) for levels, _ in read) < 256:
        bits, words = [8, 8, 8], "palette, 8 bits in words of 16"
    found = np.empty((len(values), 3), np.uint8)
    for place, table in enumerate(tables):
        assert table.descriptor is not None
        first = table.descriptor[1]
        if is_signed and first >= 1 << 15:
            first -= 1 << 16
        levels = read[place][0] >> bits[place] - 8
        index = np.clip(values - first, 0, len(levels) - 1).astype(np.intp)
        found[:, 2 - place] = levels[index]
    return found, words


def _entries(table: Table) -> tuple[Words, int]:
    """The levels of a colour and their bits, 8 or 16. Raises: BadPalette."""
    name = f"{table.colour} palette"
    if table.descriptor is None:
        raise BadPalette(f"a descriptor of the {name}, got none")
    if table.stored is None:
        raise BadPalette(f"a {name} table, got none")
    entries, _, bits = table.descriptor
    entries = entries or MAX_ENTRIES
    if bits not in (8, 16):
        raise BadPalette(f"8 or 16 bits in the {name}, got {bits}")
    if table.is_segmented:
        levels = _expanded(table, name, bits)
        if len(levels) != entries:
            raise BadPalette(f"{entries} entries in the {name} table, got {len(levels)}")
        return levels, bits
    length, packed = len(table.stored), entries + entries % 2
    if bits == 16 and length == 2 * entries:
        return _words(table), 16
    is_turned = table.is_big_endian and not table.is_bytewise
    if length == packed or (length == entries and not is_turned):
        return _bytes(table)[:entries], 8
    if length == 2 * entries:
        return _narrowed(_words(table), name), 8
    needed = 2 * entries if bits == 16 else packed
    raise BadPalette(f"{needed} bytes in the {name} table, got {length}")


def _bytes(table: Table) -> Words:
    """One by one; in a big-endian file each pair of them is swapped."""
    stored = np.frombuffer(table.stored or b"", np.uint8)
    if table.is_big_endian and not table.is_bytewise:
        even = len(stored) // 2 * 2
        stored = stored[:even].reshape(-1, 2)[:, ::-1].ravel()
    return stored.astype(np.int64)


def _words(table: Table) -> Words:
    stored = table.stored or b""
    kind = ">u2" if table.is_big_endian else "<u2"
    return np.frombuffer(stored[: len(stored) // 2 * 2], kind).astype(np.int64)


def _narrowed(words: Words, name: str) -> Words:
    """Levels of 8 bits that are each in a word: in its lower byte, its upper one, or in both."""
    if (words < 256).all():
        return words
    low, high = words & 0xFF, words >> 8
    if not low.any() or (low == high).all():
        return high
    raise BadPalette(f"entries of 8 bits in the {name} table, got larger ones")


# ── segmented tables ──────────────────────────────────────────────────────────────────────────


def _expanded(table: Table, name: str, bits: int) -> Words:
    """Raises: BadPalette."""
    data = _words(table) if bits == 16 else _bytes(table)
    unfold = _Unfold(data.tolist(), name, bits)
    at = 0
    while at + 1 < len(data):  # a single value behind the last segment fills up the length
        at = unfold.segment(at, may_point=True)
    return np.array(unfold.levels, np.int64)


class _Unfold:
    """levels: of the segments so far."""

    def __init__(self, data: list[int], name: str, bits: int) -> None:
        self._data, self._name, self._bits = data, name, bits
        self._segments = 0
        self.levels: list[int] = []

    def segment(self, at: int, *, may_point: bool) -> int:
        """Takes the segment here; where the next one is. Raises: BadPalette."""
        self._segments += 1
        if at + 2 >= len(self._data) or self._segments > MAX_SEGMENTS:
            raise self._bad("that ends inside of a segment")
        kind, length = self._data[at : at + 2]
        body = at + 2
        if kind == DISCRETE:
            end = body + length
            if end > len(self._data):
                raise self._bad("that ends inside of a segment")
            self.levels += self._data[body:end]
        elif kind == LINEAR and self.levels:
            end = body + 1
            self._line(self._data[body], length)
        elif kind == INDIRECT and self.levels and may_point:
            end = body + (2 if self._bits == 16 else 4)
            self._copy(self._pointer(body, end), length)
        else:
            raise self._bad("of segments that can't be where they are")
        if len(self.levels) > MAX_ENTRIES:
            raise self._bad(f"of more than {MAX_ENTRIES} entries")
        return end

    def _line(self, last: int, length: int) -> None:
        if length:
            step = (last - self.levels[-1]) / length
            line = np.around(np.linspace(self.levels[-1] + step, last, length))
            self.levels += line.astype(np.int64).tolist()

    def _pointer(self, begin: int, end: int) -> int:
        """The place of a segment; stored as an offset in bytes, its lower half first."""
        parts = self._data[begin:end]
        if self._bits == 8:
            return int.from_bytes(bytes(parts), "little")
        return (parts[0] | parts[1] << 16) // 2 if len(parts) == 2 else len(self._data)

    def _copy(self, at: int, segments: int) -> None:
        for _ in range(segments):
            at = self.segment(at, may_point=False)

    def _bad(self, words: str) -> BadPalette:
        return BadPalette(f"whole segments in the {self._name} table, got one {words}")
