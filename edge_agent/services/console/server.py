"""The doors of the console: opens them, keeps idle callers from holding them, closes them."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
from aiohttp import web
from aiohttp.http import HttpProcessingError

from edge_agent import logs
from edge_agent.config.structs import ConsoleConfig
from edge_agent.services.console import access
from edge_agent.services.console.callers import Callers, Share, bounds_of
from edge_agent.services.console.door import Door
from edge_agent.services.console.refusals import DoorRefusal
from edge_agent.services.console.routes import MayWrite, Routes
from edge_agent.services.console.views import Views

SOCKET_NAME: Final = "control.sock"
SWEEP_PERIOD_S = 2.0
FIRST_REQUEST_S = 10.0  # for a new connection to say what it wants
KEEPALIVE_S = 15.0
LINGER_S = 2.0
CLOSE_S = 1.0
MAX_FIELD_BYTES = 4096  # of a line of a head
MANY_DESCRIPTORS = 1 << 20  # where there is no limit

log = logs.get("console")


class Console:
    """Serves `views` until it is cancelled. A taken port is a problem, not an end."""

    def __init__(self, *, config: ConsoleConfig, views: Views, runtime_dir: Path) -> None:
        self._config = config
        self._views = views
        self._path = runtime_dir / SOCKET_NAME
        self._port: int | None = None
        self._problems: list[dict[str, str]] = []

    @property
    def port(self) -> int | None:
        """The port that is really served on 127.0.0.1; None: no HTTP."""
        return self._port

    def problems(self) -> list[dict[str, str]]:
        """In the shape of the status: severity, what, fix."""
        return list(self._problems)

    async def run(self, ready: Callable[[], None]) -> None:
        """Raises: ConfigError when the UNIX socket cannot be bound."""
        self._port, self._problems = None, []
        admin_gid = await anyio.to_thread.run_sync(access.admin_gid)
        may_write = functools.partial(_may_write, own_uid=os.geteuid(), admin_gid=admin_gid)
        callers = Callers(bounds_of(_descriptors(), self._config.max_followers))
        routes = Routes(self._config, self._views, callers, may_write)
        async with self._serving(routes, callers, may_write):
            log.info("listening", port=self._port, socket=SOCKET_NAME)
            ready()
            await self._sweep(routes, callers)

    @asynccontextmanager
    async def _serving(
        self, routes: Routes, callers: Callers, may_write: MayWrite
    ) -> AsyncIterator[None]:
        runner = web.AppRunner(
            routes.app(),
            access_log=None,
            logger=_server_log(),
            auto_decompress=False,
            max_field_size=MAX_FIELD_BYTES,
            handler_cancellation=True,  # a follower of a silent stream must not outlive its client
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=CLOSE_S,
        )
        await runner.setup()
        assert runner.server is not None
        opened = functools.partial(
            Door,
            protocol=runner.server,
            callers=callers,
            share_of=functools.partial(_share_of, may_write=may_write),
        )
        doors: list[Door] = []
        try:
            doors.append(opened(await anyio.to_thread.run_sync(self._bind_unix)))
            if (loopback := self._bind_loopback()) is not None:
                doors.append(opened(loopback))
            for door in doors:
                door.open()
            yield
        finally:
            for door in doors:
                door.close()
            for seats in routes.seats.values():
                seats.empty()
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(4 * CLOSE_S):
                    await runner.cleanup()
                for caller in callers.all():
                    caller.abort()
                _count_closed(routes, callers)
                routes.refusals.write_all()
                await anyio.to_thread.run_sync(self._remove)

    def _bind_unix(self) -> socket.socket:
        access.make_runtime_dir(self._path.parent)
        return access.bind_unix(self._path)

    def _bind_loopback(self) -> socket.socket | None:
        if not self._config.http:
            return None
        try:
            sock = access.bind_loopback(self._config.port)
        except OSError as error:
            what = f"bind {access.LOOPBACK}:{self._config.port}: {error.strerror}"
            fix = "set console.port to a free one, or 0; the socket works meanwhile"
            self._problems = [{"severity": "warning", "what": what, "fix": fix}]
            log.warning("no loopback HTTP", error=what, hint=fix)
            return None
        self._port = int(sock.getsockname()[1])
        return sock

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    async def _sweep(self, routes: Routes, callers: Callers) -> None:
        """Closes connections that ask for nothing, and tells what was refused."""
        while True:
            await anyio.sleep(SWEEP_PERIOD_S)
            now_s = anyio.current_time()
            idle_s = KEEPALIVE_S + LINGER_S  # the server closes them itself, unless nobody reads
            callers.dismiss_late(now_s, first_request_s=FIRST_REQUEST_S, idle_s=idle_s)
            _count_closed(routes, callers)
            routes.refusals.write_due(now_s)


def _count_closed(routes: Routes, callers: Callers) -> None:
    """Connections that found no place, or had to make one."""
    for share in Share:
        closed = callers.refused[share] + callers.evicted[share]
        callers.refused[share] = callers.evicted[share] = 0
        if closed:
            many = DoorRefusal(share.value, "connect", "too many connections")
            routes.refusals.tell(many, anyio.current_time(), number=closed)


def _descriptors() -> int:
    """How many this process may open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def _may_write(peer: access.Peer | None, *, own_uid: int, admin_gid: int | None) -> bool:
    return peer is not None and access.may_write(peer, own_uid=own_uid, admin_gid=admin_gid)


def _share_of(connection: socket.socket, *, may_write: MayWrite) -> Share:
    if connection.family != socket.AF_UNIX:
        return Share.LOOPBACK
    try:
        peer = access.peer_of(connection)
    except OSError:  # it has left
        return Share.STRANGERS
    return Share.OPERATORS if may_write(peer) else Share.STRANGERS


def _server_log() -> logging.Logger:
    """For what breaks in a handler. What a client sends wrong is answered, and fills no log."""
    logger = logging.getLogger(f"{logs.ROOT}.console.http")
    if not any(isinstance(one, _NotTheirs) for one in logger.filters):
        logger.addFilter(_NotTheirs())
    return logger


class _NotTheirs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, HttpProcessingError | web.RequestPayloadError)
