"""Where connections come in: one request each, so many at once, none for longer than it may take.

KubeEdge's Router opens a connection for each message and never closes one, so whoever answers has
to. A descriptor is never taken that SQLite, the report files or the way down may need: what is
beyond the bound waits in the kernel for a moment, as a burst does, and then is answered 503 and
closed. Where a client sends half a request and waits, the one
that has waited longest makes room for a new one, so that silent clients cannot make us deaf.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast

from edge_agent.core.errors import LinkDown
from tools.hot_tier.notices import HOLDS_S, Notices

MAX_CONNECTIONS: Final = 512
MIN_CONNECTIONS: Final = 8
RESERVED_DESCRIPTORS: Final = 96  # database, report files, the way down, what the loop itself needs
ACCEPTS_A_TURN: Final = 16  # within the reserve: what is dropped is closed one turn later
LISTEN_BACKLOG: Final = 1024  # connections that the kernel holds for us
REQUEST_S: Final = 15.0  # for all of one request, from the first to the last byte
HOLD_S: Final = 1.0  # in the kernel, until one of those that are open is answered
TURNED_AWAY_A_TURN: Final = 256
PATIENCE_S: Final = 2.0  # then a request that is not whole may have to make room
DEAF_S: Final = 0.1  # until a descriptor is asked for again, where the system had none
BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 5\r\n\r\nbusy\n"
)


def connections_bound(descriptors: int | None = None) -> int:
    """How many connections may be open. descriptors: of the process; None: its soft limit."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if descriptors is None else descriptors
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return min(MAX_CONNECTIONS, max(MIN_CONNECTIONS, soft - RESERVED_DESCRIPTORS))


class Door:
    """make: a protocol for each connection, which closes it once it has answered.

    bound: connections at once. request_s: from its acceptance to its end, at most.
    """

    def __init__(
        self,
        make: Callable[[], asyncio.BaseProtocol],
        notices: Notices,
        *,
        bound: int | None = None,
        request_s: float = REQUEST_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.bound = bound or connections_bound()
        self.request_s = request_s
        self._patience_s = patience_s
        self._make = make
        self._notices = notices
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._open: dict[_Guard, None] = {}  # by age
        self._tasks: set[asyncio.Task[object]] = set()
        self._is_held = False
        self._again: asyncio.TimerHandle | None = None  # while nothing is accepted

    @property
    def connections(self) -> int:
        """Open ones."""
        return len(self._open)

    def open(self, host: str, port: int) -> int:
        """Listens; gives the port. Raises: LinkDown."""
        try:
            family, _, _, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self._listener = socket.socket(family, socket.SOCK_STREAM)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(address)
            self._listener.listen(LISTEN_BACKLOG)
        except OSError as error:
            self.close()
            hint = _hint(error, host)
            raise LinkDown(f"listen on {host}:{port}: {error.strerror}", hint=hint) from error
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Takes no more; what is open is dropped."""
        self._is_held = False
        self._stop()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for one in list(self._open):
            one.drop()
        for task in self._tasks:
            task.cancel()

    def left(self, one: _Guard) -> None:
        """A connection is closed."""
        self._open.pop(one, None)
        if self._is_held and len(self._open) < self.bound:
            self._resume()

    def timed_out(self, one: _Guard) -> None:
        """Its request was not whole in time, or not when others waited."""
        self.left(one)
        self._notices.counts["timed_out"] += 1
        self._notices.tell(
            "slow-client",
            f"{self._notices.counts['timed_out']} connections to --http were closed: they sent no "
            f"whole request within {self.request_s:g} s, or while others waited",
            "look for what else connects to this port: a Rule posts at once and whole",
            for_s=HOLDS_S,
        )
        one.drop()

    def _accept(self) -> None:
        """Somebody waits."""
        if len(self._open) >= self.bound and not self._make_room():
            self._hold()
            return
        for _ in range(min(ACCEPTS_A_TURN, self.bound - len(self._open))):
            taken = self._next()
            if taken is None:
                return
            self._admit(taken)

    def _next(self) -> socket.socket | None:
        """The next one that waits in the kernel."""
        assert self._listener is not None
        try:
            taken, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:  # no descriptor or no memory: of the process or the machine
            self._pause(error)
            return None
        self._notices.over("no-descriptor")
        taken.setblocking(False)
        return taken

    def _hold(self) -> None:
        """A burst of whole requests is over in a moment."""
        self._is_held = True
        self._stop()
        self._again = self._loop.call_later(HOLD_S, self._overdue)

    def _overdue(self) -> None:
        """It is no burst: who waits shall not wait without an answer."""
        for _ in range(TURNED_AWAY_A_TURN):
            taken = self._next() if self._is_held else None
            if taken is None:
                break
            if len(self._open) >= self.bound and not self._make_room():
                self._turn_away(taken)
            else:
                self._admit(taken)
        if self._is_held:
            self._resume()  # holds again, if it is still full and somebody comes

    def _admit(self, taken: socket.socket) -> None:
        guard = _Guard(self, self._make(), self._loop)
        self._open[guard] = None
        task: asyncio.Task[object] = self._loop.create_task(self._begin(guard, taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, guard: _Guard, taken: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: guard, taken)
        except OSError:  # it has gone already
            self.left(guard)
            taken.close()

    def _make_room(self) -> bool:
        oldest = next(iter(self._open))
        if self._loop.time() - oldest.since_s < self._patience_s:
            return False
        self.timed_out(oldest)
        return True

    def _turn_away(self, taken: socket.socket) -> None:
        with suppress(OSError), taken:
            with suppress(BlockingIOError):
                taken.recv(65_536)  # closed with something unread, the answer would be lost
            taken.send(BUSY)
            taken.shutdown(socket.SHUT_WR)
        self._notices.counts["turned_away"] += 1
        self._notices.tell(
            "connection-limit",
            f"{self._notices.counts['turned_away']} connections to --http were answered 503: "
            f"{self.bound} were open at once",
            "raise the limit of open files (LimitNOFILE=, ulimit -n), or look for what else "
            "connects to this port",
            for_s=HOLDS_S,
        )

    def _pause(self, error: OSError) -> None:
        """Instead of a loop that asks without end for a descriptor that is not there."""
        self._notices.tell(
            "no-descriptor",
            f"accept a connection to --http: {error.strerror}",
            "raise the limit of open files (LimitNOFILE=, ulimit -n)",
        )
        self._stop()
        self._again = self._loop.call_later(DEAF_S, self._resume)

    def _stop(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._listener is not None:
            self._loop.remove_reader(self._listener)

    def _resume(self) -> None:
        self._is_held = False
        self._stop()
        if self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)


class _Guard(asyncio.Protocol):
    """One connection: `inner` has the talk, this the time it may take."""

    def __init__(
        self, door: Door, inner: asyncio.BaseProtocol, loop: asyncio.AbstractEventLoop
    ) -> None:
        assert isinstance(inner, asyncio.Protocol)
        self.since_s = loop.time()
        self._door = door
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._is_dropped = False
        self._timer = loop.call_later(door.request_s, door.timed_out, self)

    def drop(self) -> None:
        """Closes it, without waiting for what could not be sent."""
        self._is_dropped = True
        self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._inner.connection_made(transport)
        if self._is_dropped:  # meanwhile
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._door.left(self)
        self._inner.connection_lost(error)


def _hint(error: OSError, host: str) -> str:
    if isinstance(error, PermissionError):
        return "a port from 1024 on, or CAP_NET_BIND_SERVICE"
    if isinstance(error, socket.gaierror) or "assign" in (error.strerror or ""):
        return f"--bind takes an address of this machine, or 0.0.0.0 for all; {host} is none"
    return "is another one running? --http 0 takes a free port"
