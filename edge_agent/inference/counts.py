"""What is counted of models while they run: a minute's statistics, a version's time live, a shadow.

Each count has one writer; whoever reads beside it may be one frame behind. Judges nothing.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.agreement import agreement
from edge_agent.core.frames import Frame
from edge_agent.core.sight import SCORE_BINS, SightCount, glance
from edge_agent.core.trial import LiveCounts, ShadowCounts
from edge_agent.core.window import Window
from edge_agent.inference.interpret import Findings

INPUT_SAMPLE_STEP = 13  # bytes between two that are looked at: all colours get their turn
INPUT_SAMPLE_EVERY = 30  # frames between two looks at the input's mean and deviation


class ModelCount:
    """What the `model_stats` record of a minute is made of."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.frames = 0
        self.findings = 0
        self.scores = [0] * SCORE_BINS
        self.mean = 0.0
        self.sd = 0.0

    def book(self, findings: Findings, pixels: NDArray[np.uint8]) -> None:
        best = max((o.score for o in findings.objects), default=None)
        if best is None:
            best = max((label.score for label in findings.labels), default=None)
        if best is not None:
            self.findings += 1
            self.scores[min(SCORE_BINS - 1, int(best * SCORE_BINS))] += 1
        if self.frames % INPUT_SAMPLE_EVERY == 0:
            sample = pixels.reshape(-1)[::INPUT_SAMPLE_STEP]
            self.mean, self.sd = float(sample.mean()), float(sample.std())
        self.frames += 1


class LiveCount:
    """One version, while it is live on one stream. Its lane writes, but `lost` is the desk's."""

    def __init__(self) -> None:
        self.errors = 0
        self.nan = 0
        self.missed = 0
        self.lost = 0  # frames that were late or replaced; written under the desk's lock
        self._took_us = Window()
        self._seen = SightCount()

    def book(self, findings: Findings, frame: Frame, every: int, took_us: float) -> None:
        self._took_us.add(took_us)
        seen = glance(findings.objects, findings.labels, frame.size)
        self._seen.add(frame.number, every, seen)

    def counts(self, *, version: str, sha: str, trial: bool) -> LiveCounts:
        sight = self._seen.sight()
        half, most = (value or 0.0 for value in self._took_us.quantiles(0.5, 0.99))
        return LiveCounts(
            version=version,
            sha=sha,
            trial=trial,
            results=sight.frames,
            errors=self.errors,
            nan=self.nan,
            missed=self.missed + self.lost,
            infer_us_p50=round(half, 1),
            infer_us_p99=round(most, 1),
            sight=sight,
        )


class ShadowCount:
    """How a shadow compares so far. The shadow's thread writes, but `offered` is the lane's.

    The lock stands between that thread and whoever asks; no lane ever takes it.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.offered = 0
        self.taken = 0
        self.errors = 0
        self.nan = 0
        self.hung = False
        self.problem = ""
        self._evidence = 0
        self._agreed = 0.0
        self._live_us = Window()
        self._took_us = Window()
        self._live = SightCount()
        self._shadow = SightCount()

    def skip(self, why: str) -> None:
        """A frame that was taken and could not be looked at, by no fault of the model: `late`."""
        self.taken = max(0, self.taken - 1)
        self.problem = self.problem or why

    def book(
        self, frame: Frame, every: int, *, live: Findings, shadow: Findings, live_us: float,
        took_us: float,
    ) -> None:  # fmt: skip
        ours = glance(live.objects, live.labels, frame.size)
        theirs = glance(shadow.objects, shadow.labels, frame.size)
        agreed = agreement(live.objects, shadow.objects, live.labels, shadow.labels)
        with self._turn:
            self._live.add(frame.number, every, ours)
            self._shadow.add(frame.number, every, theirs)
            self._live_us.add(live_us)
            self._took_us.add(took_us)
            if ours.score is not None or theirs.score is not None:
                self._agreed += agreed
                self._evidence += 1

    def counts(self, waiting: int) -> ShadowCounts:
        """waiting: frames that were offered and are not taken yet."""
        with self._turn:
            return self._counts(waiting)

    def _counts(self, waiting: int) -> ShadowCounts:
        live, shadow = self._live.sight(), self._shadow.sight()
        frames = shadow.frames
        live_us = [value or 0.0 for value in self._live_us.quantiles(0.5, 0.99)]
        took_us = [value or 0.0 for value in self._took_us.quantiles(0.5, 0.99)]
        return ShadowCounts(
            frames=frames,
            errors=self.errors,
            nan=self.nan,
            late=max(0, self.offered - self.taken - waiting),
            hung=self.hung,
            evidence_frames=self._evidence,
            both_empty=frames - self._evidence,
            findings_live=live.findings,
            findings_shadow=shadow.findings,
            agreement_sum=round(self._agreed, 4),
            infer_us_p50=round(took_us[0], 1),
            infer_us_p99=round(took_us[1], 1),
            live_us_p50=round(live_us[0], 1),
            live_us_p99=round(live_us[1], 1),
            live=live,
            shadow=shadow,
            problem=self.problem,
        )
