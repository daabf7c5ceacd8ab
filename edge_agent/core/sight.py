"""What a model says, without anyone who knows the truth: how often, how surely, how large, how
steadily. Counts that can be added up, never judged here. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from edge_agent.core.frames import Label, Object

SCORE_BINS = 10

Whole = Annotated[int, Meta(ge=0)]
Sum = Annotated[float, Meta(ge=0)]


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """Label-free figures of one model on one stream, as counts.

    findings: frames with a finding. scores: of these, the best score in ten equal bins.
    area_sum: of these, the share of the picture that is covered, added up. pairs: neighbouring
    frames that were both looked at; flips: of these, those where presence changed.
    """

    frames: Whole = 0
    findings: Whole = 0
    scores: tuple[Whole, ...] = (0,) * SCORE_BINS
    area_sum: Sum = 0.0
    pairs: Whole = 0
    flips: Whole = 0

    @property
    def findings_per_100(self) -> float:
        return 100.0 * self.findings / self.frames if self.frames else 0.0

    @property
    def mean_area(self) -> float:
        """Share of the picture, over frames with a finding."""
        return self.area_sum / self.findings if self.findings else 0.0

    @property
    def flicker(self) -> float:
        """Share of neighbouring frames between which presence flips."""
        return self.flips / self.pairs if self.pairs else 0.0

    def plus(self, other: Sight) -> Sight:
        """Both together, as of several streams."""
        return Sight(
            frames=self.frames + other.frames,
            findings=self.findings + other.findings,
            scores=tuple(a + b for a, b in zip(self.scores, other.scores, strict=True)),
            area_sum=self.area_sum + other.area_sum,
            pairs=self.pairs + other.pairs,
            flips=self.flips + other.flips,
        )


class Glance(NamedTuple):
    """One frame's share in it. score None: nothing was found. area: share of the picture."""

    score: float | None
    area: float


def glance(objects: Iterable[Object], labels: Iterable[Label], size: tuple[int, int]) -> Glance:
    """size: [w, h] px of the frame that the objects are in."""
    found = list(objects)
    scores = [one.score for one in found] or [one.score for one in labels]
    covered = sum(_area_px(one) for one in found)
    return Glance(max(scores, default=None), min(1.0, covered / max(1, size[0] * size[1])))


def _area_px(found: Object) -> float:
    if found.mask is not None:
        return float(found.mask.area_px)
    x0, y0, x1, y1 = found.box
    return max(0.0, x1 - x0) * max(0.0, y1 - y0)


class SightCount:
    """Counts frame by frame. A frame that was not looked at breaks the chain of neighbours."""

    def __init__(self) -> None:
        self._frames = self._findings = self._pairs = self._flips = 0
        self._scores = [0] * SCORE_BINS
        self._area = 0.0
        self._last: tuple[int, bool] | None = None

    def add(self, number: int, every: int, seen: Glance) -> None:
        """number: of the frame. every: frames from one look to the next, when none is missed."""
        found = seen.score is not None
        self._frames += 1
        if seen.score is not None:
            self._findings += 1
            self._area += seen.area
            self._scores[max(0, min(SCORE_BINS - 1, int(seen.score * SCORE_BINS)))] += 1
        if self._last is not None and number - self._last[0] == every:
            self._pairs += 1
            self._flips += found != self._last[1]
        self._last = number, found

    def sight(self) -> Sight:
        return Sight(
            frames=self._frames,
            findings=self._findings,
            scores=tuple(self._scores),
            area_sum=round(self._area, 6),
            pairs=self._pairs,
            flips=self._flips,
        )
