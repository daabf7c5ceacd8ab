"""A lane: takes the most urgent frame, runs its model, hands the result on. No task, no executor.

Order within a frame: fill, run, decode, time-critical listeners, ring, wake-up, shadow. What a
model says wrong (NaN, wrong shape) costs that frame only and is booked as `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_agent.core.errors import BadFrame
from edge_agent.core.frames import Arrays, Drop, Frame, Result, Signal
from edge_agent.core.ring import Word
from edge_agent.core.schedule import update_estimate
from edge_agent.inference import realtime, record
from edge_agent.inference.desk import Desk, Job
from edge_agent.inference.interpret import Findings
from edge_agent.inference.seats import Run, Seat
from edge_agent.inference.stream import Stream
from edge_agent.ports import Clock, InLaneListener

Streams = Callable[[str], "Stream | None"]


class Told(Protocol):
    """How a lane speaks of what it met."""

    def problem(self, stream: str, code: str, what: str, fix: str) -> None: ...


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

    def body(self, *, realtime_wanted: bool, stopped: Callable[[], bool]) -> None:
        if realtime_wanted:
            realtime.go_realtime(realtime.LANE_PRIORITY)
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
        started = self._clock.boot_us()
        seat = job.run.live  # read once: a swap happens between two frames
        try:
            findings = self._infer(stream, seat, job, started)
        except BadFrame as bad:
            stream.lost(job.run, Drop.ERROR)
            self._told.problem(stream.name, "bad-result", bad.what, bad.hint)
            return
        if job.run.shadow is not None and job.frame.number % job.run.shadow_every == 0:
            self._infer_shadow(job.run, job.frame, findings)

    def _infer(self, stream: Stream, seat: Seat, job: Job, started: int) -> Findings:
        run, frame, clock = job.run, job.frame, self._clock
        roi = seat.region(frame)
        seat.bound.fill(frame, roi)
        run_from = clock.boot_us()
        outputs = seat.bound.run()
        run_to = clock.boot_us()
        findings = seat.look(frame, outputs, roi)
        offset_us, error_us = clock.utc_offset_us()
        made = clock.boot_us()
        result = record.build(
            self._who,
            run,
            seat,
            frame,
            findings=findings,
            times=record.Times(started, run_from, run_to, made),
            situation=record.Situation(
                stream.level, stream.every(run), is_poor(stream.current_signal), offset_us, error_us
            ),
            roi=roi,
        )
        seat.fresh = False
        self._hand_over(stream, run, result, Arrays(frame=frame, outputs=dict(outputs)))
        run.estimate_us = update_estimate(run.estimate_us, made - started)
        run.count.book(findings, seat.bound.input_pixels)
        if run.primary and made > job.deadline_us:
            stream.header.add(Word.MISSED)
        return findings

    def _hand_over(self, stream: Stream, run: Run, result: Result, arrays: Arrays) -> None:
        if not is_poor(stream.current_signal):
            if run.primary:
                stream.freshness.result(result.captured_us)
            for listener in self._listeners:
                listener.result(result, arrays)
        _, body = record.fit(result)
        with stream.publishing:
            stream.results.put(body, primary=run.primary)
        if run.primary:
            stream.header[Word.LAST_RESULT_US] = result.captured_us
            stream.keep_frame(arrays.frame, result.at_us)
        else:
            stream.header.add(Word.EXTRA_RUNS)
        self._wake()

    def _infer_shadow(self, run: Run, frame: Frame, live: Findings) -> None:
        """The shadow looks at the same frame after the result is out; it makes no record."""
        seat = run.shadow
        if seat is None:
            return
        started = self._clock.boot_us()
        try:
            roi = seat.region(frame)
            seat.bound.fill(frame, roi)
            outputs: Mapping[str, NDArray[Any]] = seat.bound.run()
            took_us = self._clock.boot_us() - started
            run.shadow_count.book(live, seat.look(frame, outputs, roi), took_us)
        except BadFrame:
            run.shadow_count.errors += 1


def is_poor(signal: Signal) -> bool:
    """A picture that must not be shown as fresh."""
    return signal in (Signal.FROZEN, Signal.BLACK)
