"""When each frame of a video inside DICOM was taken: as its header says, else as its stream does.

The stream is read as it is played, so that its own stamps are known frame by frame.
"""

from __future__ import annotations

from collections import OrderedDict

from edge_agent.core import dicom_timing, stamps
from edge_agent.decoder.process import Opened
from edge_agent.sources.dicom.header import Header

MAX_STAMPS = 64  # of the frames before the newest
BARE = ("h264", "hevc", "mpegvideo")  # without times: what stands there is counted by FFmpeg
SILENT = ("h264", "hevc")  # of those, which may also say no rate
ASSUMED_FPS = 25.0  # of one that says none: FFmpeg's default
GROSSLY = 2.0  # times as fast or as slow


class StreamTimes:
    """As `dicom_timing.Times`, and what the stream says. disagreement: with the header, in words.

    frames: NumberOfFrames, None where the header does not say.
    """

    def __init__(
        self, header: Header, opened: Opened, configured: float | None, *, frames: int | None
    ) -> None:
        timing = header.timing
        vector = timing.frame_times_ms or timing.moments
        self._said = dicom_timing.times(timing, frames or len(vector) or 1, configured)
        seen = [pair[0] / pair[1] for pair in (opened.average, opened.base) if min(pair) > 0]
        is_bare, is_silent = opened.container in BARE, opened.container in SILENT
        self._own = stamps.rate(
            () if is_bare else opened.stamps_us,
            configured=None,
            said=seen[-1] if seen else None,
            average=seen[0] if seen else None,
            whole=opened.whole,
            assumed=is_silent,
        )
        is_said = self._own.by_stamps or any(map(stamps.is_plausible, seen))
        self._is_assumed = not is_said or (is_silent and self._own.fps == ASSUMED_FPS)
        self._is_stream = self._said.origin == "default"
        self._stamps: OrderedDict[int, int] = OrderedDict()
        self._before: int | None = None

    @property
    def fps(self) -> float:
        return self._own.fps if self._is_stream else self._said.fps

    @property
    def period_us(self) -> int:
        """From one frame to the next, on average."""
        return round(dicom_timing.MICROSECONDS / self.fps)

    @property
    def is_guessed(self) -> bool:
        """Neither the header nor the stream says a time that can be."""
        return self._is_stream and self._is_assumed

    @property
    def disagreement(self) -> str:
        if self._said.origin in ("default", "config") or self._is_assumed:
            return ""
        ratio = self._said.fps / self._own.fps
        if 1 / GROSSLY <= ratio <= GROSSLY:
            return ""
        return (
            f"played at {self._said.fps:.4g} fps from {self._said.origin}, "
            f"its stream says {self._own.fps:.4g}"
        )

    def pts_us(self, index: int) -> int:
        """Of frame `index` from 0 that was booked, since the first one."""
        if not self._is_stream:
            return self._said.pts_us(index)
        return self._stamps.get(index, index * self.period_us)

    def words(self) -> str:
        """The rate and where it is from, always; what was refused."""
        if not self._is_stream:
            return self._said.words()
        refused = self._said.refused[: dicom_timing.MAX_TOLD]
        said = f"of its stream, the header says none: {self._own.words}"
        return said + (f"; not played: {', '.join(refused)}" if refused else "")

    def book(self, index: int, pts_us: int | None) -> None:
        """The stream's stamp of the frame that is next, in order; stamps never go back."""
        before = self._stamps.get(index - 1)
        after_us = 0 if before is None else before + self.period_us
        stamp_us = after_us
        if self._own.by_stamps and pts_us is not None:
            gap_us = None if self._before is None else pts_us - self._before
            if before is None:
                stamp_us = 0
            elif gap_us is not None and 0 < gap_us <= stamps.MAX_GAP_US:
                stamp_us = before + gap_us
            self._before = pts_us
        elif self._before is not None:
            self._before += self.period_us
        self._stamps[index] = stamp_us
        while len(self._stamps) > MAX_STAMPS:
            self._stamps.popitem(last=False)

    def rewind(self) -> None:
        """The clip begins again."""
        self._stamps.clear()
        self._before = None
