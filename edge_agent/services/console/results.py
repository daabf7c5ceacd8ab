"""Live results for viewers on this box: NDJSON, the newest line wins.

Whose lines they are sees to a slot of one per follower; here little may grow old on its way, and
who reads nothing for `WRITE_TIMEOUT_S` is let go.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
from aiohttp import web

from edge_agent.core.errors import Overloaded

WRITE_TIMEOUT_S = 10.0
SEND_BUFFER_BYTES = 32 << 10  # the kernel's share of what may grow old on its way
NDJSON = "application/x-ndjson"


class Seats:
    """Places for so many clients of one kind at a time, all emptied at the end."""

    def __init__(self, limit: int, verb: str = "follow results") -> None:
        self._limit = limit
        self._verb = verb
        self._taken: set[anyio.CancelScope] = set()

    @contextmanager
    def take(self) -> Iterator[anyio.CancelScope]:
        """The scope to follow in; `empty` cancels it.

        Raises: Overloaded.
        """
        if len(self._taken) >= self._limit:
            raise Overloaded(
                f"{self._verb}: {self._limit} clients do so already",
                hint="close one, or raise console.max_followers",
            )
        seat = anyio.CancelScope()
        self._taken.add(seat)
        try:
            yield seat
        finally:
            self._taken.discard(seat)

    def empty(self) -> None:
        for scope in list(self._taken):
            scope.cancel()


async def follow(
    request: web.Request,
    lines: AsyncIterator[bytes],
    *,
    limit: int | None,
    seat: anyio.CancelScope,
) -> web.StreamResponse:
    """Writes lines until the limit, the end of the console, or a client that does not read."""
    response = web.StreamResponse()
    response.content_type = NDJSON
    _keep_little_on_the_way(request)
    try:
        with seat:
            await _write(request, response, lines, limit)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # it left
    return response


async def _write(
    request: web.Request,
    response: web.StreamResponse,
    lines: AsyncIterator[bytes],
    limit: int | None,
) -> None:
    writer = await response.prepare(request)
    assert writer is not None  # only a response that has ended has none
    sent = 0
    async for line in lines:
        with anyio.fail_after(WRITE_TIMEOUT_S):
            await response.write(line + b"\n")
            await writer.drain()
        sent += 1
        if sent == limit:
            return


def _keep_little_on_the_way(request: web.Request) -> None:
    """Small buffers, so that the newest line is not behind hundreds of old ones."""
    if request.transport is None:
        return
    request.transport.set_write_buffer_limits(high=0)
    sock = request.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
