"""Reload, stop, hang: whoever is not meant is not disturbed, and the books balance."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from edge_agent.app import running
from edge_agent.cli.daemon import in_threads
from edge_agent.config.structs import Config
from edge_agent.core.errors import EdgeAgentError
from edge_agent.core.frames import Alarm, Event, Record, Result
from edge_agent.supervise import GaveUp
from tests.agents.listening import ORDERS
from tests.agents.living import (
    config_of,
    inferred,
    is_balanced,
    kill_child,
    stream,
    sums,
    until,
    words_of,
)
from tests.tiny import write_package

pytestmark = pytest.mark.anyio

OBEYS = {"listeners": ["tests.agents.listening:obeys"]}
ISOLATIONS = ["process", "thread"]


def loads(config: Config) -> Callable[[], tuple[Config | None, str]]:
    return lambda: (config, "")


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_reload_disturbs_only_the_streams_that_it_changes(
    tmp_path: Path, isolation: str
) -> None:
    seen: list[Record] = []
    engine = {"isolation": isolation}
    first = {"stays": stream(), "goes": stream(), "changes": stream()}
    then = {"stays": stream(), "comes": stream(), "changes": stream(title="Ward 7")}
    config = config_of(tmp_path, first, engine=engine)
    async with running(config, in_process=in_threads, on_record=seen.append) as agent:
        for name in first:
            await until(lambda n=name: inferred(agent, n) > 5, f"results of {name}")  # type: ignore[misc]
        with agent.pipeline.follow("goes") as follower:
            agent.load_again = loads(config_of(tmp_path, then, engine=engine))
            before = {name: sums(agent, name)["captured"] for name in first}
            told = await agent.reload()
            with anyio.fail_after(5):
                async for line in follower:
                    if b"stream removed" in line:
                        break
        assert told["added"] == ("comes",)
        assert told["removed"] == ("goes",)
        assert told["changed"] == ("changes",)
        assert set(agent.views.status()["streams"]) == set(then)
        assert "goes" not in agent.engine.taps
        for name in then:
            floor = before.get(name, 0)
            await until(lambda n=name, f=floor: inferred(agent, n) > f + 5, f"{name} runs")  # type: ignore[misc]
        assert agent.engine.starts == 1
        assert sums(agent, "changes")["title"] == "Ward 7"
    for name in then:
        assert is_balanced(sums(agent, name)), name
    numbers = {n: [r.frame for r in seen if isinstance(r, Result) and r.stream == n] for n in then}
    for name, got in numbers.items():
        assert got == sorted(set(got)), f"{name}: numbers never begin anew"
    dropped = sum(sums(agent, "stays")["dropped"].values())
    gaps = numbers["stays"][-1] - len(numbers["stays"])
    assert gaps <= dropped, "no frame of it is missing but what is booked"
    last = [r for r in seen if isinstance(r, Alarm)]
    assert {a.state for a in last if a.stream == "goes"} <= {"cleared"} or not last


async def test_a_reload_that_is_broken_changes_nothing_and_says_where(tmp_path: Path) -> None:
    async with running(config_of(tmp_path, {"a": stream()})) as agent:
        agent.load_again = lambda: (None, "config.toml:7: fsp — unknown, did you mean 'fps'?")
        told = await agent.reload()
        assert told == {"reloaded": False, "why": agent.load_again()[1]}
        assert "config.toml:7" in words_of(agent)
        await until(lambda: inferred(agent, "a") > 5, "it goes on")
        assert agent.views.status()["state"] == "degraded"
        agent.load_again = loads(config_of(tmp_path, {"a": stream()}))
        assert (await agent.reload())["reloaded"]
        assert "config.toml:7" not in words_of(agent)


async def test_a_reload_tries_a_failed_stream_again(tmp_path: Path) -> None:
    write_package(tmp_path / "models", name="odd", fault="corrupt")
    config = config_of(tmp_path, {"good": stream(), "bad": stream(model={"name": "odd"})})
    async with running(config) as agent:
        await until(lambda: sums(agent, "bad")["state"] == "failed", "it fails")
        agent.load_again = loads(config)
        await agent.reload()
        await until(lambda: sums(agent, "bad")["state"] == "failed", "and fails again")
        assert "model.onnx" in sums(agent, "bad")["reason"], "still with its reason"
        good = tmp_path / "models" / "tiny" / "1.0.0" / "model.onnx"
        (tmp_path / "models" / "odd" / "1.0.0" / "model.onnx").write_bytes(good.read_bytes())
        await agent.reload()
        await until(lambda: inferred(agent, "bad") > 5, "mended on disk, it runs")
        assert sums(agent, "bad")["reason"] == ""
        assert agent.engine.starts == 1


async def test_a_changed_max_age_applies_at_once(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"a": stream()})
    async with running(config) as agent:
        agent.load_again = loads(config_of(tmp_path, {"a": stream(max_age_ms=123.0)}))
        await agent.reload()
        assert agent.pipeline.channels["a"].freshness.max_age_us == 123_000


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_at_the_end_captured_is_inferred_and_dropped_exactly(
    tmp_path: Path, isolation: str
) -> None:
    write_package(tmp_path / "models", name="slow", fault="slow")
    busy = {"name": "slow", "version": "1.0.0"}
    source = {"fps": 200.0}
    streams = {n: stream(source, busy, deadline_ms=1000.0) for n in "abc"}
    seen: list[Record] = []
    config = config_of(tmp_path, streams, engine={"isolation": isolation, "lanes": 1})
    async with running(config, in_process=in_threads, on_record=seen.append) as agent:
        for name in streams:
            await until(lambda n=name: inferred(agent, n) > 10, f"results of {name}")  # type: ignore[misc]
    for name in streams:
        shown = sums(agent, name)
        assert is_balanced(shown), shown
        assert shown["inferred"] == sum(isinstance(r, Result) and r.stream == name for r in seen)
        assert shown["dropped"]["shutdown"] <= 2, "only what waited"
        assert shown["dropped"]["crash"] == 0
    assert not [r for r in seen if isinstance(r, Alarm)], "starting and stopping alarm nobody"
    assert [r.name for r in seen if isinstance(r, Event)] == ["started", "stopped"]


async def test_an_engine_that_is_down_is_an_alarm_and_a_blank(tmp_path: Path) -> None:
    seen: list[Record] = []
    lines: list[bytes] = []
    async with running(config_of(tmp_path, {"a": stream()}), on_record=seen.append) as agent:
        await until(lambda: inferred(agent, "a") > 5, "results")
        with agent.pipeline.follow("a") as follower:
            kill_child(signal.SIGKILL)
            with anyio.fail_after(20):
                async for line in follower:
                    lines.append(line)
                    if b"engine down" in line:
                        break
        await until(
            lambda: [a.state for a in seen if isinstance(a, Alarm) and a.code == "engine-down"]
            == ["raised", "cleared"],
            "raised and cleared",
        )  # fmt: skip
    frames = [r.frame for r in seen if isinstance(r, Result)]
    assert frames == sorted(set(frames)), "a new child goes on counting"


async def test_a_lane_that_hangs_is_killed_with_its_child_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = tmp_path / "orders"
    monkeypatch.setenv(ORDERS, str(orders))
    config = config_of(tmp_path, {"a": stream(), "b": stream()}, engine={**OBEYS, "hang_s": 1.5})
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > 5, "results")
        orders.write_text("hang")
        await until(lambda: agent.engine.starts == 2 and agent.engine.is_up, "a new child")
        before = inferred(agent, "a")
        await until(lambda: inferred(agent, "a") > before + 5, "results flow again")
    for name in "ab":
        assert is_balanced(sums(agent, name)), name
    assert sums(agent, "a")["dropped"]["crash"] + sums(agent, "b")["dropped"]["crash"] >= 1


async def test_who_waits_for_an_answer_learns_of_a_hang_when_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after its own time-out: a reload would have held up the new child for a minute."""
    orders = tmp_path / "orders"
    monkeypatch.setenv(ORDERS, str(orders))
    engine = {**OBEYS, "hang_s": 1.5, "lanes": 1}
    async with running(config_of(tmp_path, {"a": stream()}, engine=engine)) as agent:
        await until(lambda: inferred(agent, "a") > 5, "results")
        orders.write_text("hang")
        await until(lambda: not orders.exists(), "it hangs")
        with anyio.fail_after(20):  # less than the 60 s that a configuration may take
            with pytest.raises(EdgeAgentError, match="inference side"):
                while True:
                    await agent.engine.ask("level", timeout_s=60.0, level=0)
                    await anyio.sleep(0.02)


async def test_a_bug_in_a_listener_takes_the_child_down_and_it_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = tmp_path / "orders"
    monkeypatch.setenv(ORDERS, str(orders))
    seen: list[Record] = []
    config = config_of(tmp_path, {"a": stream()}, engine=OBEYS)
    async with running(config, on_record=seen.append) as agent:
        await until(lambda: inferred(agent, "a") > 5, "results")
        orders.write_text("raise")
        await until(lambda: agent.engine.starts == 2 and agent.engine.is_up, "a new child")
        before = inferred(agent, "a")
        await until(lambda: inferred(agent, "a") > before + 5, "results flow again")
    assert is_balanced(sums(agent, "a"))
    assert sums(agent, "a")["dropped"]["crash"] >= 1


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_listener_that_is_not_there_ends_the_agent_with_words(
    tmp_path: Path, isolation: str
) -> None:
    engine = {"isolation": isolation, "listeners": ["tests.agents.listening:nobody"]}
    config = config_of(
        tmp_path, {"a": stream()}, engine=engine, supervise={"crashes": 1, "window_s": 60.0}
    )
    with pytest.raises(GaveUp, match=r"tests\.agents\.listening:nobody"):
        async with running(config, in_process=in_threads):
            pytest.fail("it never starts")


async def test_the_socket_of_a_dead_agent_does_not_hinder_the_next(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"a": stream()})
    run = tmp_path / "state" / "run"
    run.mkdir(parents=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(run / "control.sock"))
    assert (run / "control.sock").exists()
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > 2, "results")
