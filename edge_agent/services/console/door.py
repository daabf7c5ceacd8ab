"""One listening socket: who comes is counted before anything is read, and closed if there is no
place. Between socket and HTTP stands a protocol that sees when a connection ends, and when its
other end does not read.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

from edge_agent import logs
from edge_agent.services.console.callers import MAX_HEAD_BYTES, Caller, Callers, Share, Stage

ACCEPT_BATCH = 16  # connections; then the loop has its turn
PAUSE_S = 1.0  # the kernel has no descriptor or no memory for one more
GONE = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})  # before it was accepted
FULL_WORDS = (
    b'{"error":"connect: too many connections are open","hint":"close one, or try again",'
    b'"fault":"overloaded"}'
)
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 10\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
) % (len(FULL_WORDS), FULL_WORDS)

log = logs.get("console")


class Door:
    """protocol: makes the server's end of a connection. share_of: whom a new one counts to."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        protocol: Callable[[], asyncio.Protocol],
        callers: Callers,
        share_of: Callable[[socket.socket], Share],
    ) -> None:
        self._sock = sock
        self._protocol = protocol
        self._callers = callers
        self._share_of = share_of
        self._loop = asyncio.get_running_loop()
        self._joining: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None

    def open(self) -> None:
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for joining in self._joining:
            joining.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                connection, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in GONE:
                    continue
                self._short(error)
                return
            self._enter(connection)

    def _short(self, error: OSError) -> None:
        """There is no descriptor: whoever waits in the kernel is asked in later, not in a loop."""
        for share in Share:
            self._callers.make_room(share, self._loop.time())
        log.warning("no connection is taken for a moment", why=error.strerror, pause_s=PAUSE_S)
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(PAUSE_S, self.open)

    def _enter(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        share = self._share_of(connection)
        caller = self._callers.admit(share, connection.fileno(), self._loop.time())
        if caller is None:
            _refuse(connection)
            return
        joining = self._loop.create_task(self._join(connection, caller))
        self._joining.add(joining)
        joining.add_done_callback(self._joining.discard)

    async def _join(self, connection: socket.socket, caller: Caller) -> None:
        protocol = self._protocol()
        self._callers.know(caller, protocol)
        watched = _Watched(protocol, caller, self._callers, self._loop.time)
        is_in = False
        try:
            await self._loop.connect_accepted_socket(lambda: watched, connection)
            is_in = True
        except OSError as error:
            log.warning("a connection was not taken", why=error.strerror)
        finally:
            if not is_in:
                connection.close()
                self._callers.left(caller)
        if caller.leaves:  # it had to make room before it was in
            caller.abort()


def _refuse(connection: socket.socket) -> None:
    """In words, if they can be sent without waiting."""
    with connection:
        try:
            connection.send(FULL, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError:
            return


class _Watched(asyncio.Protocol):
    """Hands everything on, and tells of the connection what the server behind it does not."""

    def __init__(
        self,
        inner: asyncio.Protocol,
        caller: Caller,
        callers: Callers,
        now_s: Callable[[], float],
    ) -> None:
        self._inner = inner
        self._caller = caller
        self._callers = callers
        self._now_s = now_s
        self._end = b""  # of the data before

    def connection_made(self, transport: Any) -> None:
        self._caller.abort = transport.abort
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._callers.left(self._caller)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)
        if self._caller.stage is Stage.WAITS:
            self._measure_head(data)

    def _measure_head(self, data: bytes) -> None:
        """Until its blank line: what comes after it is a body, which has a bound of its own."""
        caller = self._caller
        if caller.head_bytes < 0 or b"\r\n\r\n" in self._end + data:
            caller.head_bytes, self._end = -1, b""
            return
        caller.head_bytes += len(data)
        self._end = data[-3:]
        if caller.head_bytes > MAX_HEAD_BYTES:
            self._callers.dismiss(caller)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._caller.unread_s = self._now_s()
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._caller.unread_s = None
        self._inner.resume_writing()
