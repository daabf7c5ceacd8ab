"""The child dies: frames are booked, a new one comes, nothing leaks, the agent lives."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest

from edge_agent.app import running
from edge_agent.core.errors import EdgeAgentError
from edge_agent.ground import AlreadyRunning
from edge_agent.supervise import GaveUp
from tests.agents.living import config_of, inferred, is_balanced, kill_child, stream, sums, until

pytestmark = pytest.mark.anyio

MANY = 10


def held() -> tuple[int, int]:
    """(descriptors, memory maps of memfds) of this process."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text()
    return len(os.listdir("/proc/self/fd")), maps.count("/memfd:edge-agent")  # noqa: PTH208


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_killed_child_comes_back_and_its_frames_are_booked(
    tmp_path: Path, number: signal.Signals
) -> None:
    config = config_of(tmp_path, {"a": stream(), "b": stream({"fps": 60.0})})
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > MANY, "results")
        kill_child(number)
        await until(lambda: agent.engine.starts == 2 and agent.engine.is_up, "a new child")
        before = inferred(agent, "a"), inferred(agent, "b")
        await until(lambda: inferred(agent, "a") > before[0] + MANY, "results flow again")
        await until(lambda: inferred(agent, "b") > before[1], "on both streams")
        assert agent.views.ready()
    for name in ("a", "b"):
        shown = sums(agent, name)
        assert is_balanced(shown), shown
        assert shown["dropped"]["crash"] <= 5, "only what was in flight"


async def test_crashes_leak_neither_descriptors_nor_memory(tmp_path: Path) -> None:
    budget = {"crashes": 50, "window_s": 60.0}
    async with running(config_of(tmp_path, {"a": stream()}, supervise=budget)) as agent:
        await until(lambda: inferred(agent, "a") > MANY, "results")
        before = held()
        for life in range(1, 4):
            kill_child(signal.SIGKILL)
            await until(lambda n=life: agent.engine.starts == n + 1 and agent.engine.is_up, "back")  # type: ignore[misc]
            at = inferred(agent, "a")
            await until(lambda n=at: inferred(agent, "a") > n + 2, "results")  # type: ignore[misc]
        after = held()
        assert after[0] <= before[0] + 1
        assert after[1] <= before[1]


async def test_a_child_that_dies_again_and_again_ends_the_agent(tmp_path: Path) -> None:
    budget = {"crashes": 1, "window_s": 60.0}
    with pytest.raises(GaveUp):
        async with running(config_of(tmp_path, {"a": stream()}, supervise=budget)) as agent:
            for _ in range(3):
                await until(lambda: agent.engine.is_up, "a child")
                kill_child(signal.SIGKILL)
                await until(lambda: not agent.engine.is_up, "it died")


async def test_a_second_agent_on_the_same_state_directory_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, {})
    async with running(config):
        with pytest.raises(AlreadyRunning, match=f"pid {os.getpid()}") as refused:
            async with running(config):
                pass
        assert "state_dir" in refused.value.hint
        assert isinstance(refused.value, EdgeAgentError)
    async with running(config):
        pass  # and let in once the first is gone
