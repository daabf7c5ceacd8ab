from __future__ import annotations

import socket
import stat
from pathlib import Path

import aiohttp
import anyio
import pytest

from edge_agent.config.structs import ConsoleConfig
from edge_agent.services.console import SOCKET_NAME, Console
from edge_agent.services.console import callers as callers_page
from edge_agent.services.console import server as server_page
from tests.services.console import Agent, get, result, running

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def test_a_taken_port_costs_the_port_only(agent: Agent, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        console = Console(config=ConsoleConfig(port=port), views=agent, runtime_dir=tmp_path)
        async with anyio.create_task_group() as group:
            up = anyio.Event()
            group.start_soon(console.run, up.set)
            with anyio.fail_after(5):
                await up.wait()
            assert console.port is None
            (problem,) = console.problems()
            assert problem["severity"] == "warning"
            assert str(port) in problem["what"]
            path = str(tmp_path / SOCKET_NAME)
            async with aiohttp.ClientSession(
                "http://box", connector=aiohttp.UnixConnector(path)
            ) as session:
                assert (await get(session, "/v1/status"))[0] == 200
            group.cancel_scope.cancel()


async def test_without_http_only_the_socket_is_open(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path, http=False) as clients:
        assert clients.console.port is None
        assert clients.console.problems() == []
        assert (await get(clients.unix, "/healthz"))[0] == 200
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "run" / SOCKET_NAME).stat().st_mode) == 0o660


async def test_a_connection_that_asks_nothing_is_closed(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_page, "SWEEP_PERIOD_S", 0.02)
    monkeypatch.setattr(server_page, "FIRST_REQUEST_S", 0.1)
    async with running(agent, tmp_path) as clients:
        assert clients.console.port
        slow = await anyio.connect_tcp("127.0.0.1", clients.console.port)
        await slow.send(b"GET /v1/sta")
        async with clients.tcp.get("/v1/results?stream=us0") as answer:
            with anyio.fail_after(3), pytest.raises(anyio.EndOfStream):
                await slow.receive()
            agent.followers.result(result(1))
            assert await answer.content.readline()  # who asked stays
        await slow.aclose()


async def test_connections_are_bounded(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers_page, "SPARE_CONNECTIONS", 4)
    async with running(agent, tmp_path, max_followers=1) as clients:
        assert clients.console.port
        many = [await anyio.connect_tcp("127.0.0.1", clients.console.port) for _ in range(12)]
        ended = 0
        for one in many:
            with anyio.move_on_after(0.1):
                try:
                    ended += (await one.receive()).startswith(b"HTTP/1.1 503")
                except anyio.BrokenResourceError:
                    ended += 1
            await one.aclose()
        assert ended == 7
        assert (await get(clients.tcp, "/healthz"))[0] == 200


async def test_garbage_and_monstrous_requests_do_no_harm(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        assert clients.console.port
        for rubbish in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 400,
            b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        ):
            stream = await anyio.connect_tcp("127.0.0.1", clients.console.port)
            with anyio.fail_after(5):
                await stream.send(rubbish)
                assert (await stream.receive()).startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
            await stream.aclose()
        assert (await get(clients.tcp, "/healthz"))[0] == 200


async def test_a_second_start_takes_over_a_stale_socket(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "run" / SOCKET_NAME))
    async with running(agent, tmp_path) as clients:
        assert (await get(clients.unix, "/healthz"))[0] == 200
