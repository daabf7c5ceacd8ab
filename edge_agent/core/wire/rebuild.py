"""Tables back to rows that `msgspec.convert` turns into records, with every type checked.

Numbers are finished column by column; a row becomes a dict once, when all of it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, chain, pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import measured, schema, tables
from edge_agent.core.wire.cursor import wrap
from edge_agent.core.wire.decimals import MAX_PLACES, doubles_at
from edge_agent.core.wire.outcome import Newer, WireError
from edge_agent.core.wire.schema import Spec
from edge_agent.core.wire.tables import Table

Row = dict[str, Any]
Columns = dict[str, Sequence[Any]]
Found = Mapping[int, Table]


def rows_of(found: Found, count: int) -> list[Row]:
    """One row for each record, in their order; no node, stream, epoch or seq yet.

    Raises: Newer, WireError.
    """
    kinds = _stored(found, schema.RECORDS)["kind"]
    if len(kinds) != count:
        raise WireError(f"decode records: expected {count} records, got {len(kinds)}")
    if any(type(kind) is not int or not 0 <= kind < len(schema.KINDS) for kind in kinds):
        raise Newer("decode records: expected a kind from 0 to 5, got another")
    builders: tuple[Callable[[Found], Columns], ...] = (
        _results, _tallies, _model_stats, _clocks, _plain(schema.ALARM), _plain(schema.EVENT),
    )  # fmt: skip
    parts = {kind: iter(_tagged(builders[kind](found), kind)) for kind in dict.fromkeys(kinds)}
    rows = []
    for kind in kinds:
        row = next(parts[kind], None)
        if row is None:
            raise WireError(f"decode records: expected a row for each record, kind {kind} ran out")
        rows.append(row)
    if any(next(part, None) is not None for part in parts.values()):
        raise WireError("decode records: expected as many rows as records, got more")
    return rows


def _tagged(columns: Columns, kind: int) -> list[Row]:
    tag = schema.KINDS[kind].__struct_config__.tag
    rows = len(next(iter(columns.values())))
    return _rows({**columns, "kind": [tag] * rows})


def _rows(columns: Columns) -> list[Row]:
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _stored(found: Found, spec: Spec) -> Columns:
    """By name, as they are stored: what belongs to a row of another table follows this order."""
    table = found.get(spec.number) or Table(spec.number, 0, {})
    moved = tables.stored_order(table)
    columns: Columns = {}
    for field in spec.fields:
        values: Sequence[Any] | None = table.columns.get(field.number)  # type: ignore[assignment]
        if values is None and field.default is schema.REQUIRED and table.rows:
            raise WireError(f"decode records: table {spec.number}: expected field {field.name}")
        if values is not None and moved is not None and field.number in table.groups:
            values = [values[row] for row in moved]
        columns[field.name] = [field.default] * table.rows if values is None else values
    return columns


def _own_order(found: Found, spec: Spec, stored: Sequence[Any]) -> Sequence[Any]:
    """The inverse of storing rows alike side by side."""
    table = found.get(spec.number)
    moved = tables.stored_order(table) if table else None
    if moved is None:
        return stored
    rows: list[Any] = [None] * len(stored)
    for row, place in zip(stored, moved, strict=True):
        rows[place] = row
    return rows


def _hand_out(counts: Sequence[Any], name: str, children: Sequence[Any]) -> list[Sequence[Any]]:
    """For each count so many of the children."""
    whole = set(map(type, counts)) <= {int} and min(counts, default=0) >= 0
    if not whole or sum(counts) != len(children):
        raise WireError(f"decode records: expected {name} of {len(children)} in all, got others")
    return [children[a:b] for a, b in pairwise(accumulate(counts, initial=0))]


def _int64(values: Sequence[Any]) -> NDArray[np.int64]:
    """Modulo 2**64."""
    if not set(map(type, values)) <= {int}:
        raise WireError("decode records: expected integers, got others")
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array([wrap(value) for value in values], np.int64)


def _together(columns: Columns, *names: str) -> list[tuple[Any, ...]]:
    """Takes columns out, side by side."""
    return list(zip(*(columns.pop(name) for name in names), strict=True))


# ── results ───────────────────────────────────────────────────────────────────────────────────


def _results(found: Found) -> Columns:
    columns = _stored(found, schema.RESULT)
    rows = len(columns["frame"])
    labels = _rows(_stored(found, schema.LABELS))
    counts = columns.pop("labels_n")
    columns["labels"] = _hand_out(counts, "labels", _own_order(found, schema.LABELS, labels))
    objects = _hand_out(columns.pop("objects_n"), "objects", _objects(found))
    for some in objects:
        for place, item in enumerate(some, 1):
            item["id"] = wrap(_whole(item["id"]) + place)
    columns["objects"] = objects
    spacing = [
        None if s == (None, None) else s for s in _together(columns, "spacing_x", "spacing_y")
    ]
    columns["spacing_mm"] = spacing
    counts = columns.pop("measures_n")
    measures = _measures(found, _Sides(counts, objects, spacing))
    columns["measures"] = _hand_out(counts, "measures", measures)
    columns["size"] = _together(columns, "width", "height")
    columns["roi"] = _together(columns, "roi_x", "roi_y", "roi_w", "roi_h")
    columns["flags"] = [_flags(value) for value in columns["flags"]]
    _times(columns, _pts_lags(found) or [None] * rows)
    return columns


def _times(columns: Columns, lags: Sequence[Any]) -> None:
    captured, wait, infer, rest, done = (
        _int64(columns[name])
        for name in ("captured_us", "wait_us", "infer_us", "rest_us", "done_us")
    )
    del columns["rest_us"], columns["done_us"]
    latency = wait + infer + rest
    columns["latency_us"] = latency.tolist()
    columns["at_us"] = (captured + latency + done).tolist()
    if any(lag is not None for lag in lags):
        columns["pts_us"] = [
            pts if lag is None else wrap(at - _whole(lag))
            for pts, lag, at in zip(columns["pts_us"], lags, captured.tolist(), strict=True)
        ]


def _flags(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.split(",") if value else []


def _pts_lags(found: Found) -> Sequence[Any]:
    table = found.get(schema.RESULT.number)
    return table.columns.get(schema.PTS_LAG, ()) if table else ()  # type: ignore[return-value]


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise WireError(f"decode records: expected an integer, got {value!r}")
    return value


def _objects(found: Found) -> Sequence[Row]:
    columns = _stored(found, schema.OBJECTS)
    masks = _hand_out(columns.pop("mask_n"), "masks", _masks(found))
    if max(map(len, masks), default=0) > 1:
        raise WireError("decode records: expected at most one mask for an object, got more")
    points = _together(_stored(found, schema.KEYPOINTS), "x", "y", "score")
    columns["keypoints"] = _hand_out(columns.pop("keypoints_n"), "keypoints", points)
    columns["mask"] = [some[0] if some else None for some in masks]
    columns["box"] = _together(columns, "x0", "y0", "x1", "y1")
    return _own_order(found, schema.OBJECTS, _rows(columns))


def _masks(found: Found) -> list[Row]:
    sizes = _stored(found, schema.RINGS)["numbers_n"]
    points = _stored(found, schema.RING_POINTS)
    numbers: list[Any] = [None] * (2 * len(points["x"]))
    numbers[::2], numbers[1::2] = points["x"], points["y"]
    rings = _hand_out(sizes, "numbers", numbers or _stored(found, schema.RING_NUMBERS)["number"])
    columns = _stored(found, schema.MASKS)
    columns["rings"] = _hand_out(columns.pop("rings_n"), "rings", rings)
    runs = _stored(found, schema.RUNS)["number"]
    columns["runs"] = _hand_out(columns.pop("runs_n"), "runs", runs)
    columns["exact"] = [bool(value) for value in columns["exact"]]
    columns["box"] = _together(columns, "x0", "y0", "x1", "y1")
    return _rows(columns)


# ── measures ──────────────────────────────────────────────────────────────────────────────────


class _Sides:
    """What stands beside each measure: the box of its object, the spacing of its record."""

    def __init__(
        self, counts: Sequence[Any], objects: Sequence[Sequence[Row]], spacing: Sequence[Any]
    ) -> None:
        self._counts, self._objects, self._spacing = counts, objects, spacing

    def of(self, named: Sequence[Any], moved: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """Boxes and spacings. named: the object of each, as stored; moved: their own places."""
        _hand_out(self._counts, "measures", named)
        owners = list(chain.from_iterable(map(repeat, range(len(self._counts)), self._counts)))
        boxes: list[dict[Any, Any]] = [
            {item["id"]: item["box"] for item in reversed(some)} for some in self._objects
        ]
        mine = [owners[place] for place in moved]
        there = [boxes[owner].get(name) for owner, name in zip(mine, named, strict=True)]
        return there, [self._spacing[owner] for owner in mine]


def _measures(found: Found, sides: _Sides) -> Sequence[Row]:
    columns = _stored(found, schema.MEASURES_READ)
    table = found.get(schema.MEASURES.number)
    if table is None:
        _hand_out([], "points", _stored(found, schema.MEASURE_POINTS)["number"])
        return []
    moved = tables.stored_order(table) or range(table.rows)
    try:
        boxes, spacing = sides.of(columns["object"], moved)
        columns["points"] = _measure_points(found, columns.pop("points_n"), boxes)
        _foretell(columns, spacing)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise WireError(f"decode records: expected measures over boxes: {error}") from error
    return _own_order(found, schema.MEASURES, _rows(columns))


def _measure_points(
    found: Found, counts: Sequence[Any], boxes: Sequence[Any]
) -> list[Sequence[Any]]:
    table = found.get(schema.MEASURE_POINTS.number)
    if table is None or table.columns.keys() & {1}:
        return _hand_out(counts, "points", _stored(found, schema.MEASURE_POINTS)["number"])
    pairs = _stored(found, schema.MEASURE_DISTANCES)
    _hand_out(counts, "points", pairs["anchor"])
    anchors, distances = _int64(pairs["anchor"]), _int64(pairs["distance"])
    numbers = measured.absolute(anchors, distances, boxes, counts)
    return _hand_out(counts, "points", numbers)


def _foretell(columns: Columns, spacing: Sequence[Any]) -> None:
    """Values that are told as their distance from a length."""
    places, rest = columns.pop("places"), columns.pop("rest")
    values = list(columns["value"])
    short = [row for row, value in enumerate(values) if value is None]
    if not short:
        return
    digits_left, power = (
        _int64([rest[row] for row in short]),
        _int64([places[row] for row in short]),
    )
    if (np.abs(power) > MAX_PLACES).any() or (np.abs(digits_left) >= measured.FAR).any():
        raise IndexError("decimal places or digits out of bounds")
    points = [columns["points"][row] for row in short]
    units = [columns["unit"][row] for row in short]
    lengths = measured.foretold(points, units, [spacing[row] for row in short], power)
    for row, value in zip(short, doubles_at(power, lengths + digits_left).tolist(), strict=True):
        values[row] = value
    columns["value"] = values


# ── the others ────────────────────────────────────────────────────────────────────────────────


def _tallies(found: Found) -> Columns:
    columns = _stored(found, schema.TALLY)
    drops = _together(_stored(found, schema.DROPPED), "reason", "count")
    pairs = _hand_out(columns.pop("dropped_n"), "dropped", _own_order(found, schema.DROPPED, drops))
    columns["dropped"] = [_mapping(some) for some in pairs]
    return columns


def _mapping(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    try:
        return dict(pairs)
    except TypeError as error:
        raise WireError("decode records: expected reasons in words, got lists") from error


def _model_stats(found: Found) -> Columns:
    columns = _stored(found, schema.MODEL_STATS)
    scores = _stored(found, schema.SCORES)["number"]
    columns["scores"] = _hand_out(columns.pop("scores_n"), "scores", scores)
    return columns


def _clocks(found: Found) -> Columns:
    columns = _stored(found, schema.CLOCK)
    columns["synchronised"] = [bool(value) for value in columns["synchronised"]]
    return columns


def _plain(spec: Spec) -> Callable[[Found], Columns]:
    return lambda found: _stored(found, spec)
