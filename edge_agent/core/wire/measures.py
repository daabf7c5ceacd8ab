"""Measures out of their tables: points from the box of their object, values from the length.

The reading half of `measured`. A few are computed number by number, many at once: each operation
is the same one on doubles, so the same doubles come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, islice, repeat
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.frames import Measure, Object
from edge_agent.core.wire import measured, schema
from edge_agent.core.wire.decimals import EXACT, MAX_PLACES, TENS, doubles_at
from edge_agent.core.wire.measured import ANCHORS, FAR, NOWHERE, TENTHS, Box
from edge_agent.core.wire.outcome import WireError
from edge_agent.core.wire.stored import (
    FLOAT,
    LONG,
    MAYBE_FLOAT,
    MAYBE_INT,
    MAYBE_LONG,
    TEXT,
    WHOLE,
    Columns,
    Found,
    Longs,
    Shape,
    check,
    hand_out,
    longs,
    rows_of,
)

Spacing = tuple[float, float] | None
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FEW: Final = 16  # measures; below, plain loops are faster than numpy
_TENS: Final = tuple(TENS.tolist())


def measures_of(
    found: Found,
    counts: Sequence[int],
    objects: Sequence[Sequence[Object]],
    spacings: Sequence[Spacing],
) -> list[tuple[Measure, ...]]:
    """Those of each record, given its objects and its spacing, [dx, dy] mm per px.

    Raises: WireError.
    """
    rows = rows_of(found, _MEASURES)
    columns = rows.columns
    check(counts, "measures", rows.size)
    if not rows.size:
        check((), "points", len(rows_of(found, _POINTS).columns["number"]))
        return [()] * len(counts)
    owners: Sequence[int] = list(chain.from_iterable(map(repeat, range(len(counts)), counts)))
    if rows.moved is not None:
        owners = [owners[place] for place in rows.moved]
    boxes = _boxes(owners, columns["object"], objects)
    numbers = _numbers(found, columns["points_n"], boxes)
    points = hand_out(columns["points_n"], "points", numbers)
    values = columns["value"]
    if None in values:
        values = _told(columns, points, [spacings[owner] for owner in owners])
    parts = zip(
        *(columns[name] for name in ("name", "unit", "object", "sd", "method")),
        *(points, values),
        strict=True,
    )
    made = [
        Measure(name=name, value=value, unit=unit, object=item, points=some, sd=sd, method=method)
        for name, unit, item, sd, method, some, value in parts
    ]
    return hand_out(counts, "measures", rows.own_order(made))


def _boxes(
    owners: Sequence[int], named: Sequence[int | None], objects: Sequence[Sequence[Object]]
) -> list[Box | None]:
    """For each measure that of the first object of its record with this id."""
    boxes: list[dict[int | None, Box]] = [
        {item.id: item.box for item in reversed(some)} for some in objects
    ]
    return [boxes[owner].get(name) for owner, name in zip(owners, named, strict=True)]


# ── points ────────────────────────────────────────────────────────────────────────────────────


def _numbers(found: Found, counts: Sequence[int], boxes: Sequence[Box | None]) -> Sequence[float]:
    """X and y in turn, of all measures."""
    table = found.get(schema.MEASURE_POINTS.number)
    if table is None or 1 in table.columns:
        return rows_of(found, _POINTS).columns["number"]
    pairs = rows_of(found, _DISTANCES).columns
    anchors, distances = pairs["anchor"], pairs["distance"]
    check(counts, "points", len(anchors))
    if not _within(anchors, 0, ANCHORS - 1) or not _within(distances, 1 - FAR, FAR - 1):
        raise WireError("decode records: expected anchors and distances in bounds, got others")
    there = chain.from_iterable(map(repeat, boxes, counts)) if None in boxes else ()
    if any(box is None and anchor for box, anchor in zip(there, anchors, strict=False)):
        raise WireError("decode records: expected no anchor on a box that is not there, got one")
    near = _few_points if len(counts) < FEW else _many_points
    return near(anchors, distances, boxes, counts)


def _within(values: Longs, low: int, high: int) -> bool:
    if isinstance(values, np.ndarray):
        return bool(values.min() >= low and values.max() <= high)
    return min(values) >= low and max(values) <= high


def _few_points(
    anchors: Longs, distances: Longs, boxes: Sequence[Box | None], counts: Sequence[int]
) -> list[float]:
    numbers: list[float] = []
    pairs = zip(map(int, anchors), map(int, distances), strict=True)
    for box, count in zip(boxes, counts, strict=True):
        x0, y0, x1, y1 = map(_tenths, box or NOWHERE)
        places = ((0, x0, x1, (x0 + x1) >> 1), (0, y0, y1, (y0 + y1) >> 1))
        for axis, (anchor, distance) in enumerate(islice(pairs, count)):
            numbers.append((places[axis % 2][anchor] + distance) / TENTHS)
    return numbers


def _tenths(value: float) -> int:
    scaled = value * TENTHS
    return round(scaled) if abs(scaled) < EXACT else 0


def _many_points(
    anchors: Longs, distances: Longs, boxes: Sequence[Box | None], counts: Sequence[int]
) -> list[float]:
    places = measured.anchors_of(boxes, counts)
    near = places[np.arange(len(anchors)), np.asarray(anchors, np.int64)]
    numbers: list[float] = ((near + np.asarray(distances, np.int64)) / TENTHS).tolist()
    return numbers


# ── values ────────────────────────────────────────────────────────────────────────────────────


def _told(
    columns: Columns, points: Sequence[Sequence[float]], spacings: Sequence[Spacing]
) -> Sequence[float]:
    """The values, with those that are told as their distance from a length."""
    values: list[Any] = list(columns["value"])
    short = [row for row, value in enumerate(values) if value is None]
    some, units, places, rest = points, columns["unit"], columns["places"], columns["rest"]
    if len(short) < len(values):
        some, spacings = [points[row] for row in short], [spacings[row] for row in short]
        units, places, rest = ([one[row] for row in short] for one in (units, places, rest))
    power, left = longs(places), longs(rest)
    if not _within(power, -MAX_PLACES, MAX_PLACES) or not _within(left, 1 - FAR, FAR - 1):
        raise WireError("decode records: expected places and rest in bounds, got others")
    per_px = [
        _PX if unit == "px" else spacing if unit == "mm" else None
        for unit, spacing in zip(units, spacings, strict=True)
    ]
    tell = _few_values if len(short) < FEW else _many_values
    for row, value in zip(short, tell(some, per_px, power, left), strict=True):
        values[row] = value
    return values


_PX: Final = (1.0, 1.0)


def _few_values(
    points: Sequence[Sequence[float]], per_px: Sequence[Spacing], places: Longs, rest: Longs
) -> list[float]:
    values = []
    pairs = zip(map(int, places), map(int, rest), strict=True)
    for some, scale, (power, left) in zip(points, per_px, pairs, strict=True):
        ten, length = _TENS[abs(power)], 0.0
        if len(some) == 4 and scale is not None:
            x, y = (some[2] - some[0]) * scale[0], (some[3] - some[1]) * scale[1]
            length = math.sqrt(x * x + y * y)
        told = length * ten if power >= 0 else length / ten
        digits = (round(told) if told < EXACT else 0) + left
        if abs(digits) >= EXACT:
            raise _too_large()
        values.append(digits / ten if power >= 0 else digits * ten)
    return values


def _many_values(
    points: Sequence[Sequence[float]], per_px: Sequence[Spacing], places: Longs, rest: Longs
) -> list[float]:
    power, digits = np.asarray(places, np.int64), np.array(rest, np.int64)
    known = [row for row, some in enumerate(points) if len(some) == 4 and per_px[row] is not None]
    if known:
        ends = np.array(list(chain.from_iterable(points[row] for row in known))).reshape(-1, 4)
        scales = [scale for row in known if (scale := per_px[row])]
        per_axis = np.array(scales[:1] if len(set(scales)) == 1 else scales)
        digits[known] += _lengths(ends, per_axis, power[known])
    if not _within(digits, 1 - EXACT, EXACT - 1):
        raise _too_large()
    values: list[float] = doubles_at(power, digits).tolist()
    return values


def _lengths(ends: Floats, scale: Floats, places: Ints) -> Ints:
    """Digits at these places; 0 for what is too long to be told."""
    with np.errstate(all="ignore"):
        x, y = ((ends[:, 2:] - ends[:, :2]) * scale).T
        length = np.sqrt(x * x + y * y)
        power = TENS[np.abs(places)]
        told = np.where(places >= 0, length * power, length / power)
        found: Ints = np.rint(np.where(told < EXACT, told, 0.0)).astype(np.int64)
    return found


def _too_large() -> WireError:
    return WireError("decode records: expected digits below 2**53, got more")


_MEASURES = Shape(
    schema.MEASURES_READ,
    {
        TEXT: "name unit method",
        WHOLE: "points_n",
        MAYBE_INT: "object",
        MAYBE_FLOAT: "sd value",
        MAYBE_LONG: "places rest",
    },
)
_POINTS = Shape(schema.MEASURE_POINTS, {FLOAT: "number"})
_DISTANCES = Shape(schema.MEASURE_DISTANCES, {LONG: "anchor distance"})
