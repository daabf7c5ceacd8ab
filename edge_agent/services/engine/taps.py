"""What the agent sees of one stream: its results, its counters, its last frames."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from typing import NamedTuple

from edge_agent.core import ring
from edge_agent.core.account import Account, Totals
from edge_agent.core.frames import SIGNALS, AnyRecord, Result, Signal, unpack
from edge_agent.core.ring import FrameView, Word
from edge_agent.memory import Mapped
from edge_agent.orders import BOARD_BYTES

READING = (Signal.OK, Signal.FROZEN, Signal.BLACK)


class Rest(NamedTuple):
    """How a stream rests, for whoever waits for a moment between two exams.

    exam: pseudonym of the one under way, "" for none that is known. no_signal_s: without a frame
    for so long, 0 while they come. since_exam_s: since the last frame of the exam that has ended;
    0 while one is under way, or where frames never said. A frozen picture is no rest.
    """

    exam: str
    signal: str
    no_signal_s: float
    since_exam_s: float


class Tap:
    """Lives as long as the stream is configured, through every incarnation of the side."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._account = Account()
        self._header: ring.Header | None = None
        self._reader: ring.ResultReader | None = None
        self._frames: ring.FrameReader | None = None
        self._exam = ""
        self._exam_us = 0  # of the newest frame of an exam
        self._frame_us = 0  # of the newest frame of an incarnation that is gone

    @property
    def is_open(self) -> bool:
        return self._header is not None

    def open(self, fd: int) -> None:
        """Fresh memory for a new incarnation."""
        view = Mapped(fd).view
        self._header = ring.Header(view)
        self._reader = ring.ResultReader(view)
        self._frames = ring.FrameReader(view)

    def drain(self) -> Iterator[tuple[AnyRecord, bool]]:
        """(record, is of the first model) of all that came since."""
        if self._reader is None:
            return
        for body, primary in self._reader.drain():
            self._account.inferred += primary
            record = unpack(body)
            if isinstance(record, Result):
                self._exam = record.exam
                self._exam_us = record.captured_us if record.exam else self._exam_us
            yield record, primary

    def close(self, *, clean: bool) -> None:
        """After the last drain of an incarnation: closes its books and lets its memory go."""
        if self._header is None or self._reader is None:
            return
        header = self._header.still()  # the side may not be quite gone
        self._frame_us = header[Word.LAST_FRAME_US] or self._frame_us
        self._reader.settle(header[Word.PUBLISHED])
        self._account.close(header, self._reader.lost, clean=clean)
        self._header = self._reader = self._frames = None

    def totals(self) -> Totals:
        lost = self._reader.lost if self._reader else 0
        return self._account.totals(self._header, lost)

    def signal(self) -> Signal:
        """STARTING while there is no side."""
        return SIGNALS[self._header[Word.SIGNAL]] if self._header else Signal.STARTING

    def rest(self, now_us: int) -> Rest:
        """now_us: CLOCK_BOOTTIME."""
        signal = self.signal()
        frame_us = self.word(Word.LAST_FRAME_US) or self._frame_us
        silent_s = 0.0 if signal in READING else max(0.0, (now_us - frame_us) / 1e6)
        over = bool(self._exam_us) and not self._exam
        ended_s = max(0.0, (now_us - self._exam_us) / 1e6) if over else 0.0
        return Rest(self._exam, signal.value, silent_s, ended_s)

    def word(self, word: Word) -> int:
        """A word of the present header; 0 while there is no side."""
        return self._header[word] if self._header else 0

    def want_frames(self, until_us: int) -> None:
        """Every frame is copied until then, CLOCK_BOOTTIME."""
        if self._header is not None:
            self._header[Word.FRAMES_WANTED_US] = until_us

    def frame(self) -> FrameView | None:
        return self._frames.newest() if self._frames else None


class Board:
    """The page on which the lanes count their turns."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("edge-agent-board", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, BOARD_BYTES)
        self._words = memoryview(mmap.mmap(self.fd, BOARD_BYTES)).cast("Q")

    def beats(self, lanes: int) -> tuple[int, ...]:
        return tuple(self._words[:lanes].tolist())

    def close(self) -> None:
        os.close(self.fd)
