"""Measures foretold: most are taken across the box of their object, so little is left to say.

A point is written as its distance, in tenths of a px, from an edge or the middle of that box; a
length as its distance from the one between its two points. Both sides compute the same doubles:
one correctly rounded operation after the other, in the order that `docs/wire.md` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire.decimals import EXACT, POWERS, TENS

Box = Sequence[float]
Spacing = Sequence[float] | None  # [dx, dy] mm per px
Scale = Sequence[float] | None
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
TENTHS: Final = 10.0
ANCHORS: Final = 4  # nothing, low edge, high edge, middle
NOWHERE: Final = (0.0, 0.0, 0.0, 0.0)
PX: Final = (1.0, 1.0)
FAR: Final = 1 << 62  # what is added to an anchor or a length is smaller


def tenths(values: Floats) -> Ints:
    """To the nearest, the even one of two; 0 for what is no ordinary number."""
    with np.errstate(all="ignore"):
        return _whole(values * TENTHS)


def _whole(scaled: Floats) -> Ints:
    return np.rint(np.where(np.abs(scaled) < EXACT, scaled, 0.0)).astype(np.int64)


def anchors_of(boxes: Sequence[Box | None], sizes: Sequence[int]) -> Ints:
    """For each number of points the four places that it may be measured from, in tenths.

    sizes: how many numbers, x and y in turn, belong to each box.
    """
    edges = list(chain.from_iterable([box or NOWHERE for box in boxes]))
    corners = np.array(edges, np.float64).reshape(-1, 2, 2)
    low, high = np.moveaxis(tenths(corners), 1, 0)
    places = np.stack([np.zeros_like(low), low, high, (low + high) >> 1], axis=-1)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    found: Ints = places[owner, (np.arange(len(owner)) - first) % 2]
    return found


def foretold(points: Sequence[Sequence[float]], scales: Sequence[Scale], places: Ints) -> Ints:
    """Digits at these decimal places of the lengths between two points; 0 for what is no length."""
    found = np.zeros(len(points), np.int64)
    known: Sequence[int] = [
        row for row, some in enumerate(points) if len(some) == 4 and scales[row]
    ]
    if not known:
        return found
    ends = _pairs(points, known).reshape(-1, 4)
    alike = scales.count(scales[known[0]]) == len(scales)
    scale = _pairs(scales, known[:1] if alike else known).reshape(-1, 2)
    places = places[known]
    with np.errstate(all="ignore"):
        x, y = ((ends[:, 2:] - ends[:, :2]) * scale).T
        length = np.sqrt(x * x + y * y)
        power = TENS[np.abs(places)]
        found[known] = _whole(np.where(places >= 0, length * power, length / power))
    return found


def _pairs(rows: Sequence[Any], known: Sequence[int]) -> Floats:
    """All numbers of these rows. Of one list they are read in a third of the time."""
    return np.array(list(chain.from_iterable(map(rows.__getitem__, known))), np.float64)


def scales_of(units: Sequence[str], spacings: Sequence[Spacing]) -> list[Scale]:
    """For each measure how much of its unit a px is; None where no length can be foretold."""
    return [
        PX if unit == "px" else spacing if unit == "mm" else None
        for unit, spacing in zip(units, spacings, strict=True)
    ]


# ── of one: a few are cheaper so, and the same doubles come out ───────────────────────────────


def foretold_one(points: Sequence[float], scale: Scale, places: int) -> int:
    """As `foretold`."""
    if len(points) != 4 or not scale:
        return 0
    x, y = (points[2] - points[0]) * scale[0], (points[3] - points[1]) * scale[1]
    length = math.sqrt(x * x + y * y)
    scaled = length * POWERS[places] if places >= 0 else length / POWERS[-places]
    return round(scaled) if scaled < EXACT else 0


def tenths_one(value: float) -> int:
    """As `tenths`."""
    scaled = value * TENTHS
    return round(scaled) if -EXACT < scaled < EXACT else 0


def anchors_one(box: Box | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """As `anchors_of`: where an x and where a y may be measured from, in tenths."""
    x0, y0, x1, y1 = map(tenths_one, box or NOWHERE)
    return (0, x0, x1, (x0 + x1) >> 1), (0, y0, y1, (y0 + y1) >> 1)
