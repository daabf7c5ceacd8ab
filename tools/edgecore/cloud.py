"""The far end of EdgeCore's road: Rules that deliver, and the REST door back down.

A Rule matches one topic exactly and delivers the bare content: neither topic nor node goes with it,
whatever the other side answers counts as delivered, nothing is tried again, nothing empty is sent.
It is the Router that puts the Rule's namespace in front of its topic; EdgeCore adds nothing. Each
post has a connection of its own, see `posts`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web

from tools.edgecore.posts import Posts
from tools.edgecore.road import Upload

MAX_AT_ONCE: Final = 64
Deliver = Callable[[bytes], Awaitable[None]]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """topic: exactly, behind `ns/` where one is given; what the agent publishes on is both.

    Delivers by POST to `url`, on a topic of the same broker, or by `call`.
    """

    topic: str
    ns: str = ""
    url: str = ""
    publish: str = ""
    call: Deliver | None = None


class Router:
    """Looks up the Rule of what comes up, and delivers it: each message by itself."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        *,
        publish: Callable[[str, bytes], Awaitable[None]],
        posts: Posts,
        counts: Counter[str],
    ) -> None:
        self._rules = {f"{rule.ns}/{rule.topic}" if rule.ns else rule.topic: rule for rule in rules}
        self._publish = publish
        self._counts = counts
        self._posts = posts
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(MAX_AT_ONCE)

    async def route(self, upload: Upload) -> None:
        """Returns when delivery has begun; waits while too many have."""
        rule = self._rules.get(upload.topic)
        if rule is None or not upload.payload:
            self._counts["no_rule" if rule is None else "empty_refused"] += 1
            return
        await self._places.acquire()
        task = asyncio.ensure_future(self._deliver(rule, upload.payload))
        self._tasks.add(task)
        task.add_done_callback(self._is_done)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._posts.close()

    def _is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._places.release()
        if not task.cancelled():
            self._counts["deliver_failed" if task.exception() else "delivered"] += 1

    async def _deliver(self, rule: Rule, content: bytes) -> None:
        if rule.call is not None:
            await rule.call(content)
        elif rule.publish:
            await self._publish(rule.publish, content)
        else:
            await self._posts.post(rule.url, content)


class RestDoor:
    """`POST /<node>/<ns>/<topic>` publishes on <topic> at the edge; 200 says only: queued.

    max_bytes: of a body; the bound is this door's, the road up has none.
    """

    def __init__(self, node: str, send: Callable[[str, bytes], bool], max_bytes: int) -> None:
        self._node = node
        self._send = send
        self._application = web.Application(client_max_size=max_bytes)
        self._application.router.add_post("/{node}/{ns}/{topic:.+}", self._take)
        self._runner: web.AppRunner | None = None
        self.tries, self.pause_s = 3, 1.0

    async def open(self, port: int) -> int:
        """On loopback; 0 picks a port. Gives the port."""
        self._runner = web.AppRunner(self._application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        content = await request.read()
        if request.match_info["node"] != self._node:
            return web.Response(status=500, text="no session for the node")
        for left in reversed(range(self.tries)):
            if self._send(request.match_info["topic"], content):
                return web.Response(text="message delivered")
            if left:
                await asyncio.sleep(self.pause_s)
        return web.Response(status=500, text="no session for the node")
