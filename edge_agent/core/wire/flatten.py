"""Records to tables: lists become tables of their own, counted in the row that they belong to.

Rows are taken apart at once: `parts` of the same kind are a column for each of their fields.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from itertools import chain, compress
from operator import itemgetter
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import astuple

from edge_agent.core.frames import AnyRecord, ModelStats, Result, Tally
from edge_agent.core.wire import arrays, encoding, foretelling, schema, tables
from edge_agent.core.wire.few import FEW
from edge_agent.core.wire.grids import Contours, Grids
from edge_agent.core.wire.rings import CODING as RINGS
from edge_agent.core.wire.schema import Parts, Spec
from edge_agent.core.wire.tables import Table

_INTEGERS: Final = frozenset({int, bool})
FEW_POINTS: Final = 1024  # so many contours of one or a few records have; nothing comes again


def tables_of(records: Sequence[AnyRecord], grids: Grids | None = None) -> list[Table]:
    """Everything but what the envelope says: node, stream, class, epoch, seq.

    grids: where the reader knows contours by their steps.
    """
    kinds = list(map(schema.KINDS.index, map(type, records)))
    found = [_table(schema.RECORDS, {"kind": kinds})]
    for kind in sorted(set(kinds)):
        parts = parts_of(list(compress(records, map(kind.__eq__, kinds))))
        found.append(_table(schema.KIND_TABLES[kind], parts))
        if schema.KINDS[kind] is Result:
            _shorten_pts(found[-1])
            found += _parts_of_results(parts, grids)
        elif schema.KINDS[kind] is Tally:
            drops = [pair for dropped in parts["dropped"] for pair in dropped.items()]
            found.append(_grouped(schema.DROPPED, _named(drops, "reason", "count"), "reason")[0])
        elif schema.KINDS[kind] is ModelStats:
            scores = list(chain.from_iterable(parts["scores"]))
            found.append(_table(schema.SCORES, {"number": scores}, lags=(10,)))
    return found


def parts_of(rows: Sequence[msgspec.Struct]) -> dict[str, Sequence[Any]]:
    """A column for each field of these rows, all of one kind; nothing for none."""
    names = rows[0].__struct_fields__ if rows else ()
    return dict(zip(names, zip(*map(astuple, rows), strict=True), strict=True))


def _named(rows: Sequence[Sequence[Any]], *names: str) -> Parts:
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _shorten_pts(results: Table) -> None:
    """A camera's own clock goes with ours, a file's goes on its own."""
    field = schema.RESULT.column("pts_us")
    pts = results.columns.get(field)
    if pts is None:
        return
    captured = results.columns.get(schema.RESULT.column("captured_us"), [0] * results.rows)
    there = [(c, p) for c, p in zip(captured, pts, strict=True) if p is not None]
    lag = iter(arrays.less([c for c, _ in there], [p for _, p in there]))
    lags = [None if p is None else next(lag) for p in pts]
    if len(encoding.encode(lags)[1]) < len(encoding.encode(pts)[1]):
        del results.columns[field]
        results.columns[schema.PTS_LAG] = lags


def _parts_of_results(results: Parts, grids: Grids | None) -> list[Table]:
    labels = parts_of(list(chain.from_iterable(results["labels"])))
    objects = parts_of(list(chain.from_iterable(results["objects"])))
    if objects:
        sizes = map(len, results["objects"])
        objects["place"] = [place for size in sizes for place in range(1, size + 1)]
        if grids is not None:
            objects["view"] = _views(results, objects)
    objects_table, stored = _grouped(schema.OBJECTS, objects, "track", lags=(2,))
    return [
        _grouped(schema.LABELS, labels, "head", "label")[0],
        objects_table,
        *_parts_of_masks(stored, grids),
        *_nested(schema.KEYPOINTS, stored.get("keypoints", ())),
        *_parts_of_measures(results),
    ]


def _views(results: Parts, objects: Parts) -> list[Hashable]:
    """For each object what the grid of its mask goes with: another model has another one."""
    columns = (results["objects"], results["model"], results["version"], results["roi"])
    views = [rest for some, *rest in zip(*columns, strict=True) for _ in some]
    return [(*view, head) for view, head in zip(views, objects["head"], strict=True)]


def _parts_of_masks(objects: Parts, grids: Grids | None) -> list[Table]:
    masks = [mask for mask in objects.get("mask", ()) if mask is not None]
    if not masks:
        return []
    parts = parts_of(masks)
    rings = list(chain.from_iterable(parts["rings"]))
    sizes = list(map(len, rings))
    found = [_table(schema.MASKS, parts), _table(schema.RINGS, {"numbers_n": sizes})]
    if any(size % 2 for size in sizes):
        found += _nested(schema.RING_NUMBERS, rings)
    elif rings:
        points = _points(rings, _periods(size // 2 for size in sizes))
        if grids is not None:
            _step(points, objects, grids)
        found.append(points)
    runs = list(chain.from_iterable(parts["runs"]))
    return [*found, _table(schema.RUNS, {"number": runs}, lags=(2,))]


def _points(rings: Sequence[Sequence[int]], lags: tuple[int, ...]) -> Table:
    """X and y of all points; the commonest number of points is worth a try as a period."""
    numbers = list(chain.from_iterable(rings))
    both: tables.Column = numbers
    if len(numbers) >= 2 * FEW:
        with suppress(TypeError, OverflowError):  # of what is no integer of 64 bits
            both = np.frombuffer(array("q", numbers), np.int64)
    columns = {1: both[::2], 2: both[1::2]}
    return Table(schema.RING_POINTS.number, len(numbers) // 2, columns, lags=lags)


def _step(points: Table, objects: Parts, grids: Grids) -> None:
    """Says the points by steps on the grid of the mask, where they lie on one."""
    both = zip(objects["mask"], objects["view"], strict=True)
    rings = [(len(ring) // 2, view) for mask, view in both if mask for ring in mask.rings if ring]
    sizes, views = zip(*rings, strict=True) if rings else ((), ())
    try:
        pairs = np.array([points.columns[1], points.columns[2]], np.int64).T
    except OverflowError:
        return
    steps = grids.encode(Contours(sizes, views, pairs, len(pairs) <= FEW_POINTS))
    if steps is not None:
        points.columns, points.ready = {}, {1: tables.Ready(RINGS, steps)}


def _parts_of_measures(results: Parts) -> list[Table]:
    measures = parts_of(list(chain.from_iterable(results["measures"])))
    if not measures:
        return []
    measures["box"], measures["spacing"] = foretelling.whereabouts(results)
    table, stored = _grouped(schema.MEASURES, measures, "name", "object", lags=(2,))
    short = foretelling.shorten(stored, table.alike)
    if short is not None:
        del table.columns[schema.MEASURES.column("value")]
        table.columns[schema.MEASURE_PLACES.number] = short[0]
        table.columns[schema.MEASURE_REST.number] = short[1]
    points = stored["points"]
    near = foretelling.relative(points, stored["box"])
    if near is None:
        return [table, *_nested(schema.MEASURE_POINTS, points)]
    pair = dict(enumerate(near, schema.MEASURE_DISTANCES.fields[0].number))
    lags = _periods(map(len, points))
    return [table, Table(schema.MEASURE_DISTANCES.number, len(near[0]), {**pair}, lags=lags)]


def _table(spec: Spec, parts: Parts, *, lags: tuple[int, ...] = ()) -> Table:
    """Without the columns in which every row has the default."""
    rows = len(next(iter(parts.values()), ()))
    columns: dict[int, tables.Column] = {}
    for number, _, default, get in spec.fields if rows else ():
        values = get(parts)
        if values[0] != default or not _all_are(values, default):
            columns[number] = values
    return Table(spec.number, rows, columns, lags=lags)


def _all_are(values: Sequence[Any], default: Any) -> bool:
    if values.count(default) < len(values):
        return False
    return set(map(type, values)) == {type(default)}


def _grouped(
    spec: Spec, parts: Parts, *names: str, lags: tuple[int, ...] = ()
) -> tuple[Table, Parts]:
    """The table with rows alike stored side by side, and its parts in that order."""
    keys = {name: parts[name] for name in names if parts and len(set(parts[name])) > 1}
    if not keys:
        return _table(spec, parts, lags=lags), parts
    order, alike = tables.side_by_side(list(keys.values()))
    take = itemgetter(*order)
    stored = {name: take(column) for name, column in parts.items()}
    table = _table(spec, stored, lags=lags)
    table.groups = tuple(map(spec.column, keys))
    table.columns.update(zip(table.groups, keys.values(), strict=True))
    table.alike = alike
    return table, stored


def _nested(spec: Spec, lists: Sequence[Sequence[Any]]) -> list[Table]:
    """All lists one after the other; the commonest length is worth a try as a period."""
    rows = list(chain.from_iterable(lists))
    if not rows:
        return []
    names = [field.name for field in spec.fields]
    parts = {names[0]: rows} if len(names) == 1 else _named(rows, *names)
    return [_table(spec, parts, lags=_periods(map(len, lists)))]


def _periods(sizes: Iterable[int]) -> tuple[int, ...]:
    common = Counter(size for size in sizes if size > 1).most_common(1)
    return tuple(size for size, times in common if times > 1)
