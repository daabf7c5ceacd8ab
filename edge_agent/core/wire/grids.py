"""Finds the grid that contours lie on, and writes them as steps on it: the writer of `rings`.

What lies on no grid is left to the columns of numbers: None says so. The grid is looked for in the
numbers alone, once for each kind of picture, and remembered.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import arrays
from edge_agent.core.wire.cursor import signed, varint
from edge_agent.core.wire.rings import (
    BLOCKS,
    BYTES,
    FAR,
    FIRST_MARK,
    MAX_GRIDS,
    MAX_LINE,
    MAX_SCALE,
    Axis,
    Grid,
    Ints,
)

KEPT: Final = 16  # grids that are remembered
SELDOM: Final = 64  # batches between two looks where nothing was found
LEAST_STEP: Final = 3  # units from line to line; below, rings are as fine as their units
LEAST_LINES: Final = 3
MAX_LINES: Final = 1 << 14  # of an axis; no mask is that large
MAX_BELOW: Final = 8192  # denominators: sides of masks, in eighths
MAX_NUMBER: Final = 1 << 40
PATCHED: Final = 8  # at most one point in so many is off its grid
FAR_SHARE: Final = 4  # at most one step in so many is a far one
_SEARCHES: Final = 32


class Contours(NamedTuple):
    """All rings of a batch. sizes: points of each, none empty. kinds: for each what its grid goes
    with, such as model and region. points: int64 [N, 2]. few: none is likely to come again.
    """

    sizes: Sequence[int]
    kinds: Sequence[Hashable]
    points: Ints
    few: bool


class Known(NamedTuple):
    """missed: batches since, in which nothing fitted. After 1, 2, 4 ... a look again."""

    grid: Grid | None
    missed: int


NOTHING: Final = Known(None, 0)


class Grids:
    """The grids that were found last, by kind. For one thread."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Known] = OrderedDict()

    def encode(self, contours: Contours) -> bytes | None:
        """What `rings.decode` reads, without its length; None where they lie on no grid."""
        if not len(contours.points) or np.abs(contours.points).max() > MAX_NUMBER:
            return None
        names = {kind: number for number, kind in enumerate(dict.fromkeys(contours.kinds))}
        if len(names) > MAX_GRIDS:
            return None
        sizes = np.array(contours.sizes, np.int64)
        marks = np.array([names[kind] for kind in contours.kinds], np.int64)
        lines, grids = np.empty_like(contours.points), []
        off = np.empty_like(contours.points)
        of = np.repeat(marks, sizes)
        for number, kind in enumerate(names):
            rows = of == number if len(names) > 1 else slice(None)
            points = contours.points[rows]
            found = self._fitted(kind, points)
            if found is None:
                return None
            grids.append(found[0])
            lines[rows] = found[1]
            off[rows] = points - _at(found[0], found[1])
        steps = _steps(marks, sizes, lines, contours.few, len(names) > 1)
        heads = b"".join(_head(axis) for grid in grids for axis in grid)
        return None if steps is None else varint(len(grids)) + heads + steps + _patches(off)

    def _fitted(self, kind: Hashable, points: Ints) -> tuple[Grid, Ints] | None:
        """A grid and the lines of each point."""
        known = self._known.get(kind, NOTHING)
        lines = None if known.grid is None else _lines(known.grid, points)
        if known.grid is not None and lines is not None:
            return known.grid, lines
        rests = known.missed.bit_count() > 1 and known.missed % SELDOM
        found = None if rests else _sought(points)
        if found is None:
            self._keep(kind, Known(known.grid, known.missed + 1))
        else:
            self._keep(kind, Known(found[0], 0))
        return found

    def _keep(self, kind: Hashable, known: Known) -> None:
        self._known[kind] = known
        self._known.move_to_end(kind)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)


def _sought(points: Ints) -> tuple[Grid, Ints] | None:
    x, y = _axis_of(points[:, 0]), _axis_of(points[:, 1])
    if x is None or y is None:
        return None
    lines = _lines((x, y), points)
    return None if lines is None else ((x, y), lines)


def _at(grid: Grid, lines: Ints) -> Ints:
    return np.stack((grid[0].at(lines[:, 0]), grid[1].at(lines[:, 1])), axis=1)


def _lines(grid: Grid, points: Ints) -> Ints | None:
    """The nearest lines; None when too many points lie on none."""
    lines = np.empty_like(points)
    missed = np.zeros(len(points), np.bool_)
    for index, axis in enumerate(grid):
        values = points[:, index]
        nearest = np.rint((values * axis.below - axis.offset) / axis.scale)
        if np.abs(nearest).max() >= MAX_LINE:
            return None
        lines[:, index] = nearest
        missed |= _settle(axis, values, lines[:, index])
    return lines if np.count_nonzero(missed) * PATCHED <= len(points) else None


def _settle(axis: Axis, values: Ints, lines: Ints) -> NDArray[np.bool_]:
    """Where an edge of the region cuts a pixel the nearest line is the one beside; mends these.

    Returns where no line is right, bool [N].
    """
    missed: NDArray[np.bool_] = axis.at(lines) != values
    for beside in (1, -1):
        rows = np.flatnonzero(missed)
        if not len(rows):
            break
        moved = lines[rows] + beside
        right = axis.at(moved) == values[rows]
        lines[rows[right]] = moved[right]
        missed[rows[right]] = False
    return missed


# ── looking for a grid ────────────────────────────────────────────────────────────────────────


def _axis_of(numbers: Ints) -> Axis | None:
    """With and without the outermost numbers, which may be edges of the region and no lines."""
    values = np.unique(numbers)
    if not LEAST_LINES <= len(values) <= MAX_LINES:
        return None
    between = int(values[0]), int(values[-1])
    for inner, cut in (
        (values, None), (values[:-1], between), (values[1:], between), (values[1:-1], between),
    ):  # fmt: skip
        axis = _even(inner) if len(inner) >= LEAST_LINES else None
        if axis is not None:
            return axis if cut is None else axis._replace(between=cut)
    return None


def _even(values: Ints) -> Axis | None:
    """The axis whose lines these are, if they are evenly spaced but for rounding. They rise.

    A line half way between two units may be at either: doubles were rounded, not fractions.
    """
    values = values[np.diff(values, prepend=values[0] - LEAST_STEP) > 1]
    if len(values) < LEAST_LINES:
        return None
    away = (values - values[0]).tolist()
    least = int(np.diff(values).min())
    for share in (1, 2, 3):  # the lines between may all be unused
        if least < LEAST_STEP * share:
            break
        found = _spacing(away, (least - 1) / share, (least + 1) / share)
        axis = _exact(values, *found) if found else None
        if axis is not None:
            return axis
    return None


def _spacing(away: Sequence[int], low: float, high: float) -> tuple[float, float] | None:
    """Narrows down how far it is from line to line. away: from the first value, rising."""
    for distance in away[1:]:
        steps = max(1, round(2 * distance / (low + high)))
        low, high = max(low, (distance - 1) / steps), min(high, (distance + 1) / steps)
        if low > high:
            return None
    return low, high


def _exact(values: Ints, low: float, high: float) -> Axis | None:
    """A fraction between the two that puts a line at each of the values, or nearly all."""
    lines = np.rint((values - values[0]) / ((low + high) / 2)).astype(np.int64)
    for _ in range(_SEARCHES):  # what is left between the offsets is concave in the spacing
        third = (high - low) / 3
        if _room(values, lines, low + third)[0] < _room(values, lines, high - third)[0]:
            low += third
        else:
            high -= third
    spacing = Fraction((low + high) / 2)
    best, fewest = None, len(values) // PATCHED + 1
    for most in (64, 512, MAX_BELOW):
        near = spacing.limit_denominator(most)
        _, middle = _room(values, lines, float(near))
        scale, below = near.numerator, near.denominator
        if scale > MAX_SCALE:
            continue
        axis = Axis(scale, below, round(middle * below) % scale)
        moved = lines + round(middle * below) // scale
        if np.abs(moved).max() >= MAX_LINE:
            continue
        missed = int(np.count_nonzero(axis.at(moved) != values))
        if missed < fewest:
            best, fewest = axis, missed
    return best


def _room(values: Ints, lines: Ints, spacing: float) -> tuple[float, float]:
    """(how much offsets may differ at this spacing, below 0: there is none; their middle)."""
    left = values - spacing * lines
    low, high = float(left.max()) - 0.5, float(left.min()) + 0.5
    return high - low, (low + high) / 2


# ── writing ───────────────────────────────────────────────────────────────────────────────────


def _steps(marks: Ints, sizes: Ints, lines: Ints, few: bool, many_grids: bool) -> bytes | None:
    """Form and steps; None when many are too long for a byte each."""
    starts = np.cumsum(sizes) - sizes
    walk = np.diff(lines, axis=0, prepend=0)
    between = np.ones(len(lines), np.bool_)
    between[starts] = False
    if few:
        kinds = arrays.encode(marks) if many_grids else b""
        rest = _blocks(walk[between]) if len(lines) > len(sizes) else b""
        rings = varint(len(sizes)) + arrays.encode(sizes) + kinds
        return bytes((BLOCKS,)) + rings + _blocks(lines[starts]) + rest
    words = (walk << 1) ^ (walk >> 63)
    far = np.flatnonzero(((words[:, 0] >= FIRST_MARK) | (words[:, 1] > 255)) & between)
    if len(far) * FAR_SHARE > len(lines):
        return None
    words[far] = (FAR, 0)
    words[starts, 0], words[starts, 1] = FIRST_MARK + marks, 0
    distant = _blocks(walk[far]) if len(far) else b""
    return bytes((BYTES,)) + words.astype(np.uint8).tobytes() + _blocks(lines[starts]) + distant


def _head(axis: Axis) -> bytes:
    cut = axis.between
    edges = b"\x00" if cut is None else b"\x01" + signed(cut[0]) + signed(cut[1])
    return varint(axis.scale) + varint(axis.below) + signed(axis.offset) + edges


def _blocks(pairs: Ints) -> bytes:
    x, y = np.ascontiguousarray(pairs.T)
    return arrays.encode(x) + arrays.encode(y)


def _patches(off: Ints) -> bytes:
    rows = np.flatnonzero(off.any(axis=1))
    out, before = [varint(len(rows))], -1
    for row, (x, y) in zip(rows.tolist(), off[rows].tolist(), strict=True):
        out.append(varint(row - before - 1) + signed(x) + signed(y))
        before = row
    return b"".join(out)
