"""Tables back to rows that `msgspec.convert` turns into records, with every type checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, repeat
from typing import Any

from edge_agent.core.wire import measured, schema, tables
from edge_agent.core.wire.cursor import wrap
from edge_agent.core.wire.decimals import MAX_PLACES
from edge_agent.core.wire.outcome import Newer, WireError
from edge_agent.core.wire.schema import Spec
from edge_agent.core.wire.tables import Table

Row = dict[str, Any]
Found = Mapping[int, Table]


def rows_of(found: Found, count: int) -> list[Row]:
    """One row for each record, in their order; no node, stream, epoch or seq yet.

    Raises: Newer, WireError.
    """
    kinds = [row["kind"] for row in _stored(found, schema.RECORDS)]
    if len(kinds) != count:
        raise WireError(f"decode records: expected {count} records, got {len(kinds)}")
    if any(type(kind) is not int or not 0 <= kind < len(schema.KINDS) for kind in kinds):
        raise Newer("decode records: expected a kind from 0 to 5, got another")
    builders: tuple[Callable[[Found], list[Row]], ...] = (
        _results, _tallies, _model_stats, _clocks, _plain(schema.ALARM), _plain(schema.EVENT),
    )  # fmt: skip
    used = set(kinds)
    parts = {kind: iter(build(found)) for kind, build in enumerate(builders) if kind in used}
    rows = []
    for kind in kinds:
        row = next(parts[kind], None)
        if row is None:
            raise WireError(f"decode records: expected a row for each record, kind {kind} ran out")
        row["kind"] = schema.KINDS[kind].__struct_config__.tag
        rows.append(row)
    if any(next(part, None) is not None for part in parts.values()):
        raise WireError("decode records: expected as many rows as records, got more")
    return rows


def _stored(found: Found, spec: Spec) -> list[Row]:
    """The rows as they are stored: what belongs to a row of another table follows this order."""
    table = found.get(spec.number)
    if table is None:
        return []
    moved = tables.stored_order(table)
    names, columns = [], []
    for field in spec.fields:
        values: Iterable[Any] | None = table.columns.get(field.number)
        if values is None and field.default is schema.REQUIRED:
            raise WireError(f"decode records: table {spec.number}: expected field {field.name}")
        if values is not None and moved is not None and field.number in table.groups:
            values = [table.columns[field.number][row] for row in moved]
        names.append(field.name)
        columns.append(repeat(field.default, table.rows) if values is None else values)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _own_order(found: Found, spec: Spec, stored: list[Row]) -> list[Row]:
    """The inverse of storing rows alike side by side."""
    table = found.get(spec.number)
    moved = tables.stored_order(table) if table else None
    if moved is None:
        return stored
    rows: list[Row] = [{}] * len(stored)
    for row, place in zip(stored, moved, strict=True):
        rows[place] = row
    return rows


def _hand_out(parents: Sequence[Row], count: str, name: str, children: Sequence[Any]) -> None:
    """Gives each parent the next `count` children as its `name`."""
    counts = [parent.pop(count) for parent in parents]
    whole = all(type(n) is int and n >= 0 for n in counts)
    if not whole or sum(counts) != len(children):
        raise WireError(f"decode records: expected {count} of {len(children)} in all, got others")
    left = iter(children)
    for parent, n in zip(parents, counts, strict=True):
        parent[name] = list(islice(left, n))


def _numbers(found: Found, spec: Spec) -> list[Any]:
    return [row["number"] for row in _stored(found, spec)]


def _results(found: Found) -> list[Row]:
    results = _stored(found, schema.RESULT)
    lags = _pts_lags(found)
    labels = _own_order(found, schema.LABELS, _stored(found, schema.LABELS))
    _hand_out(results, "labels_n", "labels", labels)
    _hand_out(results, "objects_n", "objects", _objects(found))
    _hand_out(results, "measures_n", "measures", _measures(found))
    for row, lag in zip(results, lags or repeat(None), strict=False):
        if lag is not None:
            row["pts_us"] = wrap(_int(row["captured_us"]) - _int(lag))
        _finish_result(row)
    return results


def _pts_lags(found: Found) -> Sequence[Any]:
    table = found.get(schema.RESULT.number)
    return table.columns.get(schema.PTS_LAG, ()) if table else ()


def _finish_result(row: Row) -> None:
    for place, item in enumerate(row["objects"], 1):
        item["id"] = wrap(_int(item["id"]) + place)
    row["size"] = [row.pop("width"), row.pop("height")]
    row["roi"] = [row.pop("roi_x"), row.pop("roi_y"), row.pop("roi_w"), row.pop("roi_h")]
    spacing = [row.pop("spacing_x"), row.pop("spacing_y")]
    row["spacing_mm"] = None if spacing == [None, None] else spacing
    _finish_measures(row)
    if isinstance(row["flags"], str):
        row["flags"] = row["flags"].split(",") if row["flags"] else []
    times = [row["wait_us"], row["infer_us"], row.pop("rest_us")]
    row["latency_us"] = wrap(sum(map(_int, times)))
    made = [row["captured_us"], row["latency_us"], row.pop("done_us")]
    row["at_us"] = wrap(sum(map(_int, made)))


def _int(value: Any) -> int:
    if type(value) is not int:
        raise WireError(f"decode records: expected an integer, got {value!r}")
    return value


def _objects(found: Found) -> list[Row]:
    objects = _stored(found, schema.OBJECTS)
    _hand_out(objects, "mask_n", "masks", _masks(found))
    points = [list(row.values()) for row in _stored(found, schema.KEYPOINTS)]
    _hand_out(objects, "keypoints_n", "keypoints", points)
    for row in objects:
        masks = row.pop("masks")
        if len(masks) > 1:
            raise WireError("decode records: expected at most one mask for an object, got more")
        row["mask"] = masks[0] if masks else None
        _box(row)
    return _own_order(found, schema.OBJECTS, objects)


def _box(row: Row) -> None:
    row["box"] = [row.pop(name) for name in ("x0", "y0", "x1", "y1")]


def _masks(found: Found) -> list[Row]:
    rings = _stored(found, schema.RINGS)
    points = _stored(found, schema.RING_POINTS)
    numbers = [number for row in points for number in row.values()]
    _hand_out(rings, "numbers_n", "numbers", numbers or _numbers(found, schema.RING_NUMBERS))
    masks = _stored(found, schema.MASKS)
    _hand_out(masks, "rings_n", "rings", [row["numbers"] for row in rings])
    _hand_out(masks, "runs_n", "runs", _numbers(found, schema.RUNS))
    for row in masks:
        row["exact"] = bool(row["exact"])
        _box(row)
    return masks


def _measures(found: Found) -> list[Row]:
    """Points are numbers, or pairs that `_finish_measures` makes numbers."""
    measures = _stored(found, schema.MEASURES_READ)
    table = found.get(schema.MEASURE_POINTS.number)
    if table is not None and not table.columns.keys() & {1}:
        pairs = _stored(found, schema.MEASURE_DISTANCES)
        points: list[Any] = [(_int(row["anchor"]), _int(row["distance"])) for row in pairs]
    else:
        points = _numbers(found, schema.MEASURE_POINTS)
    _hand_out(measures, "points_n", "points", points)
    return _own_order(found, schema.MEASURES, measures)


def _finish_measures(result: Row) -> None:
    """Lays the measures of one record over its boxes."""
    boxes: dict[Any, Any] = {}
    for item in result["objects"]:
        boxes.setdefault(item["id"], item["box"])
    try:
        for row in result["measures"]:
            _finish_measure(row, boxes.get(row["object"]), result["spacing_mm"])
    except (TypeError, IndexError, OverflowError) as error:
        raise WireError(f"decode records: expected measures over boxes: {error}") from error


def _finish_measure(row: Row, box: Any, spacing_mm: Any) -> None:
    points = row["points"]
    if points and isinstance(points[0], tuple):
        if min(anchor for anchor, _ in points) < 0:
            raise IndexError("an anchor below 0")
        row["points"] = points = measured.absolute(points, box)
    places, rest = row.pop("places"), row.pop("rest")
    if row["value"] is None:
        if abs(_int(places)) > MAX_PLACES:
            raise IndexError(f"{places} decimal places")
        digits = measured.foretold(points, row["unit"], spacing_mm, places) + _int(rest)
        row["value"] = measured.value_of(places, digits)


def _tallies(found: Found) -> list[Row]:
    tallies = _stored(found, schema.TALLY)
    drops = _own_order(found, schema.DROPPED, _stored(found, schema.DROPPED))
    pairs = [(row["reason"], row["count"]) for row in drops]
    _hand_out(tallies, "dropped_n", "dropped", pairs)
    for row in tallies:
        row["dropped"] = dict(row["dropped"])
    return tallies


def _model_stats(found: Found) -> list[Row]:
    rows = _stored(found, schema.MODEL_STATS)
    _hand_out(rows, "scores_n", "scores", _numbers(found, schema.SCORES))
    return rows


def _clocks(found: Found) -> list[Row]:
    clocks = _stored(found, schema.CLOCK)
    for row in clocks:
        row["synchronised"] = bool(row["synchronised"])
    return clocks


def _plain(spec: Spec) -> Callable[[Found], list[Row]]:
    return lambda found: _stored(found, spec)
