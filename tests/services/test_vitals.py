from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.host import SystemClock, SystemHost
from edge_agent.services.vitals import Beats, Pulse, Vitals, may_ping


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.bind(str(path))

    def heard(self) -> list[str]:
        states = []
        try:
            while True:
                states.append(self._sock.recv(200).decode())
        except BlockingIOError:
            return states

    def close(self) -> None:
        self._sock.close()


def vitals(
    beats: Callable[[], Beats], *, notify_socket: str = "", watchdog_s: float | None = None
) -> Vitals:
    return Vitals(
        host=SystemHost(notify_socket=notify_socket),
        clock=SystemClock(),
        engine_beats=beats,
        watchdog_s=watchdog_s,
        start_timeout_s=0.3,
        period_s=0.02,
    )


async def live(room: Vitals, duration_s: float) -> None:
    async with anyio.create_task_group() as group:
        started = anyio.Event()
        group.start_soon(room.run, started.set)
        await started.wait()
        await anyio.sleep(duration_s)
        group.cancel_scope.cancel()


def test_lanes_that_all_moved_may_ping() -> None:
    assert may_ping(Pulse((1, 1), 0.0), (2, 3), 9.0, start_timeout_s=5) == (
        True,
        Pulse((2, 3), 9.0),
    )


def test_one_lane_that_did_not_move_withholds_the_ping() -> None:
    pulse = Pulse((1, 1), 0.0)
    assert may_ping(pulse, (2, 1), 1.0, start_timeout_s=5) == (False, pulse)


def test_a_restart_of_the_engine_is_allowed_for_a_bounded_time() -> None:
    pulse = Pulse((7, 7), 10.0)
    may, pulse = may_ping(pulse, (), 14.0, start_timeout_s=5)
    assert may
    may, pulse = may_ping(pulse, (), 16.0, start_timeout_s=5)
    assert not may


def test_an_engine_that_starts_again_and_again_without_moving_is_not_alive() -> None:
    pulse = Pulse((7,), 0.0)
    answers = []
    for now_s in range(1, 9):
        beats: Beats = (0,) if now_s % 2 else ()
        may, pulse = may_ping(pulse, beats, float(now_s), start_timeout_s=5)
        answers.append(may)
    assert answers[-1] is False


@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), max_size=30))
def test_no_ping_ever_covers_a_stuck_lane(steps: list[list[int]]) -> None:
    pulse, beats = Pulse((0, 0), 0.0), [0, 0]
    since = [0, 0]
    for now_s, step in enumerate(steps, start=1):
        for lane, moved in enumerate(step):
            beats[lane] += moved
            since[lane] += moved
        may, pulse = may_ping(pulse, (beats[0], beats[1]), float(now_s), start_timeout_s=5)
        assert may == all(since)
        if may:
            since = [0, 0]


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet_loop")
async def test_the_watchdog_is_fed_while_the_lanes_move(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "n")
    beats = iter(range(10_000))
    room = vitals(lambda: (next(beats),), notify_socket=str(tmp_path / "n"), watchdog_s=0.06)
    await live(room, 0.3)
    heard = manager.heard()
    manager.close()
    assert set(heard) == {"WATCHDOG=1"}
    assert len(heard) >= 5


@pytest.mark.anyio
async def test_a_stuck_lane_starves_the_watchdog_and_a_late_start_too(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "n")
    path = str(tmp_path / "n")
    moving = iter(range(10_000))
    stuck = vitals(lambda: (next(moving), 5), notify_socket=path, watchdog_s=0.06)
    await live(stuck, 0.2)
    assert len(manager.heard()) <= 1  # the first look has nothing to compare with
    never = vitals(lambda: (), notify_socket=path, watchdog_s=0.06)
    await live(never, 0.25)
    assert manager.heard()
    async with anyio.create_task_group() as group:
        group.start_soon(never.run, lambda: None)
        await anyio.sleep(0.4)
        manager.heard()
        await anyio.sleep(0.15)
        assert manager.heard() == []
        group.cancel_scope.cancel()
    manager.close()


@pytest.mark.anyio
async def test_a_loop_that_stands_feeds_nobody_and_is_measured(tmp_path: Path) -> None:
    manager = Manager(tmp_path / "n")
    beats = iter(range(10_000))
    lags: list[float] = []
    room = Vitals(
        host=SystemHost(notify_socket=str(tmp_path / "n")),
        clock=SystemClock(),
        engine_beats=lambda: (next(beats),),
        watchdog_s=0.06,
        start_timeout_s=1.0,
        on_lag=lags.append,
    )
    async with anyio.create_task_group() as group:
        started = anyio.Event()
        group.start_soon(room.run, started.set)
        await started.wait()
        await anyio.sleep(0.05)
        manager.heard()
        time.sleep(0.5)  # noqa: ASYNC251 - holding up the loop is the point
        assert manager.heard() == []
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()
    manager.close()
    assert max(lags) >= 0.2


@pytest.mark.anyio
@pytest.mark.usefixtures("quiet_loop")
async def test_the_host_is_sampled_off_the_loop() -> None:
    room = vitals(lambda: ())
    await live(room, 0.05)
    first = room.latest
    assert first is not None
    assert first.memory_total_bytes
    await live(room, 0.05)
    assert room.latest is not first
