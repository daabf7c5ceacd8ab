"""The demo models on trial beside 1.0.0, on live phantoms: 1.1.0 is let in, 1.2.0 is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import backends
from edge_agent.config.structs import PhantomSource, StreamModel
from edge_agent.core.drift import Limits
from edge_agent.core.frames import Frame
from edge_agent.core.trial import ShadowCounts, judge_shadow
from edge_agent.host import SystemClock
from edge_agent.inference.counts import ShadowCount
from edge_agent.inference.interpret import Findings
from edge_agent.inference.seats import Seat, Shelf, StreamOptions
from edge_agent.sources.phantom import PhantomFrames
from edge_agent.stores.models import Models

STORE = Models([], shipped=True)
SHELF = Shelf(backends.make())
NAME = "us-chamber"
FRAMES = 26  # a heartbeat of the phantom
MARGIN = 0.15  # of agreement, on either side of the floor


def folder(version: str) -> Path:
    return STORE.resolve(NAME, version)


def seat(version: str) -> Seat:
    at = folder(version)
    loaded = SHELF.load(str(at), STORE.identity(at))
    options = StreamOptions(tracking=True, contours=False)
    return Seat(loaded, StreamModel(name=NAME, version=version), options)


def see(one: Seat, frame: Frame) -> Findings:
    one.begin(frame, frame.captured_us)
    roi = one.region(frame)
    one.bound.fill(frame, roi)
    return one.look(frame, one.bound.run(), roi, frame.captured_us)


def beside(seed: int, *versions: str) -> dict[str, ShadowCounts]:
    """Each of these as the shadow of 1.0.0, over one heartbeat of the phantom."""
    source = PhantomFrames(PhantomSource(seed=seed, pace="fast"), SystemClock())
    source.open()
    live, shadows = seat("1.0.0"), {version: seat(version) for version in versions}
    counts = {version: ShadowCount() for version in versions}
    for _ in range(FRAMES):
        frame = source.read(1.0)
        assert frame is not None
        ours = see(live, frame)
        for version, one in shadows.items():
            counts[version].book(
                frame, 1, live=ours, shadow=see(one, frame), live_us=5000.0, took_us=5000.0
            )
    source.close()
    return {version: count.counts(0) for version, count in counts.items()}


@pytest.mark.parametrize("seed", [5, 205])
def test_the_better_version_is_let_in_and_the_bad_one_refused(seed: int) -> None:
    counts = beside(seed, "1.1.0", "1.2.0")
    for version, word in (("1.1.0", "pass"), ("1.2.0", "fail")):
        manifest = STORE.manifest(folder(version))
        limits = Limits().of(manifest)
        assert limits.min_mean == 0.5
        few = Limits(frames=FRAMES, min_mean=limits.min_mean)
        verdict = judge_shadow(counts[version], manifest, few, 1.0)
        assert verdict.word == word, verdict
    assert counts["1.1.0"].agreement > limits.min_mean + MARGIN
    assert counts["1.2.0"].agreement < limits.min_mean - MARGIN
