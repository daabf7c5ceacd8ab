"""The agent's end of the inference side: starts it, orders from it, reads its results, buries it.

One run of `Side.run` is one incarnation of the side: a child process, or threads of this one. Its
death is the end of file of the control socket; then the books are closed (what was in flight is
`crash`, or `shutdown` when we told it to stop) and the supervisor starts the next. Never holds a
session, never touches a pixel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any

import anyio

from edge_agent import logs, memory
from edge_agent.config.structs import EngineConfig
from edge_agent.core.errors import EdgeAgentError, SideDied, of_system
from edge_agent.core.frames import AnyRecord, Signal
from edge_agent.orders import Begin, Fresh, StreamOrder
from edge_agent.services.engine.launch import Launch, Launched, bury, exit_code, is_a_crash
from edge_agent.services.engine.line import Heard, Line
from edge_agent.services.engine.taps import Board, Tap

log = logs.get("engine")

HANG_CHECK_S = 0.5
STOP_TIMEOUT_S = 2.5  # streams stop within two seconds; what they run may have to be gone
SOCKET_BUFFER_BYTES = 1 << 20
LIMITS = (
    "look at the limits that the agent runs under: LimitFSIZE, LimitNOFILE, TasksMax, MemoryMax"
)


OnRecord = Callable[[AnyRecord, bool], None]


class Side:
    """Verbs for the rest of the house; `run` for the supervisor."""

    def __init__(
        self,
        *,
        config: EngineConfig,
        begin: Begin,
        launch: Launch,
        on_record: OnRecord,
        heard: Heard,
    ) -> None:
        self._config = config
        self._begin = begin
        self._launch = launch
        self._on_record = on_record
        self._heard = heard
        self._orders: tuple[StreamOrder, ...] = ()
        self._held: frozenset[str] = frozenset()
        self.taps: dict[str, Tap] = {}
        self.board: Board | None = None
        self.starts = 0
        self.is_up = False
        self.has_failed = False  # the last incarnation ended by itself, or never came up
        self._moved_s: float | None = None  # when any lane was last seen to turn
        self._line: Line | None = None
        self._launched: Launched | None = None
        self._ended_by_us = False
        self.crashed = False  # the last one died by itself; nobody outside ended it
        self._ordering = anyio.Lock()
        self._may_try: dict[str, int] = {}  # models whose first version is on trial: on which side

    # ── for the rest of the house ─────────────────────────────────────────────────────────────

    async def configure(self, orders: Sequence[StreamOrder], *, held: Collection[str] = ()) -> None:
        """The whole wanted set of streams; changed and failed ones are stopped and started anew.

        held: streams whose books are kept though they can't be ordered now: their counts go on
        where they were once they can.

        Raises: SideDied, Rejected.
        """
        async with self._ordering:
            self._held = frozenset(held)
            stay = {o.name for o in orders if o in self._orders} - self._failed()
            changed = {o.name for o in self._orders} - stay
            self._orders = orders = tuple(self._startable(orders))
            if self._line is not None and changed:
                others = [o for o in orders if o.name not in changed]
                await self._order_streams(others, timeout_s=STOP_TIMEOUT_S)
            if self._line is not None:
                await self._order_streams(orders)
            self._forget_taps()

    async def begin_again(self) -> None:
        """What is ordered, with the streams that failed started anew.

        Raises: SideDied, Rejected.
        """
        await self.configure(self._orders, held=self._held)

    def _startable(self, orders: Sequence[StreamOrder]) -> list[StreamOrder]:
        """Without streams of a first version on trial that nobody judges: it was begun on a side
        that is gone, and what may have taken that one along does not come back by itself.
        """
        return [
            order
            for order in orders
            if all(self._may_try.get(r.name) == self.starts for r in order.models if r.trial)
        ]

    def _forget_taps(self) -> None:
        """Of streams that are no longer ordered; one that is still open is closed first."""
        wanted = {order.name for order in self._orders} | self._held
        for name in [name for name, tap in self.taps.items() if not tap.is_open]:
            if name not in wanted:
                del self.taps[name]

    def _failed(self) -> set[str]:
        """Streams that gave up: whoever orders them again wants them tried again."""
        return {name for name, tap in self.taps.items() if tap.signal() is Signal.FAILED}

    async def ask(self, verb: str, *, timeout_s: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Any verb of `orders.Request`; returns what it answered.

        Raises: SideDied when there is no side or it dies meanwhile, Rejected with its words.
        """
        line = self._line
        if line is None or line.is_deaf():
            raise SideDied(f"{verb}: the inference side is down", hint="it restarts by itself")
        try:
            return await line.ask(verb, timeout_s=timeout_s, **fields)
        except SideDied:
            if line.is_deaf():
                self._end_deaf(line, verb)
            raise

    def _end_deaf(self, line: Line, verb: str) -> None:
        """One that is silent is ended before anything else is asked of it: nobody knows what it
        does, and what it was told to take back may still be live.
        """
        log.error("the inference side does not answer; it is ended", verb=verb)
        self.is_up = False
        if self._launched is not None and line is self._line:
            self._ended_by_us = True
            self._launched.kill()
        line.closed.set()

    def beats(self) -> tuple[int, ...]:
        """Turns of each lane; empty while the side is down."""
        return self.board.beats(self._begin.lanes) if self.board and self.is_up else ()

    def still_s(self) -> float:
        """For how long no lane has turned: the side is stopped, starved or in one long run."""
        if not self.is_up or self._moved_s is None:
            return 0.0
        return max(0.0, anyio.current_time() - self._moved_s)

    # ── one incarnation ───────────────────────────────────────────────────────────────────────

    async def run(self, ready: Callable[[], None]) -> None:
        """Raises: SideDied; Overloaded, Damaged when this machine does not let a side begin."""
        try:
            await self._run(ready)
        except OSError as error:
            raise of_system("start the inference side", error, LIMITS) from error

    async def _run(self, ready: Callable[[], None]) -> None:
        with contextlib.ExitStack() as held:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            held.enter_context(ours)
            ours.setblocking(False)
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            held.callback(os.close, event_fd)
            self.board = Board()
            held.callback(self.board.close)
            try:
                side = self._launch(theirs, event_fd, self.board.fd)
            except OSError:
                theirs.close()
                raise
            self.starts += 1
            self._launched = side
            self._ended_by_us = False
            self._line = Line(ours, self._heard)
            loop = asyncio.get_running_loop()
            loop.add_reader(event_fd, self._woken, event_fd)
            held.callback(loop.remove_reader, event_fd)
            await self._live(side, self._line, ready)

    async def _live(self, side: Launched, line: Line, ready: Callable[[], None]) -> None:
        clean = False
        try:
            await self._serve(side, line, ready)
        except anyio.get_cancelled_exc_class():
            clean = True
            with anyio.CancelScope(shield=True):
                await self._stop(line)
            raise
        finally:
            self.is_up, self.has_failed, self._line = False, not clean, None
            self._moved_s = None
            line.hang_up()  # end of file for the side, whatever state it is in
            with anyio.CancelScope(shield=True):
                await bury(side, self._config.stop_grace_s)
                self.crashed = self._ended_by_us or await is_a_crash(side)
            self._close_books(clean=clean)

    async def _serve(self, side: Launched, line: Line, ready: Callable[[], None]) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(line.read_on)
            await line.ask("begin", timeout_s=self._config.start_timeout_s, begin=self._begin)
            self.is_up, self.has_failed = True, False
            async with self._ordering:
                self._orders = tuple(self._startable(self._orders))
                await self._order_streams(self._orders)
            log.info("inference side ready", start=self.starts, streams=len(self._orders))
            ready()
            await self._watch(side, line)
            group.cancel_scope.cancel()
        code = await exit_code(side)
        in_flight = sum(tap.totals().in_flight for tap in self.taps.values())
        raise SideDied(
            f"the inference side died ({code}) with {in_flight} frames in flight",
            hint="it restarts by itself; look for its traceback in the log",
        )

    async def _watch(self, side: Launched, line: Line) -> None:
        """Returns when the side is gone; kills one whose lanes no longer turn."""
        before: tuple[int, ...] = ()
        moved_s = anyio.current_time()
        while not line.closed.is_set():
            with anyio.move_on_after(HANG_CHECK_S):
                await line.closed.wait()
            beats = self.beats()
            if beats != before:
                self._moved_s = anyio.current_time()
            if len(before) != len(beats) or all(b > a for a, b in zip(before, beats, strict=True)):
                before, moved_s = beats, anyio.current_time()
            elif anyio.current_time() - moved_s > self._config.hang_s:
                log.error("a lane hangs; its side is killed", beats=beats)
                self._ended_by_us = True
                side.kill()
                return

    async def _order_streams(
        self, orders: Sequence[StreamOrder], *, timeout_s: float | None = None
    ) -> None:
        """timeout_s: None gives new streams the time that their models take to load."""
        wanted = {order.name for order in orders}
        tapped = {name for name, tap in self.taps.items() if tap.is_open}
        fresh = [order.name for order in orders if order.name not in tapped]
        taps = [self.taps.setdefault(name, Tap(name)) for name in fresh]
        fds = [_memory_of(name) for name in fresh]
        try:
            for tap, fd in zip(taps, fds, strict=True):
                tap.open(fd)
            await self.ask(
                "configure",
                timeout_s=timeout_s or self._config.start_timeout_s,
                fds=fds,
                streams=tuple(orders),
                fresh=tuple(Fresh(name=t.name, captured=t.totals().captured) for t in taps),
            )
        finally:
            for fd in fds:
                os.close(fd)
        for name in [name for name in self.taps if name not in wanted]:
            self._drain(self.taps[name])
            self.taps[name].close(clean=True)

    # ── results ───────────────────────────────────────────────────────────────────────────────

    def _woken(self, event_fd: int) -> None:
        try:
            os.eventfd_read(event_fd)
        except BlockingIOError:
            return
        for tap in self.taps.values():
            self._drain(tap)

    def _drain(self, tap: Tap) -> None:
        for record, primary in tap.drain():
            self._on_record(record, primary)

    # ── the end ───────────────────────────────────────────────────────────────────────────────

    async def _stop(self, line: Line) -> None:
        with anyio.move_on_after(self._config.stop_grace_s):
            async with anyio.create_task_group() as group:
                group.start_soon(line.read_on)
                try:
                    await line.ask("stop", timeout_s=self._config.stop_grace_s)
                except EdgeAgentError as down:
                    log.warning("stop was not answered", error=down.what)
                group.cancel_scope.cancel()

    def _close_books(self, *, clean: bool) -> None:
        for tap in self.taps.values():
            self._drain(tap)
            tap.close(clean=clean)
        self._forget_taps()


def _memory_of(stream: str) -> int:
    """Raises: Overloaded, Damaged."""
    try:
        return memory.create(stream)
    except OSError as error:
        raise of_system(f"make the shared memory of stream {stream}", error, LIMITS) from error
