"""Records for the tests of the wire: any at all, and some as a camera would make them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from edge_agent.core.frames import (
    Alarm,
    AnyRecord,
    ClockMap,
    Event,
    Label,
    Mask,
    Measure,
    ModelStats,
    Object,
    RecordClass,
    Result,
    Tally,
    pack,
)
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
SMALL = st.integers(0, 1 << 20)
INTS = SMALL | INT64
WORDS = st.sampled_from(["", "polyp", "a,b", "00ff", "deadbeefdeadbeef", "0f0", "Größe", ","])
FLOATS = (
    st.integers(-30_000, 30_000).map(lambda n: n / 10)
    | st.integers(0, 10_000).map(lambda n: n / 10_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([0.0, -0.0, 1e308, 1e300, 5e-324, 12340.0, 1e15, 1e22])
)
BOXES = st.tuples(FLOATS, FLOATS, FLOATS, FLOATS)
LABELS = st.builds(Label, head=WORDS, label=WORDS, score=FLOATS)
MASKS = st.builds(
    Mask,
    area_px=INTS,
    box=st.tuples(INTS, INTS, INTS, INTS),
    rings=st.lists(st.lists(SMALL, max_size=9).map(tuple), max_size=3).map(tuple),
    runs=st.lists(SMALL, max_size=9).map(tuple),
    exact=st.booleans(),
)
OBJECTS = st.builds(
    Object,
    id=st.integers(0, 5) | INTS,
    track=st.integers(0, 4) | INTS,
    head=WORDS,
    label=WORDS,
    score=FLOATS,
    box=BOXES,
    mask=st.none() | MASKS,
    keypoints=st.lists(st.tuples(FLOATS, FLOATS, FLOATS), max_size=3).map(tuple),
)
MEASURES = st.builds(
    Measure,
    name=WORDS,
    value=FLOATS,
    unit=st.sampled_from(["mm", "px", "px2", "1"]),
    object=st.none() | st.integers(0, 5),
    points=(st.lists(FLOATS, max_size=5) | st.tuples(FLOATS, FLOATS, FLOATS, FLOATS)).map(tuple),
    sd=st.none() | FLOATS,
    method=WORDS,
)
_LOG = {"node": st.just("cart-07"), "stream": st.just("probe-a")}
_COMMON = {**_LOG, "boot": WORDS, "at_us": INTS}
RESULTS = st.builds(
    Result,
    **_COMMON,
    frame=INTS,
    term=INTS,
    captured_us=INTS,
    utc_offset_us=st.none() | INTS,
    utc_error_us=st.none() | INTS,
    pts_us=st.none() | INTS,
    wait_us=INTS,
    infer_us=INTS,
    latency_us=INTS,
    size=st.tuples(SMALL, SMALL),
    roi=st.tuples(SMALL, SMALL, SMALL, SMALL),
    spacing_mm=st.none() | st.tuples(FLOATS, FLOATS),
    input_hash=WORDS,
    model=WORDS,
    every=SMALL,
    flags=st.lists(WORDS, max_size=3).map(tuple),
    exam=WORDS,
    labels=st.lists(LABELS, max_size=3).map(tuple),
    objects=st.lists(OBJECTS, max_size=3).map(tuple),
    measures=st.lists(MEASURES, max_size=3).map(tuple),
)
TALLIES = st.builds(
    Tally,
    **_COMMON,
    state=WORDS,
    captured=INTS,
    inferred=INTS,
    frozen=INTS,
    dropped=st.dictionaries(WORDS, INTS, max_size=4),
)
STATS = st.builds(
    ModelStats,
    **_COMMON,
    model=WORDS,
    frames=INTS,
    scores=st.lists(SMALL, max_size=12).map(tuple),
    input_mean=FLOATS,
    input_sd=FLOATS,
)
CLOCKS = st.builds(ClockMap, **_COMMON, utc_offset_us=st.none() | INTS, synchronised=st.booleans())
EVENTS = st.builds(Event, **_COMMON, name=WORDS, what=st.text(max_size=40))
ALARMS = st.builds(
    Alarm,
    **_COMMON,
    code=WORDS,
    state=st.sampled_from(["raised", "cleared"]),
    severity=st.sampled_from(["warning", "critical"]),
    since_us=INTS,
    what=WORDS,
    fix=WORDS,
)
BY_CLASS = {
    RecordClass.RESULT: RESULTS,
    RecordClass.TELEMETRY: TALLIES | STATS,
    RecordClass.EVENT: CLOCKS | EVENTS,
    RecordClass.ALARM: ALARMS,
}


def numbered(records: Sequence[AnyRecord], epoch: int = 5 << 32, first: int = 1) -> list[AnyRecord]:
    """The same records as one log."""
    return [
        msgspec.structs.replace(record, node="cart-07", stream="probe-a", epoch=epoch, seq=seq)
        for seq, record in enumerate(records, first)
    ]


BATCHES = st.one_of(
    *(st.lists(some, min_size=1, max_size=6).map(numbered) for some in BY_CLASS.values()),
    # Long columns: the same few records again and again.
    st.tuples(st.lists(RESULTS, min_size=1, max_size=3), st.integers(12, 40)).map(
        lambda pair: numbered([pair[0][i % len(pair[0])] for i in range(pair[1])])
    ),
)


def example(strategy: st.SearchStrategy[AnyRecord], seed: int) -> AnyRecord:
    """One of many; the same for the same seed."""
    found: list[AnyRecord] = []

    @settings(max_examples=1 + seed, database=None, deadline=None, phases=[Phase.generate])
    @hypothesis_seed(seed)
    @given(strategy)
    def look(record: AnyRecord) -> None:
        found.append(record)

    look()
    return found[-1]


def packed(records: Sequence[AnyRecord]) -> bytes:
    """Equal exactly when the records are, to the last bit of a float."""
    return b"".join(map(pack, records))


def codecs(*, dictionary: bool = True) -> Codecs:
    """All that is shipped, and allowed."""
    made = Codecs([DICTIONARY_1] if dictionary else [])
    made.allow(made.ids)
    return made


def clip(count: int, seed: int = 1, objects: int = 2) -> list[AnyRecord]:
    """Results as a detector would make them: smooth, with jitter; contours on the first object."""
    chance = random.Random(seed)
    return numbered([_result(chance, number, objects) for number in range(count)])


def _result(chance: random.Random, number: int, objects: int) -> Result:
    captured = 9_000_000 + number * 33_333 + round(chance.gauss(0, 200))
    wait, infer = round(chance.gauss(300, 20)), round(chance.gauss(6000, 90))
    return Result(
        node="cart-07", stream="probe-a", boot="0badcafe",
        at_us=captured + wait + infer + 400, frame=number + 7,
        captured_us=captured, pts_us=captured - 9000 if number % 2 else None, wait_us=wait,
        infer_us=infer, latency_us=wait + infer + 400, size=(640, 480), roi=(0, 0, 640, 480),
        spacing_mm=(0.1, 0.1), input_hash=f"{chance.getrandbits(32):08x}", model="us-chamber",
        objects=tuple(_object(chance, number, place) for place in range(objects)),
        measures=tuple(
            Measure(name="width", value=round(40 * 0.1 + number / 100, 3), unit="mm",
                    object=place + 1, points=(100.0, 120.5, 140.0, 120.5), method="box")
            for place in range(objects)
        ),
    )  # fmt: skip


def _object(chance: random.Random, number: int, place: int) -> Object:
    x = 100 + 80 * place + number * 0.4
    x0, y0, x1, y1 = (round(n + chance.gauss(0, 0.5), 1) for n in (x, 100.0, x + 40, 141.0))
    ring = tuple(round(800 + 200 * math.cos(k / 5) + chance.gauss(0, 4)) for k in range(64))
    return Object(
        id=place + 1, track=place + 3, head="chambers", label="lv", box=(x0, y0, x1, y1),
        score=round(chance.betavariate(8, 2), 4),
        mask=Mask(area_px=1600 + number, box=(99, 99, 142, 142), rings=(ring,)) if place else None,
    )  # fmt: skip
