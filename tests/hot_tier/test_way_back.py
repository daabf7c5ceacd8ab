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
from tools.hot_tier.way_back import (
    IN_VAIN,
    MAX_NODES,
    NO_RULE,
    NOWHERE,
    REFUSED,
    UNREACHED,
    WayBack,
)

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
            router.status = 200
            await told(tier, 4, set())
        (what,) = await told(tier, 5, {UNREACHED})
        assert "127.0.0.1" not in what


def test_each_node_is_told_by_itself_with_what_kubeedge_calls_it() -> None:
    """Seen: uplink.kubeedge_node was missing, the spool filled, and nobody said why."""
    notices = Notices()
    way = WayBack(notices)
    for _ in range(IN_VAIN):
        for node, place, status in (
            ("a", "a", 500),
            ("ward-3", "ward.3", 503),
            ("off", "off", 500),
        ):
            if node != "off":
                way.heard(node)
            way.answered(node, place, status)
    a, ward = notices.problems()
    assert {a["code"], ward["code"]} == {REFUSED}
    assert a["what"].startswith("a is heard")
    assert ward["what"].startswith("ward-3, which KubeEdge calls ward.3, is heard")
    way.answered("a", "a", 200)
    assert notices.problems() == [ward]


def test_a_node_that_went_away_is_no_problem_however_often_it_is_told() -> None:
    notices = Notices()
    way = WayBack(notices)
    way.heard("a")
    for _ in range(100):
        way.answered("a", "a", 500)
    assert notices.problems() == []


def test_nodes_that_are_kept_in_mind_are_bounded() -> None:
    way = WayBack(Notices())
    for number in range(2 * MAX_NODES):
        way.heard(f"n{number}")
    assert len(way._nodes) == MAX_NODES
