"""Records to tables: lists become tables of their own, counted in the row that they belong to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np

from edge_agent.core.frames import AnyRecord, ModelStats, Object, Result, Tally
from edge_agent.core.wire import arrays, columns, measured, schema, tables
from edge_agent.core.wire.measured import Box, Located
from edge_agent.core.wire.schema import Spec
from edge_agent.core.wire.tables import Table


def tables_of(records: Sequence[AnyRecord]) -> list[Table]:
    """Everything but what the envelope says: node, stream, class, epoch, seq."""
    found = [_table(schema.RECORDS, records)]
    for kind, spec in zip(schema.KINDS, schema.KIND_TABLES, strict=True):
        found.append(_table(spec, [record for record in records if type(record) is kind]))
    _shorten_pts(found)
    found += _parts_of_results([record for record in records if isinstance(record, Result)])
    drops = [pair for record in records if isinstance(record, Tally) for pair in _drops(record)]
    found.append(_grouped(schema.DROPPED, drops, ("reason",))[0])
    scores = [n for record in records if isinstance(record, ModelStats) for n in record.scores]
    found.append(_table(schema.SCORES, scores, lags=(10,)))
    return found


def _shorten_pts(found: Sequence[Table]) -> None:
    """A camera's own clock goes with ours, a file's goes on its own."""
    results = next(table for table in found if table.number == schema.RESULT.number)
    field = schema.RESULT.column("pts_us")
    pts = results.columns.get(field)
    if pts is None:
        return
    captured = results.columns.get(schema.RESULT.column("captured_us"), [0] * results.rows)
    there = [(c, p) for c, p in zip(captured, pts, strict=True) if p is not None]
    lag = iter(arrays.less([c for c, _ in there], [p for _, p in there]))
    lags = [None if p is None else next(lag) for p in pts]
    if len(columns.encode(lags)[1]) < len(columns.encode(pts)[1]):
        del results.columns[field]
        results.columns[schema.PTS_LAG] = lags


def _drops(record: Tally) -> Iterable[tuple[str, int]]:
    return record.dropped.items()


def _parts_of_results(results: Sequence[Result]) -> list[Table]:
    labels = [label for result in results for label in result.labels]
    placed = [pair for result in results for pair in zip(result.objects, _PLACES, strict=False)]
    objects_table, stored = _grouped(schema.OBJECTS, placed, ("track",), lags=(2,))
    objects: list[Object] = [row[0] for row in stored]
    measures = [located for result in results for located in _located(result)]
    return [
        _grouped(schema.LABELS, labels, ("head", "label"))[0],
        objects_table,
        *_parts_of_masks(objects),
        _nested(schema.KEYPOINTS, [item.keypoints for item in objects]),
        *_parts_of_measures(measures),
    ]


_PLACES = range(1, 1 << 30)


def _parts_of_masks(objects: Sequence[Object]) -> list[Table]:
    masks = [item.mask for item in objects if item.mask is not None]
    rings = [ring for mask in masks for ring in mask.rings]
    found = [_table(schema.MASKS, masks), _table(schema.RINGS, rings)]
    if any(len(ring) % 2 for ring in rings):
        found.append(_nested(schema.RING_NUMBERS, rings))
    elif rings:
        found.append(_points(rings))
    return [*found, _table(schema.RUNS, [run for m in masks for run in m.runs], lags=(2,))]


def _points(rings: Sequence[Sequence[int]]) -> Table:
    """X and y of all points; the commonest number of points is worth a try as a period."""
    numbers = list(chain.from_iterable(rings))
    columns: dict[int, tables.Column] = {1: numbers[::2], 2: numbers[1::2]}
    with suppress(ValueError):
        both = arrays.ints_of(numbers).reshape(-1, 2)
        columns = {1: both[:, 0].copy(), 2: both[:, 1].copy()}
    lags = _periods(len(ring) // 2 for ring in rings)
    return Table(schema.RING_POINTS.number, len(numbers) // 2, columns, lags=lags)


def _located(result: Result) -> Iterable[Located]:
    boxes: dict[int | None, Box] = {}
    for item in result.objects:
        boxes.setdefault(item.id, item.box)
    for measure in result.measures:
        yield Located(measure, boxes.get(measure.object), result.spacing_mm)


def _parts_of_measures(measures: Sequence[Located]) -> list[Table]:
    if not measures:
        return []
    table, stored = _grouped(schema.MEASURES, measures, ("name", "object"), lags=(2,))
    groups = tables.group_numbers(table)
    short = measured.shorten(stored, np.zeros(len(stored), np.int64) if groups is None else groups)
    if short is not None:
        del table.columns[schema.MEASURES.column("value")]
        table.columns[schema.MEASURE_PLACES.number] = short[0]
        table.columns[schema.MEASURE_REST.number] = short[1]
    points = [row.measure.points for row in stored]
    near = measured.relative(points, [row.box for row in stored])
    if near is None:
        return [table, _nested(schema.MEASURE_POINTS, points)]
    lags = _periods(map(len, points))
    pair = dict(enumerate(near, schema.MEASURE_DISTANCES.fields[0].number))
    return [table, Table(schema.MEASURE_DISTANCES.number, len(near[0]), {**pair}, lags=lags)]


def _table(
    spec: Spec,
    rows: Sequence[Any],
    *,
    groups: tuple[int, ...] = (),
    stored: Sequence[Any] | None = None,
    lags: tuple[int, ...] = (),
) -> Table:
    """groups: these columns are of `rows`, all others of `stored`."""
    columns: dict[int, tables.Column] = {}
    for field in spec.fields if rows else ():
        values = field.get(rows if stored is None or field.number in groups else stored)
        if field.number in groups or not _is_default(values, field.default):
            columns[field.number] = values
    return Table(spec.number, len(rows), columns, groups, lags)


def _is_default(values: Sequence[Any], default: Any) -> bool:
    if default is schema.REQUIRED or values[0] != default or values.count(default) < len(values):
        return False
    return set(map(type, values)) == {type(default)}


def _grouped(
    spec: Spec, rows: Sequence[Any], names: Sequence[str], lags: tuple[int, ...] = ()
) -> tuple[Table, Sequence[Any]]:
    """The table with rows alike stored side by side, and its rows in that order."""
    fields = [next(field for field in spec.fields if field.name == name) for name in names]
    keys = [field.get(rows) for field in fields]
    chosen = [(f, key) for f, key in zip(fields, keys, strict=True) if len(set(key)) > 1]
    if not chosen:
        return _table(spec, rows, lags=lags), rows
    stored = [rows[row] for row in tables.order([key for _, key in chosen], len(rows))]
    groups = tuple(field.number for field, _ in chosen)
    return _table(spec, rows, groups=groups, stored=stored, lags=lags), stored


def _nested(spec: Spec, lists: Sequence[Sequence[Any]]) -> Table:
    """All lists one after the other; the commonest length is worth a try as a period."""
    return _table(spec, list(chain.from_iterable(lists)), lags=_periods(map(len, lists)))


def _periods(sizes: Iterable[int]) -> tuple[int, ...]:
    common = Counter(size for size in sizes if size > 1).most_common(1)
    return tuple(size for size, times in common if times > 1)
