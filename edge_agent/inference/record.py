"""Builds the `Result` of one run: numbers in, frozen record out. No clock: times are arguments."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from edge_agent.core import ring
from edge_agent.core.calibration import origin
from edge_agent.core.frames import Frame, Result, pack
from edge_agent.inference.interpret import UNSCALED, Findings
from edge_agent.inference.seats import Run, Seat

TRUNCATED = "truncated"
FLAGS = (
    "replay", "uncalibrated", "degraded", "trial", "state_reset", TRUNCATED, "low_quality",
    UNSCALED,
)  # fmt: skip


class Identity(NamedTuple):
    """Who speaks. boot: hex8 of the boot id."""

    node: str
    boot: str


class Times(NamedTuple):
    """CLOCK_BOOTTIME, us: the lane took the frame, the run began and ended, the result was made."""

    started: int
    run_from: int
    run_to: int
    made: int


class Situation(NamedTuple):
    """What was true of the stream when the frame ran. every: frames from one run to the next."""

    level: int
    every: int
    input_hash: str
    state_reset: bool
    low_quality: bool
    utc_offset_us: int | None
    utc_error_us: int | None


def hash_input(pixels: NDArray[np.uint8]) -> str:
    """hex8 of the bound input; cheapest at once after it was filled, while a cache holds it."""
    return f"{xxhash.xxh3_64_intdigest(pixels.data) & 0xFFFFFFFF:08x}"


def flags_of(frame: Frame, seat: Seat, situation: Situation, findings: Findings) -> tuple[str, ...]:
    """In the order of the schema."""
    claims = {
        "replay": frame.replay,
        "uncalibrated": findings.spacing_mm is None and not _in_millimetres(findings),
        "degraded": situation.level > 0,
        "trial": seat.trial,
        "state_reset": situation.state_reset,
        "truncated": TRUNCATED in findings.flags,
        "low_quality": situation.low_quality,
        UNSCALED: UNSCALED in findings.flags,
    }
    return tuple(name for name, is_true in claims.items() if is_true)


def _in_millimetres(findings: Findings) -> bool:
    """Of objects that lie on different scales some have theirs, though the record has none."""
    return any(measure.unit in {"mm", "mm2"} for measure in findings.measures)


def build(
    who: Identity,
    run: Run,
    seat: Seat,
    frame: Frame,
    *,
    findings: Findings,
    times: Times,
    situation: Situation,
    roi: tuple[int, int, int, int],
) -> Result:
    """The record, with its full provenance."""
    loaded = seat.loaded
    return Result(
        node=who.node,
        boot=who.boot,
        stream=run.stream,
        at_us=times.made,
        frame=frame.number,
        captured_us=frame.captured_us,
        utc_offset_us=situation.utc_offset_us,
        utc_error_us=situation.utc_error_us,
        pts_us=frame.pts_us,
        wait_us=times.started - frame.captured_us,
        infer_us=times.run_to - times.run_from,
        latency_us=times.made - frame.captured_us,
        size=frame.size,
        roi=roi,
        spacing_mm=findings.spacing_mm,
        spacing_from=origin(frame.calibration) if findings.spacing_mm else "",
        input_hash=situation.input_hash,
        model=run.name,
        version=loaded.manifest.version,
        sha=loaded.sha[:16],
        variant=loaded.session.variant,
        backend=loaded.session.backend,
        settings=seat.interpreter.settings,
        every=situation.every,
        level=situation.level,
        flags=flags_of(frame, seat, situation, findings),
        exam=frame.exam,
        labels=findings.labels,
        objects=findings.objects,
        measures=findings.measures,
    )


def fit(result: Result) -> tuple[Result, bytes]:
    """The record and its bytes, small enough for a slot: contours, then the tail of objects go,
    then measures and labels.

    The interpreter keeps within the bound; this is the last line, and says `truncated`.
    """
    body = pack(result)
    if len(body) <= ring.BODY_BYTES:
        return result, body
    flags = tuple(name for name in FLAGS if name in {*result.flags, TRUNCATED})
    bare = tuple(msgspec.structs.replace(o, mask=None) for o in result.objects)
    smaller = msgspec.structs.replace(result, objects=bare, flags=flags)
    while len(body := pack(smaller)) > ring.BODY_BYTES:
        smaller = _less(smaller)
    return smaller, body


def _less(result: Result) -> Result:
    """Half of the objects, with the measures of those that stay; then no measures; no labels."""
    if result.objects:
        objects = result.objects[: len(result.objects) // 2]
        kept = {None, *(found.id for found in objects)}
        measures = tuple(m for m in result.measures if m.object in kept)
        return msgspec.structs.replace(result, objects=objects, measures=measures)
    if result.measures:
        return msgspec.structs.replace(result, measures=())
    assert result.labels, "who, when and by what model fits a slot: every name is bounded"
    return msgspec.structs.replace(result, labels=result.labels[: len(result.labels) // 2])
