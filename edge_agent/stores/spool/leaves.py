"""Rows out of the bare pages of a file, where the tree that led to them is gone.

It knows how SQLite lays out a page of rows, and nothing else of the file. What it finds may be old,
or nonsense: whoever asks must check each row. It must never write, and never raise for a content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from edge_agent.stores.spool.schema import PAGE_BYTES

LEAF: Final = 0x0D
HEADER_BYTES: Final = 8
MOST_LOCAL: Final = PAGE_BYTES - 35  # of a row; the rest stands on pages of its own
LEAST_LOCAL: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
MAX_ROW_BYTES: Final = 1 << 17
MAX_BLANKS: Final = 8  # places in a row that lead nowhere end a page's list of them
INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}  # bytes, by type
PLAIN: Final = {0: None, 8: 0, 9: 1}

Cell = tuple[int, list[Any]]  # rowid, columns


class Leaves:
    """A file from its begin to its end, some pages at a time. Opening it may raise OSError; a page
    that can't be read holds nothing.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._pages = os.fstat(self._fd).st_size // PAGE_BYTES
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= self._pages

    def close(self) -> None:
        os.close(self._fd)

    def next(self, pages: int) -> list[Cell]:
        """What stands on the pages that follow."""
        first, self._at = self._at, min(self._at + pages, self._pages)
        return [cell for number in range(first, self._at) for cell in self.page(number)]

    def page(self, number: int) -> list[Cell]:
        """What stands on this one, the first is 0."""
        page = self._read(number)
        return list(self._cells(page)) if len(page) == PAGE_BYTES else []

    def _read(self, number: int) -> bytes:
        try:
            return os.pread(self._fd, PAGE_BYTES, number * PAGE_BYTES)
        except OSError:  # it is the disk that is broken
            return b""

    def _cells(self, page: bytes) -> Iterator[Cell]:
        """By its list of places alone: its header may be what is broken."""
        if (page[0] ^ LEAF).bit_count() > 1:
            return
        end, at, blanks = PAGE_BYTES, HEADER_BYTES, 0
        while at < end and blanks < MAX_BLANKS:
            place = int.from_bytes(page[at : at + 2], "big")
            at += 2
            cell = self._cell(page, place) if at <= place < PAGE_BYTES - 4 else None
            blanks = blanks + 1 if cell is None else 0
            if cell is not None:
                end = min(end, place)
                yield cell

    def _cell(self, page: bytes, at: int) -> Cell | None:
        size, at = _varint(page, at)
        rowid, at = _varint(page, at)
        if not 3 <= size <= MAX_ROW_BYTES:
            return None
        if size <= MOST_LOCAL:
            row = page[at : at + size]
        else:
            local = LEAST_LOCAL + (size - LEAST_LOCAL) % (PAGE_BYTES - 4)
            local = local if local <= MOST_LOCAL else LEAST_LOCAL
            row = page[at : at + local]
            row += self._overflow(page[at + local : at + local + 4], size - local)
        columns = _columns(row) if len(row) == size else None
        return None if columns is None else (rowid, columns)

    def _overflow(self, pointer: bytes, size: int) -> bytes:
        found = b""
        while len(found) < size:
            number = int.from_bytes(pointer, "big")
            if not 1 <= number <= self._pages:
                break
            page = self._read(number - 1)
            pointer, found = page[:4], found + page[4:]
        return found[:size]


def _columns(row: bytes) -> list[Any] | None:
    """None: that is no row."""
    end, at = _varint(row, 0)
    body = end
    found: list[Any] = []
    while at < end <= len(row):
        kind, at = _varint(row, at)
        size = INTEGERS.get(kind, 0) if kind < 12 else (kind - 12) // 2
        raw = row[body : body + size]
        body += size
        if kind in PLAIN:
            found.append(PLAIN[kind])
        elif kind in INTEGERS:
            found.append(int.from_bytes(raw, "big", signed=True))
        elif kind >= 12:
            found.append(raw.decode(errors="replace") if kind % 2 else raw)
        else:
            return None
    return found if body == len(row) else None


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """SQLite's: big end first, at most nine bytes; and what follows it."""
    value = 0
    for n in range(8):
        byte = content[at + n] if at + n < len(content) else 0
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + n + 1
    byte = content[at + 8] if at + 8 < len(content) else 0
    return value << 8 | byte, at + 9
