"""The sizes of one stream's frames: told as they change, with a roi that does not fit them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from edge_agent.core import calibration
from edge_agent.core.frames import Frame
from edge_agent.core.notes import MISFIT
from edge_agent.inference.stream import Stream

TELL_US = 1_000_000  # at most so often, and a problem is over once nothing was wrong for so long

Size = tuple[int, int]


class Told(Protocol):
    """Who is told."""

    def facts(self, stream: Stream) -> None: ...

    def problem(self, stream: str, code: str, what: str, fix: str) -> None: ...

    def over(self, stream: str, code: str) -> None: ...


class Sizes:
    """Of its capture thread alone."""

    def __init__(self, stream: Stream, told: Told) -> None:
        self._stream = stream
        self._told = told
        self._fitted: Size | None = None  # the newest size that the roi did fit
        self._wrong_us: int | None = None  # when the last frame came that it did not
        self._stands = True  # as far as anybody knows: a side before this one may have told it
        self._told_us: int | None = None
        self._facts_us: int | None = None

    def look(self, frame: Frame, now_us: int) -> bool:
        """Whether models may have this frame: one without the region that they were to look at is
        no frame for them, and any other part of it would be another picture.
        """
        roi, size = frame.calibration.roi, frame.size
        is_fit = calibration.fits(roi, size)
        if is_fit:
            self._fitted = size
            self._settle(now_us)
        elif roi is not None:
            self._tell_misfit(roi, size, now_us)
        self._tell_size(size, now_us)
        return is_fit

    def lost(self) -> None:
        """There is no picture: nothing is known of its size."""
        if self._stands:
            self._told.over(self._stream.name, MISFIT)
        self._stands, self._wrong_us, self._told_us = False, None, None

    def _settle(self, now_us: int) -> None:
        if self._wrong_us is None or now_us - self._wrong_us >= TELL_US:
            self.lost()

    def _tell_misfit(self, roi: tuple[int, int, int, int], size: Size, now_us: int) -> None:
        self._wrong_us, self._stands = now_us, True
        if self._told_us is not None and now_us - self._told_us < TELL_US:
            return  # again and again: a reload forgets it
        self._told_us = now_us
        before = self._fitted = self._fitted or self._said(roi)
        back = f"set the source back to {before[0]}x{before[1]}, or " if before else ""
        what = calibration.misfit(roi, size, before)
        self._told.problem(self._stream.name, MISFIT, what, f"{back}correct source.roi")

    def _said(self, roi: tuple[int, int, int, int]) -> Size | None:
        """The size that the source said when it was opened, where the roi fits that."""
        facts = self._stream.facts
        size = facts.size if facts else None
        return size if size is not None and calibration.fits(roi, size) else None

    def _tell_size(self, size: Size, now_us: int) -> None:
        facts = self._stream.facts
        if facts is None or facts.size == size:
            return
        if self._facts_us is None or now_us - self._facts_us >= TELL_US:
            self._facts_us = now_us
            self._stream.facts = msgspec.structs.replace(facts, size=size)
            self._told.facts(self._stream)
