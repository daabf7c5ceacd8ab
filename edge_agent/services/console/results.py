"""Live results for viewers on this box: NDJSON, the newest line wins.

A follower has a slot of one: a line that it did not take in time is replaced, and nothing waits for
it. Who reads nothing for `WRITE_TIMEOUT_S` is let go.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
import msgspec
from aiohttp import web

from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import Result, to_json

WRITE_TIMEOUT_S = 10.0
SEND_BUFFER_BYTES = 32 << 10  # the kernel's share of what may grow old on its way
NDJSON = "application/x-ndjson"


# ── hub ───────────────────────────────────────────────────────────────────────────────────────


class _Line:
    """One line for all followers, encoded when the first takes it."""

    def __init__(self, content: Result | str) -> None:
        self._content = content
        self._encoded: bytes | None = None

    def encoded(self) -> bytes:
        if self._encoded is None:
            if isinstance(self._content, str):
                self._encoded = msgspec.json.encode({"blank": self._content})
            else:
                self._encoded = to_json(self._content)
        return self._encoded


class _Slot:
    """The newest line, waited for by one follower."""

    def __init__(self) -> None:
        self._line: _Line | None = None
        self._filled = anyio.Event()

    def put(self, line: _Line) -> None:
        self._line = line
        self._filled.set()

    async def lines(self) -> AsyncIterator[bytes]:
        while True:
            await self._filled.wait()
            line, self._line, self._filled = self._line, None, anyio.Event()
            if line is not None:
                yield line.encoded()


class Followers:
    """Hands each new line of a stream to whoever follows it. On the loop only; never waits."""

    def __init__(self) -> None:
        self._slots: dict[str, list[_Slot]] = {}

    def result(self, result: Result) -> None:
        self._hand_out(result.stream, result)

    def blank(self, stream: str, reason: str) -> None:
        """Stop showing: there is nothing fresh."""
        self._hand_out(stream, reason)

    @contextmanager
    def subscribe(self, stream: str) -> Iterator[AsyncIterator[bytes]]:
        """Bounded in number by whoever calls it."""
        slot = _Slot()
        self._slots.setdefault(stream, []).append(slot)
        try:
            yield slot.lines()
        finally:
            self._slots[stream].remove(slot)
            if not self._slots[stream]:
                del self._slots[stream]

    def _hand_out(self, stream: str, content: Result | str) -> None:
        slots = self._slots.get(stream)
        if slots:
            line = _Line(content)
            for slot in slots:
                slot.put(line)


# ── the route ─────────────────────────────────────────────────────────────────────────────────


class Seats:
    """Places for followers: `max_followers` of them, all emptied at the end."""

    def __init__(self, max_followers: int) -> None:
        self._max_followers = max_followers
        self._taken: set[anyio.CancelScope] = set()

    @contextmanager
    def take(self) -> Iterator[anyio.CancelScope]:
        """The scope to follow in; `empty` cancels it.

        Raises: Overloaded.
        """
        if len(self._taken) >= self._max_followers:
            raise Overloaded(
                f"follow results: {self._max_followers} followers are connected",
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
