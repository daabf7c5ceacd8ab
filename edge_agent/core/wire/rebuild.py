"""Tables back to records. Types are checked column by column; a record is made once, whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from edge_agent.core.frames import AnyRecord, Label, Mask, Object, Record, Result
from edge_agent.core.wire import schema
from edge_agent.core.wire.cursor import wrap
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.measures import measures_of
from edge_agent.core.wire.outcome import Newer, WireError
from edge_agent.core.wire.stored import (
    FLOAT,
    INT,
    MAYBE_INT,
    TEXT,
    TEXTS,
    WHOLE,
    Columns,
    Found,
    Kind,
    Rows,
    Shape,
    check,
    flags,
    hand_out,
    rows_of,
    together,
    typed,
    whole,
)

FEW: Final = 12  # rows; below, plain loops are faster than numpy
Times = tuple[Sequence[int], Sequence[int]]
_BOX = ("x0", "y0", "x1", "y1")


class Log(NamedTuple):
    """What the envelope says of records of one kind."""

    node: str
    stream: str
    epoch: int
    seqs: Sequence[int]


def records_of(found: Found, envelope: Envelope) -> tuple[AnyRecord, ...]:
    """Every record, in their order.

    Raises: Newer, WireError.
    """
    kinds = rows_of(found, _RECORDS).columns["kind"]
    if len(kinds) != envelope.count:
        raise WireError(f"decode records: expected {envelope.count} records, got {len(kinds)}")
    whole_kinds = set(map(type, kinds)) <= {int}
    if not whole_kinds or min(kinds) < 0 or max(kinds) >= len(schema.KINDS):
        raise Newer("decode records: expected a kind from 0 to 5, got another")
    _check_owned(found, set(kinds))
    seqs: dict[int, list[int]] = {}
    for seq, kind in enumerate(kinds, envelope.first):
        seqs.setdefault(kind, []).append(seq)
    parts = {kind: _part(found, kind, envelope, some) for kind, some in seqs.items()}
    if len(parts) == 1:
        return tuple(parts[kinds[0]])
    rows = {kind: iter(part) for kind, part in parts.items()}
    return tuple(next(rows[kind]) for kind in kinds)


_RINGS_OF = (schema.RING_POINTS.number, schema.RING_NUMBERS.number)
_OWNED: Final[dict[int, frozenset[int]]] = {  # the tables of each kind
    0: frozenset(range(2, 13)),
    1: frozenset({13, 14}),
    2: frozenset({15, 16}),
    **{kind: frozenset({14 + kind}) for kind in (3, 4, 5)},
}


def _check_owned(found: Found, kinds: Iterable[int]) -> None:
    """Raises: WireError for rows that would be read past, though they are known."""
    owned = {schema.RECORDS.number}.union(*map(_OWNED.__getitem__, kinds))
    if not owned.issuperset(found) or all(number in found for number in _RINGS_OF):
        raise WireError(f"decode records: expected tables of {sorted(kinds)}, got {sorted(found)}")


def _part(found: Found, kind: int, envelope: Envelope, seqs: Sequence[int]) -> list[Any]:
    """Of one kind as many records as seqs."""
    made = schema.KINDS[kind]
    rows = rows_of(found, _SHAPES[kind])
    if rows.size != len(seqs):
        raise WireError(f"decode records: expected {len(seqs)} rows of {made}, got {rows.size}")
    if made.klass is not envelope.klass:
        raise WireError(f"decode records: expected class {envelope.klass}, got another")
    log = Log(envelope.node, envelope.stream, envelope.epoch, seqs)
    if made is Result:
        return _results(found, rows, log)
    finish = _FINISH.get(kind)
    if finish:
        finish(found, rows.columns)
    return _plain(made, rows.columns, log)


def _plain(made: type[Record], columns: Columns, log: Log) -> list[Record]:
    same: dict[str, Any] = {"node": log.node, "stream": log.stream, "epoch": log.epoch}
    names = ("seq", *columns)
    rows = zip(log.seqs, *columns.values(), strict=True)
    return [made(**same, **dict(zip(names, row, strict=True))) for row in rows]


# ── results ───────────────────────────────────────────────────────────────────────────────────


def _results(found: Found, rows: Rows, log: Log) -> list[Result]:
    columns = rows.columns
    objects = _objects(found, columns["objects_n"])
    spacing = _spacing(columns)
    latencies, at_us = _times(columns)
    parts = zip(
        _bases(found, columns, log),
        *(log.seqs, at_us, columns["frame"], columns["captured_us"], _pts(found, columns)),
        *(columns["wait_us"], columns["infer_us"], latencies, spacing, columns["input_hash"]),
        hand_out(columns["labels_n"], "labels", _labels(found)),
        objects,
        measures_of(found, columns["measures_n"], objects, spacing),
        strict=True,
    )
    return [
        replace(
            base, seq=seq, at_us=at, frame=frame, captured_us=captured, pts_us=pts, wait_us=wait,
            infer_us=infer, latency_us=latency, spacing_mm=mm, input_hash=seen, labels=labels,
            objects=some, measures=measured,
        )
        for base, seq, at, frame, captured, pts, wait, infer, latency, mm, seen, labels, some,
        measured in parts
    ]  # fmt: skip


def _bases(found: Found, columns: Columns, log: Log) -> Iterable[Result]:
    """For each record one with all that rarely changes; neighbours alike have the same."""
    columns["size"] = together(columns, "width", "height")
    columns["roi"] = together(columns, "roi_x", "roi_y", "roi_w", "roi_h")
    columns["flags"] = _flags(found, columns["flags"])
    for row, run in groupby(zip(*(columns[name] for name in _RARELY), strict=True)):
        base = Result(
            node=log.node, stream=log.stream, epoch=log.epoch,
            **dict(zip(_RARELY, row, strict=True)),
        )  # fmt: skip
        for _ in run:
            yield base


_RARELY = (
    "boot", "schema", "term", "utc_offset_us", "utc_error_us", "size", "roi", "spacing_from",
    "model", "version", "sha", "variant", "backend", "settings", "every", "level", "flags", "exam",
)  # fmt: skip


def _flags(found: Found, values: Sequence[Any]) -> Sequence[Any]:
    field = schema.RESULT.column("flags")
    kept = {
        value: tuple(value.split(",")) if value else ()
        for value in dict.fromkeys(v for v in values if isinstance(v, str))
    }
    if found[schema.RESULT.number].codings.get(field, 4) in TEXTS:
        return [kept[value] for value in values]
    split = [kept[value] if isinstance(value, str) else value for value in values]
    return typed(split, list[tuple[str, ...]])  # type: ignore[no-any-return]


def _spacing(columns: Columns) -> Sequence[tuple[float, float] | None]:
    both = zip(columns["spacing_x"], columns["spacing_y"], strict=True)
    pairs = [None if x is None and y is None else (x, y) for x, y in both]
    kinds = set(map(type, columns["spacing_x"])) | set(map(type, columns["spacing_y"]))
    if len(kinds) == 1 and kinds <= {float, type(None)}:
        return pairs
    return typed(pairs, list[tuple[float, float] | None])  # type: ignore[no-any-return]


def _times(columns: Columns) -> Times:
    """(latency_us, at_us)"""
    names = ("captured_us", "wait_us", "infer_us", "rest_us", "done_us")
    every = [columns[name] for name in names]
    if len(every[0]) < FEW:
        few = [wrap(wait + infer + rest) for _, wait, infer, rest, _ in zip(*every, strict=True)]
        return few, [wrap(a + b + c) for a, b, c in zip(every[0], few, every[4], strict=True)]
    captured, wait, infer, rest, done = map(_int64, every)
    latency = wait + infer + rest
    return latency.tolist(), (captured + latency + done).tolist()


def _int64(values: Sequence[int]) -> NDArray[np.int64]:
    """Modulo 2**64."""
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array([wrap(value) for value in values], np.int64)


def _pts(found: Found, columns: Columns) -> Sequence[Any]:
    table = found[schema.RESULT.number]
    pts, lags = columns["pts_us"], table.columns.get(schema.PTS_LAG, ())
    lags = lags.tolist() if isinstance(lags, np.ndarray) else lags
    if any(lag is not None for lag in lags):
        whole([lag for lag in lags if lag is not None])
        pts = [
            one if lag is None else wrap(at - lag)
            for one, lag, at in zip(pts, lags, columns["captured_us"], strict=True)
        ]
    if table.codings.get(schema.RESULT.column("pts_us"), 0) in MAYBE_INT.sure:
        return pts
    return typed(pts, MAYBE_INT.many)  # type: ignore[no-any-return]


def _labels(found: Found) -> Sequence[Label]:
    rows = rows_of(found, _LABELS)
    parts = together(rows.columns, "head", "label", "score")
    return rows.own_order([Label(head=h, label=one, score=score) for h, one, score in parts])


def _objects(found: Found, counts: Sequence[int]) -> list[tuple[Object, ...]]:
    """Those of each record."""
    rows = rows_of(found, _OBJECTS)
    columns = rows.columns
    masks = hand_out(columns["mask_n"], "masks", _masks(found))
    if max(columns["mask_n"], default=0) > 1:
        raise WireError("decode records: expected at most one mask for an object, got more")
    points = together(rows_of(found, _KEYPOINTS).columns, "x", "y", "score")
    check(counts, "objects", rows.size)
    places = [place for count in counts for place in range(1, count + 1)]
    parts = zip(
        places if rows.moved is None else [places[row] for row in rows.moved],
        *(columns[name] for name in ("id", "track", "head", "label", "score")),
        together(columns, *_BOX),
        masks,
        hand_out(columns["keypoints_n"], "keypoints", points),
        strict=True,
    )
    made = [
        Object(
            id=wrap(less + place), track=track, head=head, label=label, score=score, box=box,
            mask=some[0] if some else None, keypoints=keypoints,
        )
        for place, less, track, head, label, score, box, some, keypoints in parts
    ]  # fmt: skip
    return hand_out(counts, "objects", rows.own_order(made))


def _masks(found: Found) -> Sequence[Mask]:
    rows = rows_of(found, _MASKS)
    rings = hand_out(rows_of(found, _RINGS).columns["numbers_n"], "numbers", _ring_numbers(found))
    runs = rows_of(found, _RUNS).columns["number"]
    columns = rows.columns
    flags(columns["exact"])
    parts = zip(
        columns["area_px"],
        together(columns, *_BOX),
        hand_out(columns["rings_n"], "rings", rings),
        hand_out(columns["runs_n"], "runs", runs),
        columns["exact"],
        strict=True,
    )
    return [
        Mask(area_px=area, box=box, rings=some, runs=run, exact=bool(exact))
        for area, box, some, run, exact in parts
    ]


def _ring_numbers(found: Found) -> Sequence[int]:
    points = rows_of(found, _RING_POINTS)
    if not points.size:
        return rows_of(found, _RING_NUMBERS).columns["number"]
    numbers: list[Any] = [None] * (2 * points.size)
    numbers[::2], numbers[1::2] = points.columns["x"], points.columns["y"]
    return numbers


# ── the others ────────────────────────────────────────────────────────────────────────────────


def _finish_tallies(found: Found, columns: Columns) -> None:
    rows = rows_of(found, _DROPPED)
    drops = rows.own_order(together(rows.columns, "reason", "count"))
    try:
        parts = hand_out(columns.pop("dropped_n"), "dropped", drops)
        some = list(map(dict, parts))
    except TypeError as error:
        raise WireError("decode records: expected reasons in words, got lists") from error
    if any(len(one) < len(part) for one, part in zip(some, parts, strict=True)):
        raise WireError("decode records: expected each reason once, got one twice")
    columns["dropped"] = typed(some, list[dict[str, int]])


def _finish_model_stats(found: Found, columns: Columns) -> None:
    scores = rows_of(found, _SCORES).columns["number"]
    columns["scores"] = hand_out(columns.pop("scores_n"), "scores", scores)


def _finish_clocks(_: Found, columns: Columns) -> None:
    columns["synchronised"] = flags(columns["synchronised"])


_FINISH: dict[int, Callable[[Found, Columns], None]] = {
    1: _finish_tallies,
    2: _finish_model_stats,
    3: _finish_clocks,
}
_STATE = Kind(frozenset(), list[Literal["raised", "cleared"]])
_SEVERITY = Kind(frozenset(), list[Literal["warning", "critical"]])
_NUMBER = {INT: "number"}
_RECORDS = Shape(schema.RECORDS, {})
_RESULT = Shape(
    schema.RESULT,
    {
        TEXT: "model version variant backend spacing_from boot sha settings exam input_hash",
        INT: "schema every level term width height roi_x roi_y roi_w roi_h frame",
        MAYBE_INT: "utc_offset_us utc_error_us",
        WHOLE: "labels_n objects_n measures_n captured_us wait_us infer_us rest_us done_us",
    },
)
_SHAPES = (
    _RESULT,
    Shape(
        schema.TALLY,
        {TEXT: "boot state", INT: "at_us captured inferred frozen", WHOLE: "dropped_n"},
    ),
    Shape(
        schema.MODEL_STATS,
        {
            TEXT: "boot model version",
            INT: "at_us frames findings",
            FLOAT: "input_mean input_sd",
            WHOLE: "scores_n",
        },
    ),
    Shape(schema.CLOCK, {TEXT: "boot", INT: "at_us", MAYBE_INT: "utc_offset_us utc_error_us"}),
    Shape(
        schema.ALARM,
        {TEXT: "boot code what fix", INT: "at_us since_us", _STATE: "state", _SEVERITY: "severity"},
    ),
    Shape(schema.EVENT, {TEXT: "boot name what", INT: "at_us"}),
)
_LABELS = Shape(schema.LABELS, {TEXT: "head label", FLOAT: "score"})
_OBJECTS = Shape(
    schema.OBJECTS,
    {
        WHOLE: "id mask_n keypoints_n",
        INT: "track",
        TEXT: "head label",
        FLOAT: "score x0 y0 x1 y1",
    },
)
_MASKS = Shape(schema.MASKS, {WHOLE: "rings_n runs_n", INT: "area_px x0 y0 x1 y1"})
_RINGS = Shape(schema.RINGS, {WHOLE: "numbers_n"})
_RING_POINTS = Shape(schema.RING_POINTS, {INT: "x y"})
_RING_NUMBERS = Shape(schema.RING_NUMBERS, _NUMBER)
_RUNS = Shape(schema.RUNS, _NUMBER)
_KEYPOINTS = Shape(schema.KEYPOINTS, {FLOAT: "x y score"})
_DROPPED = Shape(schema.DROPPED, {})
_SCORES = Shape(schema.SCORES, _NUMBER)
