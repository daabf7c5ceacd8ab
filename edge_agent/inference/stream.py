"""One stream inside the inference side: its memory, its runs, its signal."""

from __future__ import annotations

import threading

from edge_agent.core import degrade, ring, schedule
from edge_agent.core.frames import SIGNALS, Drop, Frame, Signal
from edge_agent.core.freshness import Freshness
from edge_agent.core.ring import Word
from edge_agent.core.signal import SignalWatch
from edge_agent.inference.desk import Desk
from edge_agent.inference.seats import Offered, Run, StreamOptions
from edge_agent.memory import Mapped
from edge_agent.orders import StreamOrder
from edge_agent.ports import SourceFacts

KEEP_FRAME_EVERY_US = 1_000_000  # a frame for the snapshot at least so often
NO_DEADLINE_US = 3600 * 1_000_000
UNKNOWN_MILLIFPS = 30_000  # of a recording that does not say
EXTRA_SHEDS = (Drop.OVERWRITTEN, Drop.LATE, Drop.SHED, Drop.THERMAL)
TOO_SLOW = (Drop.OVERWRITTEN, Drop.LATE)
ALIVE = 255.0
POOR = (Signal.FROZEN, Signal.BLACK)  # a picture that must not be shown as fresh
READING = (Signal.OK, Signal.FROZEN, Signal.BLACK)


class Stream:
    """Everything that capture and lanes share of one stream.

    Counters that more than one thread moves (drops, second models) move under `counting`; capture
    alone writes what it captures, the lane that holds a run what it publishes.
    """

    def __init__(self, order: StreamOrder, fd: int, before: int = 0) -> None:
        """before: frames that earlier incarnations captured; numbers go on from there."""
        self.order = order
        self._before = before
        self.name = order.name
        self.config = order.config
        self.options = StreamOptions(order.config.tracking, order.config.contours)
        self._mapped = Mapped(fd)
        self.header = ring.Header(self._mapped.view)
        self.results = ring.ResultWriter(self._mapped.view)
        self.frames = ring.FrameWriter(self._mapped.view)
        self.publishing = threading.Lock()  # a second model may publish from another lane
        self.showing = threading.Lock()  # a result and a blank never overtake each other
        self.dark = False  # its listeners had their last word
        self.counting = threading.Lock()
        self.runs: list[Run] = []
        self.level = 0
        self.level_drop = Drop.SHED
        self.stop = threading.Event()
        self.capture: threading.Thread | None = None
        source = order.config.source
        self.watch = SignalWatch(
            no_signal_after_us=round(source.no_signal_after_s * 1e6),
            frozen_after_us=round(source.frozen_after_s * 1e6),
            black_below=source.black_below,
        )
        self._media = SignalWatch(  # of a recording that waits: in its own time
            no_signal_after_us=NO_DEADLINE_US,
            frozen_after_us=round(source.frozen_after_s * 1e6),
            black_below=source.black_below,
        )
        self.freshness = Freshness(round(order.config.max_age_ms * 1000))
        self.facts: SourceFacts | None = None
        self._kept_us = 0
        self.signal(Signal.STARTING)

    def signal(self, signal: Signal) -> None:
        self.header[Word.SIGNAL] = SIGNALS.index(signal)

    @property
    def current_signal(self) -> Signal:
        return SIGNALS[self.header[Word.SIGNAL]]

    def judge(self, frame: Frame, digest: int, mean: float) -> Signal:
        """The picture's health, by the time that it lives in."""
        if self.config.queue != "wait":
            return self.watch.frame(frame.captured_us, digest, mean)
        self.watch.frame(frame.captured_us, frame.number, ALIVE)
        return self._media.frame(self.at_us(frame), digest, mean)

    def notice_silence(self, now_us: int) -> None:
        """A capture thread stuck in its device can't say so itself; the pulse does."""
        if self.current_signal in READING and self.watch.at(now_us) is Signal.NO_SIGNAL:
            self.signal(Signal.NO_SIGNAL)

    @property
    def number(self) -> int:
        """Of the newest captured frame, since the agent's start."""
        return self._before + self.header[Word.CAPTURED]

    def at_us(self, frame: Frame) -> int:
        """The time that tracks and judgements live in: of a recording that waits, its own."""
        if self.config.queue != "wait":
            return frame.captured_us
        return frame.media_us

    @property
    def period_us(self) -> int:
        """From one frame to the next, as the source says; of one that does not, a guess."""
        return 1_000_000_000 // (self.header[Word.EXPECTED_MILLIFPS] or UNKNOWN_MILLIFPS)

    def deadline_us(self) -> int:
        """From capture to result."""
        if self.config.queue == "wait":
            return NO_DEADLINE_US
        if self.config.deadline_ms is not None:
            return round(self.config.deadline_ms * 1000)
        return schedule.default_deadline_us(self.header[Word.EXPECTED_MILLIFPS] / 1000)

    def every(self, run: Run, level: int) -> int:
        """Run on each N-th captured frame at that level; 0: on none."""
        shed = degrade.every(level, self.config.priority, extra=not run.primary)
        return shed * run.ref.options.every

    def offer(self, frame: Frame, desk: Desk, *, poor: bool) -> None:
        """A captured frame goes to every run that is due. poor: never to be shown as fresh."""
        deadline_us, level = frame.captured_us + self.deadline_us(), self.level
        for run in self.runs:
            every = self.every(run, level)
            if every and frame.number % every == 0:
                desk.put(run, Offered(frame, deadline_us, poor, level, every))
            elif run.primary or frame.number % run.ref.options.every == 0:
                self.lost(run, self.level_drop)  # a second model's other frames were never due

    def lost(self, run: Run, why: Drop) -> None:
        """Only the first model of a stream owns the frame accounting."""
        if why in TOO_SLOW:
            run.live.tally.lost += 1
        if run.primary:
            self.drop(why)
        elif why in EXTRA_SHEDS:
            self.count(Word.EXTRA_SHED)

    def drop(self, why: Drop) -> None:
        with self.counting:
            self.header.drop(why)

    def count(self, word: Word) -> None:
        with self.counting:
            self.header.add(word)

    def keep_frame(self, frame: Frame, now_us: int) -> None:
        """Copies a frame for the snapshot: each one while somebody looks, else one a second."""
        wanted = now_us < self.header[Word.FRAMES_WANTED_US]
        if wanted or now_us - self._kept_us >= KEEP_FRAME_EVERY_US:
            self._kept_us = now_us
            with self.publishing:
                self.frames.put(frame.number, frame.captured_us, frame.pixels)
