"""How large records are once they are decoded, in the same bytes at every coding. Section 4 of
`docs/wire.md` has the rule; both sides keep to it, so that nothing is sent that is refused there.

A few bytes can say "the same text in 4,000 rows": what is decoded is bounded by this, not by the
length of what came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final

from edge_agent.core.frames import (
    Alarm,
    AnyRecord,
    ClockMap,
    Event,
    ModelStats,
    Object,
    Result,
    Tally,
    pack,
)

VALUE_BYTES: Final = 16
RECORD_VALUES: Final = 32  # of a record without lists
MAX_RECORD_BYTES: Final = 1 << 20  # 100 objects with the longest contours are 700 kB
MAX_BATCH_BYTES: Final = 1 << 22  # of all records of one envelope
MAX_BUNDLE_BYTES: Final = 1 << 24  # of all records of one bundle
# Values of one row of a table; those of records themselves are `RECORD_VALUES`.
VALUES: Final[Mapping[int, int]] = {
    2: RECORD_VALUES, 13: RECORD_VALUES, 15: RECORD_VALUES, 17: RECORD_VALUES, 18: RECORD_VALUES,
    19: RECORD_VALUES, 1: 0, 3: 4, 4: 16, 5: 16, 6: 1, 7: 2, 8: 1, 9: 1, 10: 4, 11: 8, 12: 1,
    14: 2, 16: 1,
}  # fmt: skip

MAX_BUNDLE_CELLS: Final = 1 << 22


class Budget:
    """What the bodies of one bundle may cost to read, as their heads tell. Those that turn out to
    be errors cost too: a bundle of errors takes no longer than one that is as large as may be.
    left: values, cells.
    """

    def __init__(self) -> None:
        self.left = (MAX_BUNDLE_BYTES // VALUE_BYTES, MAX_BUNDLE_CELLS)

    def spend(self, values: int, cells: int) -> bool:
        """False: it is more than is left."""
        if values > self.left[0] or cells > self.left[1]:
            return False
        self.left = (self.left[0] - values, self.left[1] - cells)
        return True


_TEXTS: Final[Mapping[type, tuple[str, ...]]] = {
    Result: (
        *("model", "version", "variant", "backend", "spacing_from", "boot", "sha", "settings"),
        *("exam", "input_hash"),
    ),
    Tally: ("boot", "state"),
    ModelStats: ("boot", "model", "version"),
    ClockMap: ("boot",),
    Alarm: ("boot", "code", "state", "severity", "what", "fix"),
    Event: ("boot", "name", "what"),
}


def size_of(record: AnyRecord) -> int:
    """Bytes of one record as decoded: 16 for each value, and its texts in UTF-8."""
    return VALUE_BYTES * values_of(record) + _text_bytes(_texts_of(record))


def values_of(record: AnyRecord) -> int:
    """How many values it has."""
    if isinstance(record, Result):
        points = sum(len(measure.points) for measure in record.measures)
        objects = sum(map(_values_of_object, record.objects))
        lists = 4 * len(record.labels) + objects + 8 * len(record.measures) + points
        return RECORD_VALUES + lists
    if isinstance(record, Tally):
        return RECORD_VALUES + 2 * len(record.dropped)
    if isinstance(record, ModelStats):
        return RECORD_VALUES + len(record.scores)
    return RECORD_VALUES


def _values_of_object(item: Object) -> int:
    mask = item.mask
    if mask is None:
        return 16 + 4 * len(item.keypoints)
    numbers = sum(map(len, mask.rings)) + len(mask.rings) + len(mask.runs)
    return 32 + 4 * len(item.keypoints) + numbers


def _texts_of(record: AnyRecord) -> Iterable[str]:
    texts: Iterable[str] = [getattr(record, name) for name in _TEXTS[type(record)]]
    if isinstance(record, Result):
        named = [(item.head, item.label) for item in record.labels]
        named += [(item.head, item.label) for item in record.objects]
        measures = ((one.name, one.unit, one.method) for one in record.measures)
        flags = ",".join(record.flags)
        return chain(texts, (flags,), chain.from_iterable(named), chain.from_iterable(measures))
    return chain(texts, record.dropped) if isinstance(record, Tally) else texts


def _text_bytes(texts: Iterable[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)


def at_most(records: Iterable[AnyRecord]) -> int:
    """No less than all of them together: quick, of records that are small enough to be packed."""
    return sum(VALUE_BYTES * values_of(record) + len(pack(record)) for record in records)


def fault(records: Sequence[AnyRecord]) -> str:
    """What of these records is beyond the bounds, in words; "" when nothing is."""
    total = 0
    for record in records:
        size = size_of(record)
        if size > MAX_RECORD_BYTES:
            return f"records of at most {MAX_RECORD_BYTES} bytes decoded, got one of {size}"
        total += size
    if total > MAX_BATCH_BYTES:
        return f"at most {MAX_BATCH_BYTES} bytes of records decoded, got {total}"
    return ""
