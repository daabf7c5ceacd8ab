"""Posts as the Router makes them: each on a connection of its own, which it then never closes.

Every message gets a client, and with it a pool of its own, so no connection is used twice; it ends
when the other side closes it, or says that it will. A server that keeps idle connections runs out
of descriptors. This side has a bound, lest the process of a test does too: the oldest one goes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

POST_S: Final = 60.0
MAX_HEAD_BYTES: Final = 1 << 20
REQUEST: Final = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n"
    "Content-Length: {size}\r\nAccept-Encoding: gzip\r\n\r\n"
)


class Posts:
    """keep: the most connections that are held open once they were answered."""

    def __init__(self, keep: int, counts: Counter[str]) -> None:
        self._keep, self._counts = keep, counts
        self._kept: dict[Post, None] = {}  # oldest first

    @property
    def open(self) -> int:
        """Answered, and not closed by anybody."""
        return len(self._kept)

    async def post(self, url: str, content: bytes) -> None:
        """Whatever the answer is. Raises: OSError, or TimeoutError of asyncio, without one."""
        where = urlsplit(url)
        assert where.hostname, url
        head = REQUEST.format(path=where.path or "/", host=where.netloc, size=len(content))
        loop = asyncio.get_running_loop()
        _, post = await loop.create_connection(
            lambda: Post(head.encode() + content, self._gone), where.hostname, where.port or 80
        )
        try:
            await asyncio.wait_for(post.answered, POST_S)
        except BaseException:
            post.close()
            raise
        self._hold(post)

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[0].close()

    def _hold(self, post: Post) -> None:
        if post.is_closed:
            return
        self._kept[post] = None
        while len(self._kept) > self._keep:
            oldest = next(iter(self._kept))
            del self._kept[oldest]
            oldest.close()
            self._counts["closed_by_bound"] += bool(self._keep)
        self._counts["connections_most"] = max(self._counts["connections_most"], self.open)

    def _gone(self, post: Post) -> None:
        self._kept.pop(post, None)


class Post(asyncio.Protocol):
    """answered: done with the answer, or failed when the other side hangs up before it."""

    def __init__(self, request: bytes, gone: Callable[[Post], None]) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_closed = False
        self._request, self._gone = request, gone
        self._transport: asyncio.Transport | None = None
        self._came = bytearray()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport.write(self._request)
        self._request = b""

    def data_received(self, data: bytes) -> None:
        self._came += data
        if self.answered.done() or not _is_whole(self._came):
            return
        self.answered.set_result(None)
        if b"connection: close" in bytes(self._came).lower():
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionResetError("no answer"))
        self._gone(self)


def _is_whole(came: bytearray) -> bool:
    """An answer with its body; without a length it is one when the other side hangs up."""
    head, found, body = bytes(came).partition(b"\r\n\r\n")
    if not found:
        return len(came) > MAX_HEAD_BYTES
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) >= int(value)
        if name == b"transfer-encoding":
            return body.endswith(b"0\r\n\r\n")
    return head.split(b" ")[1:2] == [b"204"]
