"""A second decoder of the wire, written from docs/wire.md alone: no line shared with the agent.

Slow and plain on purpose. It ends in values, in `Refused` or in `Wanting`, as the page says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import zstandard

from tests.wire.second_bytes import (
    Envelope,
    Refused,
    Wanting,
    check,
    name_of,
    raw_of,
    unzstd,
    wrapped,
)
from tests.wire.second_columns import Table, decimal, open_tables

Row = dict[str, Any]

_MUST = object()
FAR = 1 << 62
_BOOT = {1: ("boot", ""), 2: ("at_us", 0)}
_RESULT = (
    ("model", ""), ("version", ""), ("variant", ""), ("backend", ""), ("flags", ""),
    ("spacing_from", ""), ("schema", 1), ("every", 1), ("level", 0), ("term", 0), ("width", 0),
    ("height", 0), ("roi_x", 0), ("roi_y", 0), ("roi_w", 0), ("roi_h", 0), ("labels_n", 0),
    ("objects_n", 0), ("measures_n", 0), ("spacing_x", None), ("spacing_y", None), ("boot", ""),
    ("sha", ""), ("settings", ""), ("exam", ""), ("utc_offset_us", None), ("utc_error_us", None),
    ("pts_us", None), ("captured_us", 0), ("frame", 0), ("wait_us", 0), ("infer_us", 0),
    ("rest_us", 0), ("done_us", 0), ("input_hash", ""), ("pts_lag", None),
)  # fmt: skip
_XY = {8: "x0", 9: "y0", 10: "x1", 11: "y1"}
FIELDS: dict[int, dict[int, tuple[str, Any]]] = {
    1: {1: ("kind", _MUST)},
    2: dict(enumerate(_RESULT, 1)),
    3: {1: ("head", _MUST), 2: ("label", _MUST), 3: ("score", _MUST)},
    4: {
        1: ("id", 0), 2: ("mask_n", 0), 3: ("keypoints_n", 0), 4: ("track", 0), 5: ("head", ""),
        6: ("label", ""), 7: ("score", _MUST), **{n: (name, _MUST) for n, name in _XY.items()},
    },
    5: {
        1: ("exact", 0), 2: ("rings_n", 0), 3: ("runs_n", 0), 4: ("area_px", _MUST),
        5: ("x0", _MUST), 6: ("y0", _MUST), 7: ("x1", _MUST), 8: ("y1", _MUST),
    },
    6: {1: ("numbers_n", _MUST)},
    7: {1: ("x", _MUST), 2: ("y", _MUST)},
    8: {1: ("number", _MUST)},
    9: {1: ("number", _MUST)},
    10: {1: ("x", _MUST), 2: ("y", _MUST), 3: ("score", _MUST)},
    11: {
        1: ("name", _MUST), 2: ("unit", ""), 3: ("method", ""), 4: ("points_n", 0),
        5: ("object", None), 6: ("sd", None), 7: ("value", None), 8: ("places", None),
        9: ("rest", None),
    },
    12: {1: ("number", None), 2: ("anchor", None), 3: ("distance", None)},
    13: {
        **_BOOT, 3: ("state", ""), 4: ("captured", 0), 5: ("inferred", 0), 6: ("frozen", 0),
        7: ("dropped_n", 0),
    },
    14: {1: ("reason", _MUST), 2: ("count", _MUST)},
    15: {
        **_BOOT, 3: ("model", ""), 4: ("version", ""), 5: ("frames", 0), 6: ("findings", 0),
        7: ("scores_n", 0), 8: ("input_mean", _MUST), 9: ("input_sd", _MUST),
    },
    16: {1: ("number", _MUST)},
    17: {**_BOOT, 3: ("utc_offset_us", None), 4: ("utc_error_us", None), 5: ("synchronised", 0)},
    18: {
        **_BOOT, 3: ("code", ""), 4: ("state", "raised"), 5: ("severity", "warning"),
        6: ("since_us", 0), 7: ("what", ""), 8: ("fix", ""),
    },
    19: {**_BOOT, 3: ("name", ""), 4: ("what", "")},
}  # fmt: skip
KINDS = (
    ("result", 2, "result"), ("tally", 13, "telemetry"), ("model_stats", 15, "telemetry"),
    ("clock", 17, "event"), ("alarm", 18, "alarm"), ("event", 19, "event"),
)  # fmt: skip

OWNED = (range(2, 13), (13, 14), (15, 16), (17,), (18,), (19,))


class Records:
    """Rebuilds the records of one body."""

    def __init__(self, tables: dict[int, Table]) -> None:
        self.tables = tables

    def stored(self, number: int) -> list[Row]:
        table = self.tables.get(number)
        if table is None:
            return []
        order = table.stored_order()
        columns = {}
        for field_number, (name, default) in FIELDS[number].items():
            values = table.columns.get(field_number)
            check(values is not None or default is not _MUST, f"{number}: {name} is missing")
            if values is None:
                values = [default] * table.rows
            elif field_number in table.groups:
                values = [values[row] for row in order]
            columns[name] = values
        return [{name: columns[name][row] for name in columns} for row in range(table.rows)]

    def own(self, number: int, stored: list[Row]) -> list[Row]:
        if number not in self.tables:
            return []
        order = self.tables[number].stored_order()
        places = {row: at for at, row in enumerate(order)}
        return [stored[places[row]] for row in range(len(stored))]

    def all(self, envelope: Envelope) -> list[Row]:
        kinds = [row["kind"] for row in self.stored(1)]
        check(len(kinds) == envelope.count, "count")
        if any(type(kind) is not int or kind not in range(len(KINDS)) for kind in kinds):
            raise Wanting("version")
        owned = {number for kind in kinds for number in OWNED[kind]}
        check(set(self.tables) & set(FIELDS) <= {1, *owned}, "a table that nobody owns")
        check(not {7, 8} <= set(self.tables), "rings twice")
        parts = {kind: self.of_kind(kind) for kind in set(kinds)}
        left = {kind: iter(rows) for kind, rows in parts.items()}
        records = []
        for seq, kind in enumerate(kinds, envelope.first):
            check(KINDS[kind][2] == envelope.klass, "class")
            row = next(left[kind], None)
            if row is None:
                raise Refused("too few rows")
            ids = {"node": envelope.node, "stream": envelope.stream, "epoch": envelope.epoch}
            records.append({"kind": KINDS[kind][0], **ids, "seq": seq, **row})
        check(all(next(rest, None) is None for rest in left.values()), "too many rows")
        return records

    def of_kind(self, kind: int) -> list[Row]:
        rows = self.stored(KINDS[kind][1])
        if kind == 0:
            return self.results(rows)
        if kind == 1:
            drops = [(row["reason"], row["count"]) for row in self.own(14, self.stored(14))]
            share(rows, "dropped_n", "dropped", drops)
            check(all(len(dict(row["dropped"])) == len(row["dropped"]) for row in rows), "reason")
            return [{**row, "dropped": dict(row["dropped"])} for row in rows]
        if kind == 2:
            share(rows, "scores_n", "scores", [row["number"] for row in self.stored(16)])
        if kind == 3:
            return [{**row, "synchronised": truth(row["synchronised"])} for row in rows]
        return rows

    def results(self, rows: list[Row]) -> list[Row]:
        share(rows, "labels_n", "labels", self.own(3, self.stored(3)))
        share(rows, "objects_n", "objects", self.own(4, self.objects()))
        measures = self.stored(11)
        share(measures, "points_n", "points", self.points())
        share(rows, "measures_n", "measures", self.own(11, measures))
        return [result(row) for row in rows]

    def points(self) -> list[Row]:
        """With a number each, or with anchor and distance."""
        rows = self.stored(12)
        if 12 in self.tables and 1 in self.tables[12].columns:
            return [{"number": row["number"]} for row in rows]
        return [{name: row[name] for name in ("anchor", "distance")} for row in rows]

    def objects(self) -> list[Row]:
        rings = self.stored(6)
        numbers = [n for row in self.stored(7) for n in (row["x"], row["y"])]
        numbers = numbers if 7 in self.tables else [row["number"] for row in self.stored(8)]
        share(rings, "numbers_n", "numbers", numbers)
        masks = self.stored(5)
        share(masks, "rings_n", "rings", [row["numbers"] for row in rings])
        share(masks, "runs_n", "runs", [row["number"] for row in self.stored(9)])
        masks = [boxed({**row, "exact": truth(row["exact"])}) for row in masks]
        objects = self.stored(4)
        share(objects, "mask_n", "mask", masks)
        points = [[row["x"], row["y"], row["score"]] for row in self.stored(10)]
        share(objects, "keypoints_n", "keypoints", points)
        check(all(len(row["mask"]) <= 1 for row in objects), "two masks")
        return [boxed({**row, "mask": (row["mask"] or [None])[0]}) for row in objects]


def share(rows: list[Row], count: str, name: str, children: Sequence[Any]) -> None:
    counts = [row.pop(count) for row in rows]
    check(all(type(n) is int and n >= 0 for n in counts), count)
    check(sum(counts) == len(children), f"{count} of {len(children)}")
    left: Iterator[Any] = iter(children)
    for row, n in zip(rows, counts, strict=True):
        row[name] = [next(left) for _ in range(n)]


def truth(value: Any) -> bool:
    check(type(value) is int and value in (0, 1), "neither 0 nor 1")
    return bool(value)


def boxed(row: Row) -> Row:
    return {**row, "box": [row.pop(name) for name in ("x0", "y0", "x1", "y1")]}


def result(row: Row) -> Row:
    for place, item in enumerate(row["objects"], 1):
        item["id"] = wrapped(item["id"] + place)
    row["size"] = [row.pop("width"), row.pop("height")]
    row["roi"] = [row.pop(f"roi_{name}") for name in "xywh"]
    spacing = [row.pop("spacing_x"), row.pop("spacing_y")]
    row["spacing_mm"] = None if spacing == [None, None] else spacing
    flags = row["flags"]
    check(isinstance(flags, list) or type(flags) is str, "flags")
    row["flags"] = flags if isinstance(flags, list) else flags.split(",") if flags else []
    row["latency_us"] = wrapped(row["wait_us"] + row["infer_us"] + row.pop("rest_us"))
    row["at_us"] = wrapped(row["captured_us"] + row["latency_us"] + row.pop("done_us"))
    lag = row.pop("pts_lag")
    if lag is not None:
        row["pts_us"] = wrapped(row["captured_us"] - lag)
    for measure in row["measures"]:
        lay(measure, row["objects"], row["spacing_mm"])
    return row


def lay(measure: Row, objects: list[Row], spacing: list[float] | None) -> None:
    boxes = [item["box"] for item in objects if item["id"] == measure["object"]]
    points = [
        point["number"]
        if "number" in point
        else (anchor(point["anchor"], boxes, j % 2) + integer(wrapping(point["distance"]), FAR))
        / 10
        for j, point in enumerate(measure["points"])
    ]
    measure["points"] = points
    places, rest = measure.pop("places"), measure.pop("rest")
    if measure["value"] is None:
        places, rest = integer(wrapping(places), 23), integer(wrapping(rest), FAR)
        digits = told(points, measure["unit"], spacing, places) + rest
        measure["value"] = decimal(places, digits)


def integer(value: Any, below: int) -> int:
    check(type(value) is int and abs(value) < below, "integer")
    return int(value)


def wrapping(value: Any) -> Any:
    return wrapped(value) if type(value) is int else value


def tenths(v: float) -> int:
    return round(v * 10) if abs(v * 10) < 1 << 53 else 0


def anchor(number: int, boxes: list[list[float]], axis: int) -> int:
    number = integer(wrapping(number), 4)
    if number == 0:
        return 0
    check(1 <= number <= 3 and bool(boxes), "anchor")
    low, high = tenths(boxes[0][axis]), tenths(boxes[0][axis + 2])
    return (low, high, (low + high) // 2)[number - 1]


def told(points: list[float], unit: str, spacing: list[float] | None, places: int) -> int:
    if len(points) != 4 or not (unit == "px" or (unit == "mm" and spacing)):
        return 0
    sx, sy = (1.0, 1.0) if unit == "px" or spacing is None else spacing
    x = (points[2] - points[0]) * sx
    y = (points[3] - points[1]) * sy
    length = math.sqrt(x * x + y * y)
    f = length * 10.0**places if places >= 0 else length / 10.0**-places
    return round(f) if f < 1 << 53 else 0


def open_records(envelope: Envelope, dictionaries: Sequence[bytes] = ()) -> list[Row]:
    check(envelope.kind == 1, "no records")
    tables = open_tables(raw_of(envelope, dictionaries), FIELDS)
    try:
        rows = Records(tables).all(envelope)
        sizes = [size_of(row) for row in rows]
    except (TypeError, AttributeError, OverflowError) as error:
        raise Refused(f"values of another type: {error}") from None
    check(max(sizes) <= 1 << 20 and sum(sizes) <= 1 << 22, "size")
    return rows


def size_of(row: Row) -> int:
    """Section 4: bytes of a record as decoded."""
    objects, measures, labels = (row.get(name, ()) for name in ("objects", "measures", "labels"))
    masks = [item["mask"] for item in objects if item["mask"]]
    values = 32 + 4 * len(labels) + 16 * len(objects) + 16 * len(masks) + 8 * len(measures)
    values += sum(1 + len(ring) for mask in masks for ring in mask["rings"])
    values += sum(len(mask["runs"]) for mask in masks)
    values += sum(4 * len(item["keypoints"]) for item in objects)
    values += sum(len(measure["points"]) for measure in measures)
    values += 2 * len(row.get("dropped", ())) + len(row.get("scores", ()))
    texts = [row[name] for name in TEXTS[row["kind"]]]
    texts += [",".join(row.get("flags", ())), *row.get("dropped", ())]
    texts += [item[name] for item in [*labels, *objects] for name in ("head", "label")]
    texts += [one[name] for one in measures for name in ("name", "unit", "method")]
    return 16 * values + sum(len(text.encode()) for text in texts)


TEXTS = {
    "result": (
        "model", "version", "variant", "backend", "spacing_from", "boot", "sha", "settings",
        "exam", "input_hash",
    ),
    "tally": ("boot", "state"), "model_stats": ("boot", "model", "version"), "clock": ("boot",),
    "alarm": ("boot", "code", "state", "severity", "what", "fix"),
    "event": ("boot", "name", "what"),
}  # fmt: skip


# --- section 7


def open_document(
    envelope: Envelope, bases: Sequence[bytes], dictionaries: Sequence[bytes] = ()
) -> bytes:
    check(envelope.kind == 2 and envelope.raw_len <= 1 << 18, "no document")
    if envelope.codec != 3:
        return readable(raw_of(envelope, dictionaries))
    for base in bases:
        if name_of(base) == envelope.ref:
            raw = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
            document = unzstd(envelope.body, envelope.raw_len, raw)
            check(name_of(document) == envelope.result, "result")
            return readable(document)
    raise Wanting("base")


def readable(document: bytes) -> bytes:
    """An object, no deeper than 64."""
    try:
        found = json.loads(document.decode(), parse_constant=no_number)
    except (ValueError, RecursionError):
        raise Refused("no JSON") from None
    check(isinstance(found, dict) and depth(found) <= 64, "no object, or too deep")
    return document


def no_number(word: str) -> None:
    """NaN and its like are no JSON."""
    raise Refused(word)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(value, dict | list) else 0
