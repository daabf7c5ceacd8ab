"""A whole agent whose doors are held, and streams that come and go."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.agent import Agent, Shown
from edge_agent.app import running
from edge_agent.config.structs import Config
from tests.agents.living import config_of, inferred, stream, sums, until

pytestmark = pytest.mark.anyio

HOLD = """
import os, socket, sys, time
"a".encode("idna")  # imported while the interpreter's own files can be read
if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)
half = b"POST /v1/desired HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nContent-Length: 100\\r\\n\\r\\n{"
held = []
for number in range(int(sys.argv[2])):
    try:
        sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
        held.append(sock)
        sock.sendall(half if number % 2 else b"GET /v1/st")
    except OSError:  # refused
        continue
print("held", flush=True)
time.sleep(60)
"""


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def by_socket(config: Config) -> aiohttp.ClientSession:
    path = f"{config.state_dir}/run/control.sock"
    timeout = aiohttp.ClientTimeout(total=5)
    return aiohttp.ClientSession(
        "http://box", connector=aiohttp.UnixConnector(path), timeout=timeout
    )


async def test_half_sent_requests_of_a_process_without_rights_move_nothing(tmp_path: Path) -> None:
    """Seen: 1,100 of them took every descriptor, the child could not be started again, and the
    agent ended.
    """
    config = config_of(tmp_path, {"a": stream()}, console={"http": True, "port": 0})
    async with running(config) as agent, by_socket(config) as operator:
        await until(lambda: inferred(agent, "a") > 10, "results")
        port = agent.views.console()[0]
        before = descriptors()
        command = [sys.executable, "-c", HOLD, str(port), "400"]
        async with await anyio.open_process(command) as holding:
            assert holding.stdout is not None
            assert await holding.stdout.receive() == b"held\n"
            assert descriptors() < before + 150
            for _ in range(5):
                async with operator.get("/v1/status") as answer:
                    assert (await answer.json())["streams"]["a"]["state"] == "ok"
            shown, frames = sums(agent, "a"), inferred(agent, "a")
            await until(lambda: inferred(agent, "a") > frames + 10, "results all the while")
            assert sums(agent, "a")["dropped"]["crash"] == shown["dropped"]["crash"]
            async with (
                aiohttp.ClientSession(f"http://127.0.0.1:{port}") as scraper,
                scraper.get("/metrics") as page,
            ):
                assert page.status == 200  # those who hold the door longest made room
            holding.kill()


async def test_followers_over_loopback_take_no_place_of_the_sockets(tmp_path: Path) -> None:
    console = {"http": True, "port": 0, "max_followers": 1}
    config = config_of(tmp_path, {"a": stream()}, console=console)
    async with running(config) as agent, by_socket(config) as operator:
        await until(lambda: inferred(agent, "a") > 0, "results")
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{agent.views.console()[0]}") as stranger,
            stranger.get("/v1/results?stream=a") as first,
            stranger.get("/v1/results?stream=a") as second,
            operator.get("/v1/results?stream=a&limit=1") as third,
        ):
            assert (first.status, second.status, third.status) == (200, 503, 200)
            assert json.loads(await third.read())["stream"] == "a"


async def series(agent: Agent) -> dict[tuple[str, str], float]:
    views = agent.views
    assert isinstance(views, Shown)
    text = (await views.metrics()).decode()
    assert len(heads := [line for line in text.splitlines() if line[:1] == "#"]) == len(set(heads))
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_health_problem")  # they come and go with what is wrong
    }


def with_streams(config: Config, folder: Path, **streams: dict[str, Any]) -> Config:
    changed = config_of(folder, streams)
    assert changed.state_dir == config.state_dir
    return changed


async def test_a_stream_that_leaves_takes_its_series_along(tmp_path: Path) -> None:
    """Seen: 200 reloads, 241 series became 16,245."""
    config = config_of(tmp_path, {"a": stream()})
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > 0, "results")
        before = await series(agent)
        for number in range(2):
            name = f"guest{number}"
            await agent.configure(with_streams(config, tmp_path, a=stream(), **{name: stream()}))
            await until(lambda name=name: inferred(agent, name) > 0, "results of a guest")  # type: ignore[misc]
            assert any(name in labels for _, labels in await series(agent))
        await agent.configure(config)
        after = await series(agent)
    assert after.keys() == before.keys()
    assert not [name for name in agent.views.facts if name.startswith("guest")]


async def test_no_count_of_a_stream_that_stays_falls_while_its_model_is_absent(
    tmp_path: Path,
) -> None:
    """Seen: 51 captured frames became 0, and began anew."""
    config = config_of(tmp_path, {"a": stream(), "b": stream()})
    absent = with_streams(config, tmp_path, a=stream(), b=stream(model={"name": "absent"}))
    async with running(config) as agent:
        await until(lambda: inferred(agent, "b") > 10, "results")
        seen: list[dict[tuple[str, str], float]] = [await series(agent)]
        await agent.configure(absent)
        assert sums(agent, "b")["state"] == "failed"
        seen.append(await series(agent))
        frames = inferred(agent, "b")
        await agent.configure(config)
        await until(lambda: inferred(agent, "b") > frames, "results again")
        seen.append(await series(agent))
    for before, after in itertools.pairwise(seen):
        totals = [one for one in before if one[0].endswith(("_total", "_count", "_bucket"))]
        assert [one for one in totals if after.get(one, -1.0) < before[one]] == []
