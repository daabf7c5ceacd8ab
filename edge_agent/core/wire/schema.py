"""Which number on the wire is which field of which record: `docs/wire.md` in a form that runs.

Numbers are never given twice. A field that is not there has its default; a new field gets a new
number, and older readers skip it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from edge_agent.core.frames import (
    Alarm,
    ClockMap,
    Event,
    ModelStats,
    Record,
    Result,
    Tally,
)
from edge_agent.core.wire import arrays
from edge_agent.core.wire.tables import MAX_NUMBER_ROWS, MAX_ROWS, Known

REQUIRED: Final = object()


Parts = Mapping[str, Sequence[Any]]  # of rows of one kind: a column for each of their fields
Column = Callable[[Parts], Sequence[Any]]


class Field(NamedTuple):
    """get: the column, of the parts of all rows. default: of a column that is left out."""

    number: int
    name: str
    default: Any
    get: Column


class Spec(NamedTuple):
    """A table. In the order in which its columns are written: what rarely changes first."""

    number: int
    fields: tuple[Field, ...]
    most: int = MAX_ROWS

    def column(self, name: str) -> int:
        """The number of a field."""
        return next(field.number for field in self.fields if field.name == name)


def _field(number: int, name: str, default: Any = REQUIRED, get: Column | None = None) -> Field:
    return Field(number, name, default, get or itemgetter(name))


def _size(name: str) -> Column:
    return lambda parts: list(map(len, parts[name]))


def _item(name: str, index: int) -> Column:
    one = itemgetter(index)
    return lambda parts: list(map(one, parts[name]))


def _flag(name: str) -> Column:
    return lambda parts: list(map(int, parts[name]))


def _there(name: str) -> Column:
    return lambda parts: [int(part is not None) for part in parts[name]]


def _spacing(index: int) -> Column:
    return lambda parts: [some if some is None else some[index] for some in parts["spacing_mm"]]


def _flags(parts: Parts) -> list[str | list[str]]:
    return list(map(_joined, parts["flags"]))


def _joined(flags: Sequence[str]) -> str | list[str]:
    """By commas, as long as that can be undone."""
    joined = ",".join(flags)
    return joined if (joined.split(",") if joined else []) == list(flags) else list(flags)


def _less(*names: str) -> Column:
    return lambda parts: arrays.less(*map(parts.__getitem__, names))


RECORDS = Spec(1, (_field(1, "kind"),))
RESULT = Spec(
    2,
    (
        _field(1, "model", ""),
        _field(2, "version", ""),
        _field(3, "variant", ""),
        _field(4, "backend", ""),
        _field(5, "flags", "", _flags),
        _field(6, "spacing_from", ""),
        _field(7, "schema", 1),
        _field(8, "every", 1),
        _field(9, "level", 0),
        _field(10, "term", 0),
        _field(11, "width", 0, _item("size", 0)),
        _field(12, "height", 0, _item("size", 1)),
        _field(13, "roi_x", 0, _item("roi", 0)),
        _field(14, "roi_y", 0, _item("roi", 1)),
        _field(15, "roi_w", 0, _item("roi", 2)),
        _field(16, "roi_h", 0, _item("roi", 3)),
        _field(17, "labels_n", 0, _size("labels")),
        _field(18, "objects_n", 0, _size("objects")),
        _field(19, "measures_n", 0, _size("measures")),
        _field(20, "spacing_x", None, _spacing(0)),
        _field(21, "spacing_y", None, _spacing(1)),
        _field(22, "boot", ""),
        _field(23, "sha", ""),
        _field(24, "settings", ""),
        _field(25, "exam", ""),
        _field(26, "utc_offset_us", None),
        _field(27, "utc_error_us", None),
        _field(28, "pts_us", None),  # or PTS_LAG
        _field(29, "captured_us", 0),
        _field(30, "frame", 0),
        _field(31, "wait_us", 0),
        _field(32, "infer_us", 0),
        _field(33, "rest_us", 0, _less("latency_us", "wait_us", "infer_us")),
        _field(34, "done_us", 0, _less("at_us", "captured_us", "latency_us")),
        _field(35, "input_hash", ""),
    ),
)
PTS_LAG: Final = 36  # captured_us - pts_us, where that says it in fewer bytes
LABELS = Spec(3, (_field(1, "head"), _field(2, "label"), _field(3, "score")))
# `place`: which of the objects of its record, from 1 on.
OBJECTS = Spec(
    4,
    (
        _field(1, "id", 0, _less("id", "place")),
        _field(2, "mask_n", 0, _there("mask")),
        _field(3, "keypoints_n", 0, _size("keypoints")),
        _field(4, "track", 0),
        _field(5, "head", ""),
        _field(6, "label", ""),
        _field(7, "score"),
        _field(8, "x0", REQUIRED, _item("box", 0)),
        _field(9, "y0", REQUIRED, _item("box", 1)),
        _field(10, "x1", REQUIRED, _item("box", 2)),
        _field(11, "y1", REQUIRED, _item("box", 3)),
    ),
)
MASKS = Spec(
    5,
    (
        _field(1, "exact", 0, _flag("exact")),
        _field(2, "rings_n", 0, _size("rings")),
        _field(3, "runs_n", 0, _size("runs")),
        _field(4, "area_px"),
        _field(5, "x0", REQUIRED, _item("box", 0)),
        _field(6, "y0", REQUIRED, _item("box", 1)),
        _field(7, "x1", REQUIRED, _item("box", 2)),
        _field(8, "y1", REQUIRED, _item("box", 3)),
    ),
)
RINGS = Spec(6, (_field(1, "numbers_n"),), MAX_NUMBER_ROWS)
RING_POINTS = Spec(7, (_field(1, "x"), _field(2, "y")), MAX_NUMBER_ROWS)
_NUMBER = (_field(1, "number"),)
RING_NUMBERS = Spec(8, _NUMBER, MAX_NUMBER_ROWS)  # when a ring has half a point
RUNS = Spec(9, _NUMBER, MAX_NUMBER_ROWS)
KEYPOINTS = Spec(10, (_field(1, "x"), _field(2, "y"), _field(3, "score")))
# Either value, or places and rest.
MEASURES = Spec(
    11,
    (
        _field(1, "name"),
        _field(2, "unit", ""),
        _field(3, "method", ""),
        _field(4, "points_n", 0, _size("points")),
        _field(5, "object", None),
        _field(6, "sd", None),
        _field(7, "value", None),
    ),
)
MEASURE_PLACES = _field(8, "places", None)
MEASURE_REST = _field(9, "rest", None)
MEASURES_READ = Spec(11, (*MEASURES.fields, MEASURE_PLACES, MEASURE_REST))
# Either number, or anchor and distance.
MEASURE_POINTS = Spec(12, _NUMBER, MAX_NUMBER_ROWS)
MEASURE_DISTANCES = Spec(12, (_field(2, "anchor"), _field(3, "distance")), MAX_NUMBER_ROWS)
_COMMON = (_field(1, "boot", ""), _field(2, "at_us", 0))
TALLY = Spec(
    13,
    (
        *_COMMON,
        _field(3, "state", ""),
        _field(4, "captured", 0),
        _field(5, "inferred", 0),
        _field(6, "frozen", 0),
        _field(7, "dropped_n", 0, _size("dropped")),
    ),
)
DROPPED = Spec(14, (_field(1, "reason"), _field(2, "count")))
MODEL_STATS = Spec(
    15,
    (
        *_COMMON,
        _field(3, "model", ""),
        _field(4, "version", ""),
        _field(5, "frames", 0),
        _field(6, "findings", 0),
        _field(7, "scores_n", 0, _size("scores")),
        _field(8, "input_mean"),
        _field(9, "input_sd"),
    ),
)
SCORES = Spec(16, _NUMBER)
CLOCK = Spec(
    17,
    (
        *_COMMON,
        _field(3, "utc_offset_us", None),
        _field(4, "utc_error_us", None),
        _field(5, "synchronised", 0, _flag("synchronised")),
    ),
)
ALARM = Spec(
    18,
    (
        *_COMMON,
        _field(3, "code", ""),
        _field(4, "state", "raised"),
        _field(5, "severity", "warning"),
        _field(6, "since_us", 0),
        _field(7, "what", ""),
        _field(8, "fix", ""),
    ),
)
EVENT = Spec(19, (*_COMMON, _field(3, "name", ""), _field(4, "what", "")))

KINDS: tuple[type[Record], ...] = (Result, Tally, ModelStats, ClockMap, Alarm, Event)
KIND_TABLES = (RESULT, TALLY, MODEL_STATS, CLOCK, ALARM, EVENT)
TABLES = (
    *(RECORDS, *KIND_TABLES, LABELS, OBJECTS, MASKS, RINGS, RING_POINTS, RING_NUMBERS, RUNS),
    *(KEYPOINTS, MEASURES_READ, MEASURE_POINTS, DROPPED, SCORES),
)
KNOWN = {
    spec.number: Known(frozenset(field.number for field in spec.fields), spec.most)
    for spec in TABLES
}
KNOWN[12] = Known(frozenset({1, 2, 3}), MAX_NUMBER_ROWS)
KNOWN[2] = Known(KNOWN[2].fields | {PTS_LAG}, MAX_ROWS)
