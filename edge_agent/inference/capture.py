"""The capture thread of one stream: open, read, stamp, judge the signal, put into the slot.

Reopens with back-off for ever; a source that delivers nonsense makes its own stream fail, never
another one. The picture's health is decided in `core.signal`; here it is only measured.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from edge_agent.core.errors import BadFrame, ConfigError, LinkDown, Rejected, SourceEnded
from edge_agent.core.frames import Calibration, Drop, Frame, Signal
from edge_agent.core.pacing import Backoff, MediaTime
from edge_agent.core.ring import Word
from edge_agent.core.signal import Look
from edge_agent.inference import realtime
from edge_agent.inference.desk import Desk
from edge_agent.inference.sizes import Sizes
from edge_agent.inference.stream import POOR, Stream
from edge_agent.ports import Clock, FrameSource, NewsSource, SourceFacts

READ_TIMEOUT_S = 0.1
WAIT_SLICE_S = 0.1


class Told(Protocol):
    """How the capture thread speaks of what it met."""

    def facts(self, stream: Stream) -> None: ...

    def calibration(self, stream: str, calibration: Calibration) -> None: ...

    def problem(self, stream: str, code: str, what: str, fix: str) -> None: ...

    def over(self, stream: str, code: str) -> None: ...


class Start:
    """Holds every stream until each has captured its first frame (or gave up trying)."""

    def __init__(self, parties: int, timeout_s: float) -> None:
        self._barrier = threading.Barrier(max(1, parties), timeout=timeout_s)

    def wait(self) -> None:
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            return


class Capture:
    """One per stream; `body` runs in a thread of its own until the stream's stop event is set."""

    def __init__(
        self,
        stream: Stream,
        source: FrameSource,
        *,
        desk: Desk,
        clock: Clock,
        told: Told,
        realtime_wanted: bool,
        start: Start | None = None,
        publish_blank: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._source = source
        self._teller = source if isinstance(source, NewsSource) else None
        self._desk = desk
        self._clock = clock
        self._told = told
        self._realtime_wanted = realtime_wanted
        self._start = start
        self._publish_blank = publish_blank
        self._calibration: Calibration | None = None
        self._sizes = Sizes(stream, told)
        self._look = Look(stream.config.source.black_below)
        self._media = MediaTime()
        self._was_open = False
        self._backoff = Backoff(max_s=stream.config.source.reopen_max_s)

    def body(self) -> None:
        """Until stopped, or until an unlooped recording has ended."""
        if self._realtime_wanted and not realtime.go_realtime(realtime.CAPTURE_PRIORITY):
            self._told.problem("", "realtime-refused", *realtime.REFUSED)
        stream = self._stream
        while not stream.stop.is_set():
            try:
                stream.facts = self._source.open()
                self._told.facts(stream)
                self._count_opening()
                self._read_on()
            except SourceEnded as ended:
                self._hear()
                self._end(ended)
                return
            except LinkDown as down:
                self._lose(Signal.REOPENING, "source-lost", down.what, down.hint)
            except (Rejected, ConfigError) as wrong:
                self._lose(Signal.FAILED, "source-rejected", wrong.what, wrong.hint)
            finally:
                self._source.close()
            stream.stop.wait(self._backoff.next_s(random.random()))  # noqa: S311 - jitter

    def _count_opening(self) -> None:
        if self._was_open:
            self._stream.header.add(Word.REOPENED)
        self._was_open = True

    def _end(self, ended: SourceEnded) -> None:
        stream = self._stream
        if stream.config.queue == "wait":
            for run in stream.runs:
                self._wait_free(run_index=stream.runs.index(run))
        stream.header[Word.ENDED] = 1
        self._lose(Signal.NO_SIGNAL, "source-ended", ended.what, ended.hint)

    def _lose(self, signal: Signal, code: str, what: str, fix: str) -> None:
        self._sizes.lost()
        self._stream.signal(signal)
        self._told.problem(self._stream.name, code, what, fix)
        self._publish_blank()

    def _read_on(self) -> None:
        stream, header = self._stream, self._stream.header
        self._expect(stream.facts)
        stream.watch.reopened(self._clock.boot_us())
        while not stream.stop.is_set():
            try:
                frame = self._source.read(READ_TIMEOUT_S)
            except BadFrame as bad:
                header.add(Word.CAPTURED)
                stream.drop(Drop.ERROR)
                self._told.problem(stream.name, "bad-frame", bad.what, bad.hint)
                continue
            self._hear()
            if frame is None:
                stream.signal(stream.watch.at(self._clock.boot_us()))
                continue
            self._backoff.reset()
            if self._start is not None:
                self._start.wait()  # this first frame is not counted: counting starts together
                self._start = None
            else:
                self._take(frame)

    def _expect(self, facts: SourceFacts | None) -> None:
        fps = self._stream.config.source.fps or (facts.expected_fps if facts else None)
        self._stream.header[Word.EXPECTED_MILLIFPS] = round((fps or 0) * 1000)

    def _hear(self) -> None:
        """What the source has to say since it was opened."""
        news = self._teller.news() if self._teller is not None else None
        if news is not None:
            self._stream.facts = news
            self._expect(news)
            self._told.facts(self._stream)

    def _take(self, frame: Frame) -> None:
        stream, header = self._stream, self._stream.header
        has_roi = self._sizes.look(frame, self._clock.boot_us())
        if stream.config.queue == "wait" and has_roi:
            for index in range(len(stream.runs)):
                if not self._wait_free(run_index=index):
                    return  # stopped while waiting: this frame was never counted
        media_us = self._media.at(frame.pts_us, stream.period_us)
        frame = msgspec.structs.replace(frame, number=stream.number + 1, media_us=media_us)
        if frame.calibration != self._calibration:
            self._calibration = frame.calibration
            self._told.calibration(stream.name, frame.calibration)
        digest, mean = self._look.at(frame.pixels)
        signal = stream.judge(frame, digest, mean)
        if signal is Signal.FROZEN:
            header.add(Word.FROZEN)
        stream.signal(signal)
        if header[Word.FIRST_FRAME_US] == 0:
            header[Word.FIRST_FRAME_US] = frame.captured_us
        header[Word.LAST_FRAME_US] = frame.captured_us
        header.add(Word.CAPTURED)
        if has_roi:
            stream.offer(frame, self._desk, poor=signal in POOR)
        else:
            stream.drop(Drop.ERROR)

    def _wait_free(self, *, run_index: int) -> bool:
        """A recorded source waits for its result; False when stopped meanwhile."""
        run = self._stream.runs[run_index]
        while not self._stream.stop.is_set():
            if self._desk.wait_free(run, WAIT_SLICE_S):
                return not self._desk.is_closed
        return False
