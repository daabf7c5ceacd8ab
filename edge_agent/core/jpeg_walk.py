"""Goes through the Huffman code of a JPEG, counting: do the bits hold exactly its blocks?

In plain Python, a few million codes a second: for what is suspect. ITU-T T.81, F.2 and G.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import msgspec
import numpy as np

from edge_agent.core.jpeg import BLOCK, PROGRESSIVE, Code, Damaged, Facts, Scan

SPARE_BITS = 7 + 2 * 8  # the rest of the last byte, and a filling of the encoder's own
WINDOW = 16  # bits, of the longest code
RUN_BYTES = 16  # of zeros, worth passing over
NEVER = 1 << 62
PLACES = 64  # coefficients of a block
ENDS = 128  # what the end of a block adds to the place in it; no run of zeros adds as much
TAIL = b"\xff" * 512  # more than a block takes: what is read behind the end stays in bounds


class Bits:
    """The code of one restart interval.

    words: 32 bits from each byte on. runs: (begin, end) in bits of long runs of zeros.
    """

    def __init__(self, stored: bytes) -> None:
        code = stored.replace(b"\xff\x00", b"\xff")
        self.total = 8 * len(code)
        each = np.frombuffer(code + TAIL, np.uint8).astype(np.uint32)
        words = each[:-3] << 24 | each[1:-2] << 16 | each[2:-1] << 8 | each[3:]
        self.words: list[int] = words.tolist()
        is_zero = np.concatenate(([0], each[: len(code)] == 0, [0])).astype(np.int8)
        edges = np.flatnonzero(np.diff(is_zero)).reshape(-1, 2)
        long = edges[edges[:, 1] - edges[:, 0] >= RUN_BYTES]
        self.runs: list[tuple[int, int]] = [(8 * begin, 8 * end) for begin, end in long.tolist()]


class Grid(msgspec.Struct, frozen=True):
    """Blocks of a component: so many across and down that it shows, and stored in a row."""

    across: int
    down: int
    stride: int
    rows: int


def check(data: bytes, facts: Facts, parts: list[Scan]) -> None:
    """Raises: Damaged where the code is no code, ends early, or goes on after the last block."""
    is_progressive = facts.process == PROGRESSIVE
    marks: dict[int, bytearray] = {}
    if is_progressive:
        _check_refined(facts, parts)
        grids = [grid(facts, number) for number in range(len(facts.components))]
        marks = {n: bytearray(PLACES * one.stride * one.rows) for n, one in enumerate(grids)}
    for scan in parts:
        total = units(facts, scan)
        step = scan.interval or total
        for number, (begin, end) in enumerate(scan.parts):
            bits = Bits(data[begin:end])
            here = range(number * step, min((number + 1) * step, total))
            if not is_progressive or not scan.last:
                at = _in_units(bits, facts, scan, len(here))
            else:
                at = _of_one(bits, facts, scan, here=here, marks=marks[scan.components[0]])
            if at > bits.total:
                raise Damaged(f"a scan that ends early, after {bits.total // 8} bytes")
            if bits.total - at > SPARE_BITS:
                raise Damaged(f"a scan of {bits.total // 8} bytes, the picture takes {at // 8}")


def grid(facts: Facts, number: int) -> Grid:
    one = facts.components[number]
    width, height = facts.mcu
    across_max, down_max = width // BLOCK, height // BLOCK
    return Grid(
        across=math.ceil(math.ceil(facts.size[0] * one.across / across_max) / BLOCK),
        down=math.ceil(math.ceil(facts.size[1] * one.down / down_max) / BLOCK),
        stride=math.ceil(facts.size[0] / width) * one.across,
        rows=math.ceil(facts.size[1] / height) * one.down,
    )


def units(facts: Facts, scan: Scan) -> int:
    """MCUs of a scan: of all its components together, or blocks of its only one."""
    if len(scan.components) == 1:
        one = grid(facts, scan.components[0])
        return one.across * one.down
    width, height = facts.mcu
    return math.ceil(facts.size[0] / width) * math.ceil(facts.size[1] / height)


# ── sequential, and the DC scans of progressive ───────────────────────────────────────────────


def _in_units(bits: Bits, facts: Facts, scan: Scan, count: int) -> int:
    """The bit behind the last of so many MCUs."""
    pattern: list[tuple[list[int], list[int]]] = []
    for number, dc, ac in zip(scan.components, scan.dc, scan.ac, strict=True):
        one = facts.components[number]
        blocks = one.across * one.down if len(scan.components) > 1 else 1
        if scan.before:
            pattern += [([], [])] * blocks
            continue
        pattern += [(_lengths(dc), _steps(ac) if scan.last else [])] * blocks
    if scan.before:  # one bit a block
        return count * len(pattern)
    return _blocks(bits, pattern, count)


def _blocks(bits: Bits, pattern: list[tuple[list[int], list[int]]], count: int) -> int:
    """The bit behind so many times the blocks of the pattern; flat ones are passed over at once."""
    flat = all(dc[0] and (not ac or ac[0] >> 8 == ENDS) for dc, ac in pattern)
    flat_bits = sum(dc[0] + (ac[0] & 0xFF if ac else 0) for dc, ac in pattern)
    at = 0
    for begin, end in (*(bits.runs if flat else ()), (NEVER, NEVER)):
        while count and at < begin:
            for dc, ac in pattern:
                at = _block(bits, at, dc, ac)
            count -= 1
        if count and at < end:
            many = min(count, (end - at) // flat_bits)
            at, count = at + many * flat_bits, count - many
    return at


def _block(bits: Bits, at: int, dc: list[int], ac: list[int]) -> int:
    """The bit behind a block. ac: none for its DC coefficient alone."""
    words = bits.words
    if at > bits.total:
        raise Damaged(f"a scan that ends early, after {bits.total // 8} bytes")
    at += dc[words[at >> 3] >> WINDOW - (at & 7) & 0xFFFF] or _no_code(bits, at)
    place = 1 if ac else PLACES
    while place < PLACES:
        step = ac[words[at >> 3] >> WINDOW - (at & 7) & 0xFFFF] or _no_code(bits, at)
        at += step & 0xFF
        place += step >> 8
    if PLACES < place < ENDS:
        _no_code(bits, at)
    return at


def _no_code(bits: Bits, at: int) -> int:
    """Raises: Damaged."""
    if at >= bits.total - SPARE_BITS:
        raise Damaged(f"a scan that ends early, after {bits.total // 8} bytes")
    raise Damaged(f"bits that are no code, at byte {at // 8} of a scan of {bits.total // 8}")


# ── the AC scans of progressive ───────────────────────────────────────────────────────────────


def _check_refined(facts: Facts, parts: list[Scan]) -> None:
    """Raises: Damaged when bits of a coefficient come in no scan: the last scans are missing."""
    for number in range(len(facts.components)):
        left = [-1] * PLACES
        for scan in parts:
            if number in scan.components and scan.first <= scan.last < PLACES:
                left[scan.first : scan.last + 1] = [scan.after] * (scan.last + 1 - scan.first)
        if missing := sum(after != 0 for after in left):
            raise Damaged(f"{missing} of {PLACES} coefficients of component {number + 1} not whole")


def _of_one(bits: Bits, facts: Facts, scan: Scan, *, here: range, marks: bytearray) -> int:
    """The bit behind the last of the blocks of a scan. marks: 1 where a coefficient is not zero."""
    if len(scan.components) != 1 or not 1 <= scan.first <= scan.last < PLACES:
        raise Damaged("a scan of coefficients that its process does not have")
    size = grid(facts, scan.components[0])
    walk = _Refining(bits, scan, marks) if scan.before else _First(bits, scan, marks)
    for number in here:
        row, column = divmod(number, size.across)
        walk.block((row * size.stride + column) * PLACES)
    if walk.run:
        raise Damaged(f"{walk.run} blocks more than the picture has")
    return walk.at


class _First:
    """The first scan over some coefficients. at: bit. run: blocks that have no more of them."""

    def __init__(self, bits: Bits, scan: Scan, marks: bytearray) -> None:
        self._bits, self._marks = bits, marks
        self._first, self._last = scan.first, scan.last
        self._table = _symbols(scan.ac[0])
        self.at = self.run = 0

    def block(self, base: int) -> None:
        """base: of the block in `marks`."""
        if self.run:
            self.run -= 1
            return
        place = self._first
        while place <= self._last:
            run, size = self._symbol()
            if not size and run != 15:
                self.run = self._run(run) - 1
                return
            place += run
            if place > self._last:
                _no_code(self._bits, self.at)
            if size:
                self._marks[base + place] = 1
                self.at += size
            place += 1

    def _symbol(self) -> tuple[int, int]:
        at = self.at
        if at > self._bits.total:
            raise Damaged(f"a scan that ends early, after {self._bits.total // 8} bytes")
        window = self._bits.words[at >> 3] >> WINDOW - (at & 7) & 0xFFFF
        found = self._table[window] or _no_code(self._bits, at)
        self.at = at + (found & 0xFF)
        return found >> 12, found >> 8 & 15

    def _run(self, size: int) -> int:
        """1 << size, and so many bits more."""
        at = self.at
        window = self._bits.words[at >> 3] >> WINDOW - (at & 7) & 0xFFFF
        self.at += size
        return (1 << size) + (window >> WINDOW - size)


class _Refining(_First):
    """A later scan: one bit more of each coefficient, and the ones that get their first bit."""

    def block(self, base: int) -> None:
        place = self._first
        while not self.run and place <= self._last:
            run, size = self._symbol()
            if not size and run != 15:
                self.run = self._run(run)
                break
            place = self._skip(base, place, run)
            if size:
                if place > self._last:
                    _no_code(self._bits, self.at)
                self._marks[base + place] = 1
                self.at += 1
            place += 1
        if self.run:
            self.run -= 1
            self.at += self._marks.count(1, base + place, base + self._last + 1)

    def _skip(self, base: int, place: int, zeros: int) -> int:
        """The place of the zero after so many; a bit for each coefficient on the way."""
        while place <= self._last:
            if self._marks[base + place]:
                self.at += 1
            elif zeros == 0:
                break
            else:
                zeros -= 1
            place += 1
        return place


# ── tables of every 16 bits ───────────────────────────────────────────────────────────────────


@lru_cache(maxsize=16)
def _lengths(code: Code | None) -> list[int]:
    """Of a DC code and the bits of its value; 0: no code."""
    return _table(code, lambda symbol: symbol)


@lru_cache(maxsize=16)
def _steps(code: Code | None) -> list[int]:
    """Of an AC code: bits with those of its value, and from bit 8 on the places."""

    def value(symbol: int) -> int:
        run, size = divmod(symbol, 16)
        places = run + 1 if size or run == 15 else ENDS
        return size + (places << 8)

    return _table(code, value)


@lru_cache(maxsize=16)
def _symbols(code: Code | None) -> list[int]:
    """Of an AC code: its own bits, and from bit 8 on its symbol."""
    return _table(code, lambda symbol: symbol << 8)


def _table(code: Code | None, value: Callable[[int], int]) -> list[int]:
    """For every 16 bits: the length of the code that they begin with, plus value(its symbol)."""
    if code is None:
        raise Damaged("a scan without its Huffman table")
    entries = np.zeros(1 << WINDOW, np.int64)
    begin, symbols = 0, iter(code.symbols)
    for length, many in enumerate(code.counts, 1):
        for _ in range(many):
            end = begin + (1 << WINDOW - length)
            if end > 1 << WINDOW:
                raise Damaged("a Huffman table of more codes than there are")
            entries[begin:end] = length + value(next(symbols))
            begin = end
    found: list[int] = entries.tolist()
    return found
