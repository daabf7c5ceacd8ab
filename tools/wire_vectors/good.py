"""What has to be read: every table, coding, block, codec and kind."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

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
    Result,
    Tally,
)
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from tools.wire_vectors.hand import (
    NODE,
    STREAM,
    Vector,
    bundle,
    encoded,
    live,
    numbered,
)

LOG: dict[str, Any] = {"node": NODE, "stream": STREAM, "boot": "0badcafe"}
PROVENANCE: dict[str, Any] = {
    "model": "us-chamber",
    "version": "1.0.0",
    "sha": "00112233445566ff",
    "variant": "fp16",
    "backend": "tensorrt",
    "settings": "0a0b0c0d",
    "size": (640, 480),
    "roi": (0, 0, 640, 480),
}


def one(name: str, why: str, *payloads: bytes, brief: bool = False) -> Vector:
    return Vector(name=name, why=why, payloads=list(payloads), brief=brief)


# ── records as the agent has them ─────────────────────────────────────────────────────────────


def clip(count: int, *, contours: bool = False) -> list[AnyRecord]:
    """Two tracked boxes that move, with jitter and measures."""
    chance = random.Random(7)
    return numbered([_result(chance, number, contours=contours) for number in range(count)])


def _result(chance: random.Random, number: int, *, contours: bool) -> Result:
    captured = 9_000_000 + 33_333 * number + chance.randrange(200)
    wait, infer = 300 + chance.randrange(40), 6000 + chance.randrange(200)
    objects = tuple(_object(chance, number, place, contours=contours) for place in (0, 1))
    return Result(
        **LOG,
        **PROVENANCE,
        at_us=captured + wait + infer + 700,
        frame=270 + number,
        captured_us=captured,
        utc_offset_us=1_790_000_000_000_000,
        utc_error_us=1200,
        pts_us=captured - 9000 - chance.randrange(9),
        wait_us=wait,
        infer_us=infer,
        latency_us=wait + infer + 400,
        spacing_mm=(0.1, 0.12),
        spacing_from="dicom",
        input_hash=f"{chance.getrandbits(32):08x}",
        labels=(
            Label(head="view", label=("a4c", "plax")[number % 2], score=0.9),
            Label(head="quality", label="good", score=round(chance.random(), 4)),
        ),
        objects=objects,
        measures=tuple(_measure(item) for item in objects),
    )


def _object(chance: random.Random, number: int, place: int, *, contours: bool) -> Object:
    x0, y0 = (round(base + chance.gauss(0, 0.5), 1) for base in (100 + 90 * place + number, 100.5))
    box = (x0, y0, round(x0 + 40.2, 1), round(y0 + 41, 1))
    ring = tuple(
        round(v)
        for k in range(24)
        for v in (
            8 * (x0 + 20) + 150 * math.cos(k / 3.82) + chance.gauss(0, 3),
            8 * (y0 + 20) + 150 * math.sin(k / 3.82) + chance.gauss(0, 3),
        )
    )
    mask = Mask(
        area_px=1204 + number, box=(int(x0), int(y0), int(x0) + 41, int(y0) + 42), rings=(ring,)
    )
    return Object(
        id=place + 1,
        track=3 + (number // 2 + place) % 2,
        head="chambers",
        label=("lv", "rv")[place],
        score=round(chance.betavariate(8, 2), 4),
        box=box,
        mask=mask if contours else None,
        keypoints=((round(x0 + 1, 1), round(y0 + 1, 1), 0.75),) if contours and place else (),
    )


def _measure(item: Object) -> Measure:
    x0, y0, x1, y1 = item.box
    middle = round((y0 + y1) / 2, 1)
    return Measure(
        name="width",
        value=float(f"{(x1 - x0) * 0.1:.4g}"),
        unit="mm",
        object=item.id,
        points=(x0, middle, x1, middle),
        method="bounding-box",
    )


def records_of_every_kind() -> Iterator[Vector]:
    alarms = [
        Alarm(
            **LOG,
            at_us=70_000_000,
            code="no-signal",
            severity="critical",
            since_us=68_000_000,
            what="no frame arrives",
            fix="check the video cable",
        ),
        Alarm(**LOG, at_us=71_000_000, code="black", what="the picture is black"),
        Alarm(
            **LOG,
            at_us=90_000_000,
            code="no-signal",
            state="cleared",
            severity="critical",
            since_us=90_000_000,
        ),
    ]
    yield one(
        "alarms", "raised and cleared, of both severities", bundle(encoded(numbered(alarms), 0))
    )
    events: list[AnyRecord] = [
        Event(**LOG, at_us=1000, name="started"),
        ClockMap(**LOG, at_us=2000),
        ClockMap(
            **LOG,
            at_us=3000,
            utc_offset_us=1_790_000_000_000_000,
            utc_error_us=1200,
            synchronised=True,
        ),
        Event(**LOG, at_us=4000, name="reloaded", what='Größe ≥ 3\n"ok" \U0001f600'),
    ]
    yield one(
        "events-and-clocks",
        "two kinds in one batch, null among integers, text of many letters",
        bundle(encoded(numbered(events, 41), 0)),
    )
    yield from telemetry_and_results()


def telemetry_and_results() -> Iterator[Vector]:
    telemetry: list[AnyRecord] = [
        Tally(
            **LOG,
            at_us=10**6 * n,
            state="ok",
            captured=30 * n,
            inferred=30 * n - 1,
            dropped={"late": 1, **({"shed": n} if n % 2 else {})},
        )
        for n in range(1, 8)
    ]
    telemetry.insert(
        3,
        ModelStats(
            **LOG,
            at_us=60_000_000,
            model="us-chamber",
            version="1.0.0",
            frames=1800,
            findings=1710,
            scores=(0, 0, 3, 7, 20, 60, 210, 500, 700, 300),
            input_mean=61.25,
            input_sd=30.5,
        ),
    )
    yield one(
        "telemetry",
        "tallies with groups of reasons, and model_stats between them",
        bundle(encoded(numbered(telemetry), 1)),
    )
    for codec, name in ((0, "raw"), (1, "zstd"), (2, "dictionary")):
        yield one(
            f"results-{name}",
            f"labels, boxes, measures; codec {codec}",
            bundle(encoded(clip(2), codec, DICTIONARY_1)),
        )
    yield one("live", "one result, as it is sent live", bundle(live(clip(1), DICTIONARY_1)))
    yield one(
        "contours", "masks, rings, keypoints", bundle(live(clip(2, contours=True), DICTIONARY_1))
    )
    yield one("backlog", "7 results: longer columns", bundle(live(clip(7), DICTIONARY_1)))
    yield from odd_results()


def odd_results() -> Iterator[Vector]:
    plain = Result(**LOG)
    yield one("result-of-defaults", "every field left out", bundle(encoded(numbered([plain]), 0)))
    masks = (
        Mask(area_px=9, box=(1, 2, 4, 5), runs=(0, 3, 1, 2), exact=True),
        Mask(area_px=1, box=(0, 0, 1, 1), rings=((8, 8, 16), (), (1, 2, 3, 4))),
        Mask(area_px=0, box=(-5, -6, -1, -2)),
    )
    objects = tuple(
        Object(
            id=9 - n, track=0, head="h", label="", score=0.5, box=(-1.5, -2.0, 3.25, 4.0), mask=m
        )
        for n, m in enumerate(masks)
    )
    yield one(
        "masks",
        "runs, a ring of half a point (table 8), an empty one, ids that do not rise",
        bundle(encoded(numbered([Result(**LOG, objects=objects)]), 0)),
    )
    yield from odd_doubles()
    yield from measured()


def odd_doubles() -> Iterator[Vector]:
    floats = (0.1 + 0.2, -0.0, 1e300, 5e-324, -1.7976931348623157e308, 2.0**60, 1e22, 123456.789)
    labels = tuple(Label(head="h", label="l", score=value) for value in floats)
    yield one(
        "doubles",
        "doubles that are no short decimals, to the last bit; -0.0 stays it",
        bundle(encoded(numbered([Result(**LOG, labels=labels)]), 0)),
    )
    far = (1 << 63) - 1
    yield one(
        "far-integers",
        "the ends of 64 bits; times modulo 2^64",
        bundle(
            encoded(
                numbered(
                    [
                        Result(
                            **LOG,
                            at_us=-far - 1,
                            captured_us=far,
                            latency_us=-1,
                            frame=far,
                            pts_us=-far,
                        ),
                        Result(
                            **LOG,
                            at_us=far,
                            captured_us=-far - 1,
                            wait_us=far,
                            infer_us=far,
                            frame=-far - 1,
                        ),
                    ]
                ),
                0,
            )
        ),
    )


def measured() -> Iterator[Vector]:
    box = Object(id=4, track=1, head="h", label="l", score=0.5, box=(10.05, 20.0, 30.5, 40.25))
    measures = tuple(
        Measure(name=name, value=value, unit=unit, object=item, points=points, sd=sd, method="m")
        for name, value, unit, item, points, sd in (
            ("across", 20.45, "px", 4, (10.05, 20.0, 30.5, 20.0), None),
            ("along", 2.03, "mm", 4, (20.2, 20.0, 20.2, 40.3), 0.25),
            ("area", 414.1, "mm2", 4, (), None),
            ("share", 0.25, "1", None, (1.0, 2.0, 3.5), 0.0),
            ("long", 1234567.0, "px", 77, (0.0, 0.0, 3.0, 4.0), None),
        )
    )
    for spacing, name in (((0.1, 0.1), "scaled"), (None, "unscaled")):
        found = Result(**LOG, spacing_mm=spacing, objects=(box,), measures=measures)
        yield one(
            f"measures-{name}",
            "foretold and not, of an object that is there and not",
            bundle(encoded(numbered([found, found]), 0)),
        )
    flags = [("replay", "degraded"), (), ("a,b",), ("", "x")]
    yield one(
        "flags",
        "flags that commas can't join: an array (coding 11)",
        bundle(encoded(numbered([Result(**LOG, flags=some) for some in flags]), 0)),
    )


FILES = {
    "records": records_of_every_kind,
}
