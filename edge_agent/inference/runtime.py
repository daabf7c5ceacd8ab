"""The rooms of the inference side put together: streams, desk, lanes, models, pulse.

`Runtime` is driven by `control` alone, from one thread; nothing here talks to the agent but
through `told` (words) and the streams' memory (numbers, results). A thread that dies of a bug takes
the whole side down (`on_death`): half a side is worse than none, and the agent starts a new one.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from edge_agent.config.structs import EngineConfig
from edge_agent.core import schedule
from edge_agent.core.errors import BadPackage, ConfigError, Damaged, EdgeAgentError
from edge_agent.core.frames import Calibration, Drop, Signal
from edge_agent.inference import realtime, record
from edge_agent.inference.capture import Capture, Start
from edge_agent.inference.desk import Desk
from edge_agent.inference.lanes import Lane
from edge_agent.inference.models import ModelVerbs, warm_seat
from edge_agent.inference.pulse import Pulse
from edge_agent.inference.seats import Loaded, Run, Shelf
from edge_agent.inference.stream import Stream
from edge_agent.orders import ModelRef, StreamOrder
from edge_agent.ports import Clock, FrameSource, InLaneListener

STOP_JOIN_S = 1.0
START_TOGETHER_S = 10.0


class Told(Protocol):
    """The words that leave this side."""

    def facts(self, stream: Stream) -> None: ...

    def calibration(self, stream: str, calibration: Calibration) -> None: ...

    def problem(self, stream: str, code: str, what: str, fix: str) -> None: ...

    def over(self, stream: str, code: str) -> None: ...

    def model(self, stream: str, ref: ModelRef, loaded: Loaded | EdgeAgentError) -> None: ...

    def stats(self, run: Run) -> None: ...


class Neighbours:
    """What `control` brings: effects that differ between child and thread."""

    def __init__(
        self,
        *,
        clock: Clock,
        shelf: Shelf,
        make_source: Callable[[StreamOrder], FrameSource],
        told: Told,
        wake: Callable[[], None],
        beat: Callable[[int], None],
        on_death: Callable[[str], None],
    ) -> None:
        self.clock = clock
        self.shelf = shelf
        self.make_source = make_source
        self.told = told
        self.wake = wake
        self.beat = beat
        self.on_death = on_death


class Runtime:
    """Verbs, each called from the control thread."""

    def __init__(
        self, config: EngineConfig, lanes: int, who: record.Identity, near: Neighbours
    ) -> None:
        self._config = config
        self._who = who
        self._near = near
        self._streams: dict[str, Stream] = {}
        self._stopping = threading.Event()
        self._level = (0, Drop.SHED)
        self._desk = Desk(near.clock.boot_us, self._lost)
        self._listeners = load_listeners(config.listeners)
        self._pulse = Pulse(
            self.all_streams,
            self._listeners,
            clock=near.clock,
            told=near.told,
            stopping=self._stopping,
            watch=self._watch_shadows,
        )
        self.models = ModelVerbs(
            near.shelf, self.all_streams, clock=near.clock, is_idle=lambda: self._desk.is_idle,
            realtime_wanted=config.realtime,
        )  # fmt: skip
        self._threads = [
            spawn(f"lane-{i}", self._lane_body(i), near.on_death) for i in range(lanes)
        ]
        self._threads.append(spawn("pulse", self._pulse_body, near.on_death))

    # ── streams ───────────────────────────────────────────────────────────────────────────────

    def configure(
        self, orders: Sequence[StreamOrder], fds: Mapping[str, int], before: Mapping[str, int]
    ) -> None:
        """The whole wanted set: new streams start, missing ones stop, the others go on.

        fds, before: memory of each new stream, and how many frames it captured so far.
        """
        wanted = {order.name for order in orders}
        self.remove(set(self._streams) - wanted)
        fresh = [order for order in orders if order.name not in self._streams]
        start = Start(len(fresh), START_TOGETHER_S) if self._config.start_together else None
        for order in fresh:
            self._add(order, Stream(order, fds[order.name], before[order.name]), start)

    def _add(self, order: StreamOrder, stream: Stream, start: Start | None) -> None:
        stream.level, stream.level_drop = self._level
        self._streams[order.name] = stream
        try:
            stream.runs = [self._make_run(stream, index) for index in range(len(order.models))]
            self.models.join(stream)
            source = self._near.make_source(order)
        except EdgeAgentError as wrong:
            stream.signal(Signal.FAILED)
            self._near.told.problem(order.name, "stream-rejected", wrong.what, wrong.hint)
            if start is not None:
                threading.Thread(target=start.wait, daemon=True).start()
            self.models.tidy()  # one of its models may have been fine
            return
        self._desk.seat(stream.runs)
        capture = Capture(
            stream,
            source,
            desk=self._desk,
            clock=self._near.clock,
            told=self._near.told,
            realtime_wanted=self._config.realtime,
            start=start,
            publish_blank=self._near.wake,
        )
        stream.capture = spawn(f"cap-{order.name}", capture.body, self._near.on_death)

    def _make_run(self, stream: Stream, index: int) -> Run:
        ref = stream.order.models[index]
        try:
            loaded = self._near.shelf.load(ref.folder, ref.sha, is_known=ref.known)
            seat = warm_seat(loaded, ref, stream.options)
        except (BadPackage, Damaged) as wrong:
            self._near.told.model(stream.name, ref, wrong)
            raise
        self._near.told.model(stream.name, ref, loaded)
        seat.trial = ref.trial
        rank = schedule.rank_of(stream.config.priority, extra=index > 0)
        return Run(stream=stream.name, index=index, ref=ref, seat=seat, rank=rank)

    def remove(self, names: Collection[str]) -> None:
        """Stops streams, all at once: many that hang take no longer than one (`STOP_TIMEOUT_S` of
        who asks for it). What waited is booked as lost at shutdown.
        """
        streams = [self._streams[name] for name in names]
        for stream in streams:
            stream.stop.set()
        join([stream.capture for stream in streams if stream.capture is not None])
        self._desk.leave([run for one in streams for run in one.runs], Drop.SHUTDOWN, STOP_JOIN_S)
        for stream in streams:
            del self._streams[stream.name]
            self._pulse.last_word(stream, "stopped")
        if streams:
            self.models.tidy()

    @property
    def realtime_wanted(self) -> bool:
        return self._config.realtime

    def all_streams(self) -> list[Stream]:
        return list(self._streams.values())

    def stream(self, name: str) -> Stream | None:
        return self._streams.get(name)

    # ── the rest ──────────────────────────────────────────────────────────────────────────────

    def level(self, level: int, *, thermal: bool) -> None:
        """Of every stream, also of those that come later."""
        self._level = (level, Drop.THERMAL if thermal else Drop.SHED)
        for stream in self._streams.values():
            stream.level, stream.level_drop = self._level

    def stop(self) -> None:
        """No more frames; those in a lane still become results. Again is harmless."""
        streams = self.all_streams()
        self.models.shadows.end()
        for stream in streams:
            stream.stop.set()
        join([stream.capture for stream in streams if stream.capture is not None])
        self._desk.close()
        self._stopping.set()
        join(self._threads)
        for stream in streams:
            self._pulse.last_word(stream, "stopped")

    def _watch_shadows(self, now_us: int) -> None:
        for shadow, model in self.models.watch(now_us):
            self._near.told.problem(
                shadow.stream,
                "shadow-hung",
                f"shadow {model}: {shadow.count.problem}; the live model goes on",
                "edge-agent models history",
            )

    def _lost(self, run: Run, why: Drop) -> None:
        stream = self._streams.get(run.stream)
        if stream is not None:
            stream.lost(run, why)

    def _pulse_body(self) -> None:
        if self._config.realtime:
            realtime.go_beside()
        self._pulse.body()

    def _lane_body(self, index: int) -> Callable[[], None]:
        near = self._near
        lane = Lane(
            self._desk,
            who=self._who,
            clock=near.clock,
            streams=self.stream,
            told=near.told,
            listeners=self._listeners,
            wake=near.wake,
            beat=lambda: near.beat(index),
        )

        def body() -> None:
            lane.body(realtime_wanted=self._config.realtime, stopped=self._stopping.is_set)

        return body


def spawn(name: str, body: Callable[[], None], on_death: Callable[[str], None]) -> threading.Thread:
    """A thread whose death by a bug is the death of the whole side."""

    def guarded() -> None:
        finished = False
        try:
            body()
            finished = True
        finally:
            if not finished:
                on_death("".join(traceback.format_exception(*sys.exc_info())))

    thread = threading.Thread(target=guarded, name=name, daemon=True)
    thread.start()
    return thread


def join(threads: Sequence[threading.Thread]) -> None:
    """All of them together within a second: one that hangs takes no time from the others."""
    until_s = time.monotonic() + STOP_JOIN_S
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))


def load_listeners(names: Sequence[str]) -> tuple[InLaneListener, ...]:
    """`package.module:factory` each.

    Raises: ConfigError.
    """
    found: list[InLaneListener] = []
    for name in names:
        module, _, factory = name.partition(":")
        try:
            found.append(getattr(importlib.import_module(module), factory)())
        except (ImportError, AttributeError, TypeError) as error:
            raise ConfigError(
                "engine.listeners", f"load {name!r}: {error}", hint="expected package.module:name"
            ) from error
    return tuple(found)
