"""A lane: takes the most urgent frame, runs its model, hands the result on. No task, no executor.

Order within a frame: fill, run, decode, time-critical listeners, ring, wake-up; then the frame is
left for the shadow, which has a thread of its own. What a model says wrong (NaN, wrong shape) costs
that frame only and is booked as `error`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from edge_agent.core.blame import is_of_memory
from edge_agent.core.errors import BadFrame, NotFinite
from edge_agent.core.frames import Arrays, Drop, Result
from edge_agent.core.ring import Word
from edge_agent.core.schedule import update_estimate
from edge_agent.inference import realtime, record
from edge_agent.inference.desk import Desk, Job
from edge_agent.inference.interpret import Findings
from edge_agent.inference.seats import Seat
from edge_agent.inference.shadow import Looked, run_clock
from edge_agent.inference.stream import Stream
from edge_agent.ports import Clock, InLaneListener

RENEW_US = 100_000  # the wall clock is asked so often at most
STALE_US = 1_000_000

Streams = Callable[[str], "Stream | None"]


class Told(Protocol):
    """How a lane speaks of what it met."""

    def problem(self, stream: str, code: str, what: str, fix: str) -> None: ...


class WallClock:
    """The distance to UTC, asked of the system between frames instead of within one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._read_us: int | None = None
        self._offset: tuple[int | None, int | None] = (None, None)

    def offset_us(self, now_us: int) -> tuple[int | None, int | None]:
        """(add for UTC, estimated error), not older than a second."""
        self._read_after(now_us, STALE_US)
        return self._offset

    def renew(self, now_us: int) -> None:
        """When there is time for it."""
        self._read_after(now_us, RENEW_US)

    def _read_after(self, now_us: int, age_us: int) -> None:
        if self._read_us is None or now_us - self._read_us > age_us:
            self._read_us, self._offset = now_us, self._clock.utc_offset_us()


class Lane:
    """One thread. `beats` grows at least four times a second while the lane is alive."""

    def __init__(
        self,
        desk: Desk,
        *,
        who: record.Identity,
        clock: Clock,
        streams: Streams,
        told: Told,
        listeners: Sequence[InLaneListener],
        wake: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._who = who
        self._clock = clock
        self._streams = streams
        self._told = told
        self._listeners = listeners
        self._wake = wake
        self._beat = beat
        self._wall = WallClock(clock)

    def body(self, *, realtime_wanted: bool, stopped: Callable[[], bool]) -> None:
        if realtime_wanted and not realtime.go_realtime(realtime.LANE_PRIORITY):
            self._told.problem("", "realtime-refused", *realtime.REFUSED)
        while not stopped():
            self._beat()
            job = self._desk.take()
            if job is None:
                continue
            try:
                self._serve(job)
            finally:
                self._desk.done(job.run)

    def _serve(self, job: Job) -> None:
        stream = self._streams(job.run.stream)
        if stream is None:
            return
        seat = job.run.live  # read once: a swap happens between two frames
        fresh = seat.begin(job.frame, stream.at_us(job.frame))
        try:
            findings, took_us = self._infer(stream, seat, job, fresh=fresh)
        except BadFrame as bad:
            seat.failed(fresh=fresh)
            is_short = is_of_memory(bad.what)  # the machine's fault: a frame that it missed
            seat.tally.errors += not is_short
            seat.tally.missed += is_short
            seat.tally.nan += isinstance(bad, NotFinite)
            stream.lost(job.run, Drop.ERROR)
            self._told.problem(stream.name, "bad-result", bad.what, bad.hint)
            return
        shadow = job.run.shadow  # read once: it may be stopped meanwhile
        if shadow is not None and job.frame.number % shadow.every == 0:
            every = math.lcm(job.every, shadow.every)
            at_us = stream.at_us(job.frame)
            looked = Looked(job.frame, at_us, every, findings, took_us)
            shadow.offer(None if job.level else looked)

    def _infer(
        self, stream: Stream, seat: Seat, job: Job, *, fresh: bool
    ) -> tuple[Findings, float]:
        """What it saw, and what the run cost (`run_clock`)."""
        run, frame, clock = job.run, job.frame, self._clock
        started = clock.boot_us()
        roi = seat.region(frame)
        seat.bound.fill(frame, roi)
        input_hash = record.hash_input(seat.bound.input_pixels)
        run_from = clock.boot_us()
        now_ns = run_clock(seat)
        from_ns = now_ns()
        outputs = seat.bound.run()
        took_us = (now_ns() - from_ns) / 1000
        run_to = clock.boot_us()
        findings = seat.look(frame, outputs, roi, stream.at_us(frame))
        made = clock.boot_us()
        offset_us, error_us = self._wall.offset_us(made)
        result = record.build(
            self._who,
            run,
            seat,
            frame,
            findings=findings,
            times=record.Times(started, run_from, run_to, made),
            situation=record.Situation(
                level=job.level,
                every=job.every,
                input_hash=input_hash,
                state_reset=fresh,
                low_quality=job.poor,
                utc_offset_us=offset_us,
                utc_error_us=error_us,
            ),
            roi=roi,
        )
        self._hand_over(stream, job, result, Arrays(frame=frame, outputs=dict(outputs)))
        self._wall.renew(made)
        run.estimate_us = update_estimate(run.estimate_us, made - started)
        run.count.book(findings, seat.bound.input_pixels)
        seat.tally.book(findings, frame, job.every, took_us)
        if made > job.deadline_us:
            seat.tally.missed += 1
            if run.primary:
                stream.count(Word.MISSED)
        return findings, took_us

    def _hand_over(self, stream: Stream, job: Job, result: Result, arrays: Arrays) -> None:
        """What is shown is what is stored: listeners get the record as it fits its slot."""
        run = job.run
        shown, body = record.fit(result)
        if shown is not result:
            stream.count(Word.OVERSIZE)
        self._show(stream, job, shown, arrays)
        with stream.publishing:
            stream.results.put(body, primary=run.primary)
        if run.primary:
            stream.header[Word.LAST_RESULT_US] = result.captured_us
        else:
            stream.count(Word.EXTRA_RUNS)
        self._wake()
        if run.primary:
            stream.keep_frame(arrays.frame, result.at_us)

    def _show(self, stream: Stream, job: Job, result: Result, arrays: Arrays) -> None:
        """To the listeners in this lane; never what is stale, or of a picture that isn't alive."""
        now_us = self._clock.boot_us() if self._listeners else result.at_us
        with stream.showing:
            signal = stream.current_signal
            if job.poor or stream.dark:
                return
            if job.run.primary:
                stream.freshness.result(result.captured_us)
            if not stream.freshness.may_show(result.captured_us, now_us, signal):
                return
            for listener in self._listeners:
                listener.result(result, arrays)
