"""Measures foretold: most are taken across the box of their object, so little is left to say.

A point is written as its distance, in tenths of a px, from an edge or the middle of that box; a
length as its distance from the one between its two points. Both sides compute the same doubles:
one correctly rounded operation after the other, in the order that `docs/wire.md` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from edge_agent.core.frames import Measure
from edge_agent.core.wire.decimals import EXACT, decimals_of, doubles_at

Box = Sequence[float]
TENTHS: Final = 10.0


class Located(NamedTuple):
    """A measure beside the box of its object and the record's spacing, [dx, dy] mm per px."""

    measure: Measure
    box: Box | None
    spacing_mm: Sequence[float] | None


def tenths(value: float) -> int:
    """To the nearest, the even one of two; 0 for what is no ordinary number."""
    scaled = value * TENTHS
    return round(scaled) if abs(scaled) < EXACT else 0


def anchors_of(box: Box | None, axis: int) -> tuple[int, ...]:
    """What a point may be measured from, in tenths: nothing, low edge, high edge, middle."""
    if box is None:
        return (0,)
    low, high = tenths(box[axis]), tenths(box[axis + 2])
    return 0, low, high, (low + high) // 2


def relative(points: Sequence[float], box: Box | None) -> list[tuple[int, int]] | None:
    """(anchor, distance in tenths) of each number, x and y in turn; None when one is no tenth."""
    pairs = []
    for index, number in enumerate(points):
        digits = tenths(number)
        back = digits / TENTHS
        if back != number or math.copysign(1.0, back) != math.copysign(1.0, number):
            return None
        anchors = anchors_of(box, index % 2)
        anchor = min(range(len(anchors)), key=lambda a: abs(digits - anchors[a]))
        pairs.append((anchor, digits - anchors[anchor]))
    return pairs


def absolute(pairs: Sequence[tuple[int, int]], box: Box | None) -> list[float]:
    """The inverse of `relative`. Raises IndexError for an anchor that is not there."""
    return [
        (anchors_of(box, index % 2)[anchor] + distance) / TENTHS
        for index, (anchor, distance) in enumerate(pairs)
    ]


def foretold(
    points: Sequence[float], unit: str, spacing_mm: Sequence[float] | None, places: int
) -> int:
    """Digits at these decimal places of the length between two points; 0 where it is no length."""
    per_px = spacing_mm if unit == "mm" else (1.0, 1.0) if unit == "px" else None
    if len(points) != 4 or per_px is None:
        return 0
    x, y = (points[2] - points[0]) * per_px[0], (points[3] - points[1]) * per_px[1]
    scaled = math.sqrt(x * x + y * y)
    scaled = scaled * 10.0**places if places >= 0 else scaled / 10.0**-places
    return round(scaled) if scaled < EXACT else 0


def shorten(rows: Sequence[Located], groups: Sequence[int]) -> tuple[list[int], list[int]] | None:
    """(places, distance from what is foretold) of each value; None when one is no short decimal."""
    values = np.array([float(row.measure.value) for row in rows])
    places, digits, odd = decimals_of(values, np.array(groups, np.int64))
    if odd.any():
        return None
    rest = [
        digit - foretold(row.measure.points, row.measure.unit, row.spacing_mm, place)
        for row, place, digit in zip(rows, places.tolist(), digits.tolist(), strict=True)
    ]
    return places.tolist(), rest


def value_of(places: int, digits: int) -> float:
    return float(doubles_at(np.array([places]), np.array([digits]))[0])
