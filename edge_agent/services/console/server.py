"""The doors of the console: opens them, keeps idle callers from holding them, closes them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from aiohttp import web

from edge_agent import logs
from edge_agent.config.structs import ConsoleConfig
from edge_agent.services.console import access
from edge_agent.services.console.routes import Routes
from edge_agent.services.console.views import Views

SOCKET_NAME: Final = "control.sock"
SWEEP_PERIOD_S = 2.0
FIRST_REQUEST_S = 10.0  # for a new connection to say what it wants
KEEPALIVE_S = 15.0
LINGER_S = 2.0
CLOSE_S = 1.0
SPARE_CONNECTIONS = 64  # beside the followers

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
        routes = Routes(
            self._config,
            self._views,
            own_uid=os.geteuid(),
            admin_gid=await anyio.to_thread.run_sync(access.admin_gid),
        )
        async with self._serving(routes) as runner:
            log.info("listening", port=self._port, socket=SOCKET_NAME)
            ready()
            await self._sweep(runner, routes)

    @asynccontextmanager
    async def _serving(self, routes: Routes) -> AsyncIterator[web.AppRunner]:
        runner = web.AppRunner(
            routes.app(),
            access_log=None,
            handler_cancellation=True,  # a follower of a silent stream must not outlive its client
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=CLOSE_S,
        )
        await runner.setup()
        try:
            unix = await anyio.to_thread.run_sync(self._bind_unix)
            await _Door(runner, unix).start()
            if (loopback := self._bind_loopback()) is not None:
                await _Door(runner, loopback).start()
            yield runner
        finally:
            routes.seats.empty()
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(4 * CLOSE_S):
                    await runner.cleanup()
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

    async def _sweep(self, runner: web.AppRunner, routes: Routes) -> None:
        """Closes connections that ask for nothing, and the newest idle ones above the bound."""
        since: dict[Any, float] = {}
        bound = self._config.max_followers + SPARE_CONNECTIONS
        while True:
            await anyio.sleep(SWEEP_PERIOD_S)
            assert runner.server is not None
            open_now, now_s = runner.server.connections, anyio.current_time()
            since = {connection: since.get(connection, now_s) for connection in open_now}
            routes.served.intersection_update(open_now)
            idle = [connection for connection in open_now if connection not in routes.served]
            late = [one for one in idle if now_s - since[one] >= FIRST_REQUEST_S]
            above = idle[len(idle) - max(0, len(open_now) - bound) :]
            for connection in {*late, *above}:
                connection.force_close()


class _Door(web.BaseSite):
    """A site on a socket that is bound already; aiohttp's own takes UNIX sockets for TCP."""

    def __init__(self, runner: web.BaseRunner, sock: socket.socket) -> None:
        super().__init__(runner)
        self._sock = sock

    @property
    def name(self) -> str:
        return f"{self._sock.family.name}:{self._sock.getsockname()}"

    async def start(self) -> None:
        await super().start()
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert server is not None
        if self._sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(server, sock=self._sock)
        else:
            self._server = await loop.create_server(server, sock=self._sock)
