"""The way down: connections are used again, a door that is shut is not hammered, and it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from aiohttp import web

from edge_agent.core.errors import Rejected
from tools.hot_tier.notices import Notices
from tools.hot_tier.router import MAX_NODE_POSTS, MAX_POSTS, Address, Posts, router_url
from tools.hot_tier.way_back import IN_VAIN

pytestmark = pytest.mark.anyio
TO = Address("a", "a", "a/x")


class Door:
    """CloudCore's, which may be slow, and answers what it is told to."""

    def __init__(self) -> None:
        self.status, self.pause_s, self.taken = 200, 0.0, 0
        self.clients: set[tuple[str, int]] = set()

    async def take(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.clients.add(request.transport.get_extra_info("peername"))
        await asyncio.sleep(self.pause_s)
        self.taken += 1
        return web.Response(status=self.status)


@asynccontextmanager
async def opened(door: Door, port: int = 0) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_post("/{tail:.*}", door.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


async def test_connections_are_used_again() -> None:
    door = Door()
    async with opened(door) as port:
        posts = Posts(lambda: f"http://127.0.0.1:{port}", Notices())
        async with posts.open():
            for turn in range(30):
                assert posts.begin(Address("a", "a", "a/default/x"), b"ack")
                await until(lambda turn=turn: door.taken > turn)  # type: ignore[misc]
    assert len(door.clients) <= 3  # one may still be about to be free


async def test_what_waits_in_memory_is_bounded_for_each_node_and_in_all() -> None:
    door = Door()
    door.pause_s = 30
    async with opened(door) as port:
        posts = Posts(lambda: f"http://127.0.0.1:{port}", Notices())
        async with posts.open():
            sent = [posts.begin(TO, b"") for _ in range(100)]
            assert sum(sent) == MAX_NODE_POSTS
            sent += [posts.begin(Address(f"n{n}", "n", "n/x"), b"") for n in range(200)]
            assert sum(sent) == MAX_POSTS


async def test_a_router_that_is_away_is_told_and_tried_ever_more_seldom() -> None:
    door, notices = Door(), Notices()
    async with opened(door) as port:
        pass  # it was there once
    posts = Posts(lambda: f"http://127.0.0.1:{port}", notices)
    async with posts.open():
        tries = 0
        with anyio.move_on_after(2.5):
            while True:
                tries += posts.begin(TO, b"ack")
                await anyio.sleep(0.01)
        assert 1 <= tries <= 12  # of 250
        assert [one["code"] for one in notices.problems()] == ["router-down"]
        async with opened(door, port):
            await until(lambda: posts.begin(TO, b"ack") and not notices.problems())
            await until(lambda: posts.begin(TO, b"ack"))  # at once again


async def test_a_router_without_a_rule_is_told_and_a_node_that_is_away_is_not() -> None:
    door, notices = Door(), Notices()
    async with opened(door) as port:
        posts = Posts(lambda: f"http://127.0.0.1:{port}", notices)
        async with posts.open():
            door.status = 500
            posts.begin(TO, b"ack")
            await until(lambda: door.taken == 1)
            await anyio.sleep(0.05)
            assert notices.problems() == []
            for turn in range(IN_VAIN):
                posts.heard("a")
                posts.begin(TO, b"ack")
                await until(lambda turn=turn: door.taken == turn + 2)  # type: ignore[misc]
                await anyio.sleep(0.05)
            assert [one["code"] for one in notices.problems()] == ["node-unreached"]
            door.status = 200
            posts.begin(TO, b"ack")
            await until(lambda: not notices.problems())
            door.status = 404
            posts.begin(TO, b"ack")
            await until(lambda: bool(notices.problems()))
    (one,) = notices.problems()
    assert one["code"] == "router-refuses"


@pytest.mark.parametrize(
    "given",
    ["cloudcore:9443", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x/?q=1", "x",
     "http://u:p@x"],
)  # fmt: skip
def test_a_router_that_is_no_address_is_refused_with_the_way_out(given: str) -> None:
    with pytest.raises(Rejected, match="http://HOST:PORT"):
        router_url(given)
    assert router_url("http://cloudcore:9443/") == "http://cloudcore:9443"
