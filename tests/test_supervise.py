from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
import pytest

from edge_agent import supervise as supervision
from edge_agent.config.structs import SuperviseConfig
from edge_agent.core.errors import LinkDenied, LinkDown, Rejected
from edge_agent.core.restart import Backoff
from edge_agent.host import SystemClock
from edge_agent.supervise import GaveUp, Health, RoomState, rooms, supervise

pytestmark = pytest.mark.anyio

Ready = Callable[[], None]
CONFIG = SuperviseConfig(crashes=3, window_s=60.0, grace_s=0.2)


@pytest.fixture
def health() -> Health:
    return Health(SystemClock())


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "Backoff", lambda **_: Backoff(0.001, 0.004))


def failing(error: Exception, *, times: int = 10**9) -> tuple[list[int], object]:
    starts: list[int] = []

    async def run(ready: Ready) -> None:
        starts.append(1)
        if len(starts) <= times:
            raise error
        ready()
        await anyio.sleep_forever()

    return starts, run


async def steady(ready: Ready) -> None:
    ready()
    await anyio.sleep_forever()


def runner(run: object) -> Callable[[Ready], Awaitable[None]]:
    assert callable(run)
    return run


async def test_weather_is_tried_again_for_ever(health: Health) -> None:
    starts, run = failing(LinkDown("dial broker: refused"), times=20)
    async with rooms("links", config=CONFIG, on_state=health.note) as floor:
        await floor.start("uplink", runner(run), vital=True)
        assert len(starts) == 21
        assert health.rooms()["uplink"].crashes == 0
        assert health.rooms()["uplink"].state is RoomState.RUNNING


async def test_weather_inside_a_group_is_weather_too(health: Health) -> None:
    starts: list[int] = []

    async def run(ready: Ready) -> None:
        starts.append(1)
        if len(starts) > 10:
            ready()
            await anyio.sleep_forever()
        async with anyio.create_task_group() as group:
            group.start_soon(down)

    async def down() -> None:
        raise LinkDown("away")

    async with rooms("links", config=CONFIG, on_state=health.note) as floor:
        await floor.start("uplink", run)
    assert len(starts) == 11


async def test_a_vital_room_out_of_budget_ends_the_process(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    starts, run = failing(ValueError("a bug"))
    with pytest.raises(GaveUp, match=r"run engine: more than 3 crashes in 60 s") as caught:
        async with rooms("vital", config=CONFIG, on_state=health.note) as floor:
            await floor.start("engine", runner(run))
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(starts) == 4
    assert health.rooms()["engine"].state is RoomState.GIVEN_UP
    crashes = [record for record in caplog.records if record.getMessage() == "room crashed"]
    assert len(crashes) == 4
    assert all(record.exc_info for record in crashes)


async def test_a_vital_room_that_falls_later_takes_the_body_with_it(health: Health) -> None:
    falls = anyio.Event()

    async def run(ready: Ready) -> None:
        ready()
        await falls.wait()
        raise ValueError("a bug")

    async def live() -> None:
        async with rooms("vital", config=CONFIG, on_state=health.note) as floor:
            await floor.start("engine", run)
            falls.set()
            await anyio.sleep_forever()

    with pytest.raises(GaveUp):
        await live()


async def test_a_room_that_is_not_vital_is_given_up_and_the_rest_works_on(health: Health) -> None:
    _, run = failing(ValueError("a bug"))
    async with rooms("all", config=CONFIG, on_state=health.note) as floor:
        await floor.start("engine", steady)
        await floor.start("peers", runner(run), vital=False)
        with anyio.fail_after(5):
            await health.until(lambda: health.rooms()["peers"].state is RoomState.GIVEN_UP)
        assert health.rooms()["engine"].state is RoomState.RUNNING
        assert health.is_ready()
        (problem,) = health.problems()
        assert problem.severity == "warning"
        assert problem.what == "peers is given up: ValueError: a bug"


async def test_start_does_not_wait_for_a_network(health: Health) -> None:
    _, run = failing(LinkDown("away", hint="plug it in"))
    async with rooms("links", config=CONFIG, on_state=health.note) as floor:
        with anyio.fail_after(5):
            await floor.start("uplink", runner(run), vital=False)
        assert not health.is_ready()
        with anyio.fail_after(5):
            await health.until(lambda: health.rooms()["uplink"].state is RoomState.BACKOFF)
        room = health.rooms()["uplink"]
        assert (room.hint, room.weather, room.crashes) == ("plug it in", True, 0)
        assert health.problems() == []  # the edge is made for that


async def test_a_room_that_is_begun_holds_nobody_up(health: Health) -> None:
    async def never(_: Callable[[], None]) -> None:
        await anyio.sleep_forever()

    async with rooms("links", config=CONFIG, on_state=health.note) as floor:
        with anyio.fail_after(1):
            floor.begin("uplink", never)
            await health.until(lambda: "uplink" in health.rooms())
        assert floor.inside() == ["uplink"]
    assert floor.inside() == []


async def test_ready_waits_for_every_vital_room(health: Health) -> None:
    go, seen = anyio.Event(), anyio.Event()
    order: list[str] = []

    async def slow(ready: Ready) -> None:
        await go.wait()
        order.append("ready")
        ready()
        await anyio.sleep_forever()

    async def wait() -> None:
        await health.until(health.is_ready)
        order.append("seen")
        seen.set()

    async with (
        anyio.create_task_group() as group,
        rooms("all", config=CONFIG, on_state=health.note) as floor,
    ):
        await floor.start("spool", steady)
        group.start_soon(floor.start, "engine", slow)
        await health.until(lambda: "engine" in health.rooms())
        group.start_soon(wait)
        await anyio.sleep(0.01)
        assert not health.is_ready()
        go.set()
        with anyio.fail_after(5):
            await seen.wait()
    assert order == ["ready", "seen"]


async def test_nesting_is_the_shutdown_order_and_inner_rooms_drain_first(health: Health) -> None:
    order: list[str] = []

    def room(name: str) -> Callable[[Ready], Awaitable[None]]:
        async def run(ready: Ready) -> None:
            ready()
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.move_on_after(1, shield=True):
                    await anyio.sleep(0.02)
                order.append(name)

        return run

    async with rooms("outer", config=CONFIG, on_state=health.note) as outer:
        await outer.start("spool", room("spool"))
        async with rooms("inner", config=CONFIG, on_state=health.note) as inner:
            await inner.start("engine", room("engine"))
        order.append("between")
    assert order == ["engine", "between", "spool"]


async def test_a_room_that_will_not_end_is_named(
    health: Health, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn(ready: Ready) -> None:
        ready()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.move_on_after(0.4, shield=True):
                await anyio.sleep_forever()

    with caplog.at_level(logging.ERROR):
        async with rooms("outer", config=CONFIG, on_state=health.note) as floor:
            await floor.start("spool", stubborn)
    (record,) = [r for r in caplog.records if "grace" in r.getMessage()]
    assert getattr(record, "fields", {})["rooms"] == "spool"


async def test_an_error_of_the_body_arrives_as_itself(health: Health) -> None:
    async def live() -> None:
        async with rooms("all", config=CONFIG, on_state=health.note) as floor:
            await floor.start("engine", steady)
            raise Rejected("no model")

    with pytest.raises(Rejected, match="no model"):
        await live()


async def test_cancellation_passes_through_and_is_no_crash(health: Health) -> None:
    with anyio.move_on_after(0.02) as scope:
        await supervise("engine", steady, vital=True, config=CONFIG, on_state=health.note)
    assert scope.cancelled_caught
    assert health.rooms()["engine"].crashes == 0


async def test_a_room_that_returns_has_finished(health: Health) -> None:
    async def once(ready: Ready) -> None:
        ready()

    async with rooms("all", config=CONFIG, on_state=health.note) as floor:
        await floor.start("replay", once)
    assert health.rooms()["replay"].state is RoomState.FINISHED


async def test_passwords_do_not_reach_the_problems(health: Health) -> None:
    health.note("video", RoomState.BACKOFF, LinkDown("open rtsp://a:b@c"), vital=True)
    assert health.problems()[0].what == "video failed, will restart: open rtsp://c"


async def test_a_try_that_is_under_way_is_no_success(health: Health) -> None:
    """While it connected again, for as long as a silent host lets it wait, nothing was wrong."""
    health.note("uplink", RoomState.BACKOFF, LinkDenied("wrong password"), vital=False)
    health.note("uplink", RoomState.STARTING, None, vital=False)
    assert [one.code for one in health.problems()] == ["link-denied"]
    assert health.rooms()["uplink"].failing
    health.note("uplink", RoomState.RUNNING, None, vital=False)
    assert health.problems() == []
    health.note("uplink", RoomState.STARTING, None, vital=False)
    assert not health.rooms()["uplink"].failing
