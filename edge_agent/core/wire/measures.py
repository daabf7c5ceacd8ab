"""Measures out of their tables: points from the box of their object, values from the length.

The reading half of `measured`. A few are computed number by number, many at once: each operation
is the same one on doubles, so the same doubles come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice, repeat
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.frames import Measure, Object
from edge_agent.core.wire import measured, schema
from edge_agent.core.wire.decimals import EXACT, MAX_PLACES, POWERS, doubles_at
from edge_agent.core.wire.measured import ANCHORS, FAR, NOWHERE, TENTHS, Box, Scale
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
    beside = _beside(owners, columns["object"], objects)
    numbers = _numbers(found, columns["points_n"], beside)
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


class _Beside(NamedTuple):
    """boxes: of all objects, and the one that is nowhere. at: which is that of each measure."""

    boxes: list[Box]
    at: list[int]


def _beside(
    owners: Sequence[int], named: Sequence[int | None], objects: Sequence[Sequence[Object]]
) -> _Beside:
    """For each measure the first object of its record with this id."""
    boxes: list[Box] = [item.box for some in objects for item in some]
    number = len(boxes)
    places: list[dict[int | None, int]] = []
    for some in reversed(objects):
        here: dict[int | None, int] = {}
        for item in reversed(some):
            number -= 1
            here[item.id] = number
        places.append(here)
    places.reverse()
    at = [places[owner].get(name, -1) for owner, name in zip(owners, named, strict=True)]
    return _Beside([*boxes, NOWHERE], at)


# ── points ────────────────────────────────────────────────────────────────────────────────────


def _numbers(found: Found, counts: Sequence[int], beside: _Beside) -> Sequence[float]:
    """X and y in turn, of all measures."""
    table = found.get(schema.MEASURE_POINTS.number)
    if table is None or 1 in table.columns:
        return rows_of(found, _POINTS).columns["number"]
    pairs = rows_of(found, _DISTANCES).columns
    anchors, distances = pairs["anchor"], pairs["distance"]
    check(counts, "points", len(anchors))
    if not _within(anchors, 0, ANCHORS - 1) or not _within(distances, 1 - FAR, FAR - 1):
        raise WireError("decode records: expected anchors and distances in bounds, got others")
    near = _few_points if len(counts) < FEW else _many_points
    return near(anchors, distances, beside, counts)


def _within(values: Longs, low: int, high: int) -> bool:
    if isinstance(values, np.ndarray):
        return bool(values.min() >= low and values.max() <= high)
    return min(values) >= low and max(values) <= high


def _few_points(
    anchors: Longs, distances: Longs, beside: _Beside, counts: Sequence[int]
) -> list[float]:
    numbers: list[float] = []
    pairs = zip(map(int, anchors), map(int, distances), strict=True)
    for at, count in zip(beside.at, counts, strict=True):
        places = measured.anchors_one(beside.boxes[at])
        for axis, (anchor, distance) in enumerate(islice(pairs, count)):
            if anchor and at < 0:
                raise _no_box()
            numbers.append((places[axis % 2][anchor] + distance) / TENTHS)
    return numbers


def _many_points(
    anchors: Longs, distances: Longs, beside: _Beside, counts: Sequence[int]
) -> list[float]:
    sizes, anchor = np.array(counts, np.int64), np.asarray(anchors, np.int64)
    at = np.repeat(np.array(beside.at, np.int64), sizes)
    if anchor[at < 0].any():
        raise _no_box()
    corners = np.array(list(chain.from_iterable(beside.boxes))).reshape(-1, 2, 2)
    low, high = measured.tenths(corners[:, 0]), measured.tenths(corners[:, 1])
    places = np.stack([np.zeros_like(low), low, high, (low + high) >> 1], axis=-1)
    axis = np.arange(len(at)) - np.repeat(sizes.cumsum() - sizes, sizes) & 1
    near = places[at, axis, anchor]
    numbers: list[float] = ((near + np.asarray(distances, np.int64)) / TENTHS).tolist()
    return numbers


def _no_box() -> WireError:
    return WireError("decode records: expected no anchor on a box that is not there, got one")


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
    scales = measured.scales_of(units, spacings)
    tell = _few_values if len(short) < FEW else _many_values
    for row, value in zip(short, tell(some, scales, power, left), strict=True):
        values[row] = value
    return values


def _few_values(
    points: Sequence[Sequence[float]], scales: Sequence[Scale], places: Longs, rest: Longs
) -> list[float]:
    values = []
    pairs = zip(map(int, places), map(int, rest), strict=True)
    for some, scale, (power, left) in zip(points, scales, pairs, strict=True):
        digits = measured.foretold_one(some, scale, power) + left
        if abs(digits) >= EXACT:
            raise _too_large()
        values.append(digits / POWERS[power] if power >= 0 else digits * POWERS[-power])
    return values


def _many_values(
    points: Sequence[Sequence[float]], scales: Sequence[Scale], places: Longs, rest: Longs
) -> list[float]:
    power = np.asarray(places, np.int64)
    digits = measured.foretold(points, scales, power) + np.asarray(rest, np.int64)
    if not _within(digits, 1 - EXACT, EXACT - 1):
        raise _too_large()
    values: list[float] = doubles_at(power, digits).tolist()
    return values


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
