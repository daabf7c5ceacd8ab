"""A way back that is shut is told: nodes keep what is not acknowledged, and cannot see why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from tests.hot_tier.wire import ask, batch, bundle, offer
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.notices import Notices
from tools.hot_tier.way_back import NO_RULE, NOWHERE, REFUSED, UNREACHED, WayBack

pytestmark = pytest.mark.anyio


class Router:
    """Answers every post with `status`."""

    def __init__(self) -> None:
        self.status, self.url = 200, ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Router]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, _: web.Request) -> web.Response:
        return web.Response(status=self.status, text="whatever it says")


async def told(tier: HotTier, number: int, codes: set[str]) -> list[str]:
    """Asks until just these of our codes stand among the problems; what they say."""
    with anyio.fail_after(10):
        while True:
            tier.deliver(bundle(batch(1, 2), ask(f"n{number}", offer(1, 3))))
            await anyio.sleep(0.1)
            found = {one["code"]: one["what"] for one in tier.sheet()["problems"]}
            if set(found) == codes:
                return list(found.values())


async def test_what_the_rest_door_says_is_told_and_is_over_when_it_opens(tmp_path: Path) -> None:
    notices, router = Notices(), Router()
    road = HttpRoad(0, notices=notices)
    async with HotTier(tmp_path / "db", road, notices=notices) as tier:
        await told(tier, 1, {NOWHERE})
        async with router.open():
            road.router, router.status = router.url, 404
            (what,) = await told(tier, 2, {NO_RULE})
            assert "no Rule" in what
            router.status = 500
            assert "does not reach a: 500" in (await told(tier, 3, {NO_RULE, REFUSED}))[1]
            router.status = 200
            await told(tier, 4, set())
        (what,) = await told(tier, 5, {UNREACHED})
        assert "127.0.0.1" not in what


def test_each_node_is_told_by_itself_with_what_kubeedge_calls_it() -> None:
    notices = Notices()
    way = WayBack(notices)
    way.answered("a", "a", 500)
    way.answered("ward-3", "ward.3", 503)
    assert [one["what"] for one in notices.problems()] == [
        "CloudCore does not reach a: 500",
        "CloudCore does not reach ward-3, which KubeEdge calls ward.3: 503",
    ]
    way.answered("a", "a", 200)
    assert len(notices.problems()) == 1
