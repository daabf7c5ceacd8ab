"""Contours as steps on the grid of the model's mask, out of their bytes; `grids` is the other half.

    rings = grids | form | steps | patches

In a large batch steps are bytes, so that the codec of the body finds what comes again; in a small
one nothing comes again, and blocks of integers are shorter.

A mask's outline runs along the edges of its pixels, so between its points lie a few whole pixels of
the mask, whatever the picture's size: small numbers, and the same ones again where a contour stays.
A row takes two bytes here, so nothing expands.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import arrays
from edge_agent.core.wire.cursor import Reader

Ints = NDArray[np.int64]

CODING: Final = 128
MAX_GRIDS: Final = 8
BYTES, BLOCKS = 0, 1  # forms
FIRST_MARK: Final = 240  # of a first byte: 240 + k: a ring on grid k begins here
FAR: Final = 255  # a step that does not fit into its two bytes
MAX_SCALE: Final = 1 << 24  # of numerator and denominator
MAX_OFFSET: Final = 1 << 53
MAX_STEP: Final = 1 << 40
MAX_LINE: Final = 1 << 32  # with these nothing below leaves 64 bits


class Axis(NamedTuple):
    """Line m of the mask lies at (scale x m + offset) / below, rounded, ties to even, in 1/8 px.

    between: the lowest and the highest number that a line may lie at; None: any.
    """

    scale: int
    below: int
    offset: int
    between: tuple[int, int] | None = None

    def at(self, lines: Ints) -> Ints:
        """int64 [N] to int64 [N]."""
        whole, rest = np.divmod(self.scale * lines + self.offset, self.below)
        twice = 2 * rest
        whole += (twice > self.below) | ((twice == self.below) & (whole & 1 == 1))
        found: Ints = whole if self.between is None else whole.clip(*self.between)
        return found


Grid = tuple[Axis, Axis]  # x and y


class _Walk(NamedTuple):
    """Where rings begin, row numbers int64 [R]; on which grids, [R]; int64 [N, 2] steps, with the
    place where it begins at each start.
    """

    starts: Ints
    kinds: Ints
    steps: Ints


def decode(count: int, read: Reader) -> tuple[Ints, Ints]:
    """Both, x and y, int64 [count] each, of all points of all rings. The caller bounds the count.

    Raises: WireError.
    """
    inner = Reader(read.take(read.varint()), "rings")
    grids = [(_axis(inner), _axis(inner)) for _ in range(inner.varint(MAX_GRIDS))]
    form = inner.varint(BLOCKS)
    walk = _of_blocks(count, len(grids), inner) if form else _of_bytes(count, inner)
    if walk.kinds.min() < 0 or walk.kinds.max() >= len(grids):
        raise inner.fail(f"rings on one of {len(grids)} grids", "others")
    lengths = np.diff(walk.starts, append=count)
    lines = _lines(walk, lengths, inner)
    found = np.empty((2, count), np.int64)
    for number, grid in enumerate(grids):
        rows = np.repeat(walk.kinds == number, lengths)
        for axis in (0, 1):
            found[axis, rows] = grid[axis].at(lines[rows, axis])
    _patch(found, inner)
    inner.end()
    return found[0], found[1]


def _axis(read: Reader) -> Axis:
    scale, below = read.varint(MAX_SCALE), read.varint(MAX_SCALE)
    offset = _bounded(read, MAX_OFFSET)
    between = None
    if read.varint(1):
        between = (_bounded(read, MAX_OFFSET), _bounded(read, MAX_OFFSET))
    if not scale or not below or (between and between[0] > between[1]):
        raise read.fail("a scale above 0, and bounds that rise", "others")
    return Axis(scale, below, offset, between)


def _bounded(read: Reader, most: int) -> int:
    number = read.signed()
    if abs(number) > most:
        raise read.fail(f"a number up to {most}", number)
    return number


def _of_bytes(count: int, read: Reader) -> _Walk:
    pairs = np.frombuffer(read.take(2 * count), np.uint8).reshape(count, 2)
    marks = pairs[:, 0]
    marked = marks >= FIRST_MARK
    if not marked[0] or marks[0] == FAR or pairs[marked, 1].any():
        raise read.fail("a ring that begins, and 00 behind each mark", "others")
    words = pairs.astype(np.int64)
    steps = (words >> 1) ^ -(words & 1)
    starts, far = np.flatnonzero(marked & (marks != FAR)), np.flatnonzero(marks == FAR)
    steps[starts] = _pairs(len(starts), read)
    if len(far):
        steps[far] = _pairs(len(far), read)
    return _Walk(starts, words[starts, 0] - FIRST_MARK, steps)


def _of_blocks(count: int, grids: int, read: Reader) -> _Walk:
    rings = read.varint(count)
    lengths = arrays.decode(rings, read)
    if not rings or lengths.min() < 1 or lengths.max() > count or lengths.sum() != count:
        raise read.fail(f"rings of {count} points in all", "others")
    kinds = arrays.decode(rings, read) if grids > 1 else np.zeros(rings, np.int64)
    starts: Ints = np.cumsum(lengths) - lengths
    steps = np.empty((count, 2), np.int64)
    steps[starts] = _pairs(rings, read)
    if count > rings:
        between = np.ones(count, np.bool_)
        between[starts] = False
        steps[between] = _pairs(count - rings, read)
    return _Walk(starts, kinds, steps)


def _lines(walk: _Walk, lengths: Ints, read: Reader) -> Ints:
    """int64 [N, 2]: the lines that each point lies on."""
    places: Ints = walk.steps.cumsum(axis=0)
    places -= np.repeat(places[walk.starts] - walk.steps[walk.starts], lengths, axis=0)
    if places.max() > MAX_LINE or places.min() < -MAX_LINE:
        raise read.fail(f"lines up to {MAX_LINE}", "others")
    return places


def _pairs(count: int, read: Reader) -> Ints:
    """int64 [count, 2]"""
    found = np.stack((arrays.decode(count, read), arrays.decode(count, read)), axis=1)
    if found.max() > MAX_STEP or found.min() < -MAX_STEP:
        raise read.fail(f"numbers up to {MAX_STEP}", "others")
    return found


def _patch(found: Ints, read: Reader) -> None:
    """Adds what a few points differ by."""
    count = found.shape[1]
    row = -1
    for _ in range(read.varint(count)):
        row += read.varint(count) + 1
        if row >= count:
            raise read.fail(f"a row below {count}", row)
        found[0, row] += _bounded(read, MAX_STEP)
        found[1, row] += _bounded(read, MAX_STEP)
