from __future__ import annotations

import json
import socket
from pathlib import Path

import aiohttp
import anyio
import pytest

from edge_agent.config.structs import ConsoleConfig
from edge_agent.core.frames import Result
from edge_agent.services.console import SOCKET_NAME, Console
from edge_agent.services.console import results as results_page
from tests.services.console import Agent, get, result, running, wait_for

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def test_results_come_as_lines_up_to_the_limit(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        async with clients.tcp.get("/v1/results?stream=us0&limit=3") as answer:
            assert answer.content_type == "application/x-ndjson"
            lines = []
            agent.followers.result(result(1))
            lines.append(await answer.content.readline())
            agent.followers.blank("us0", "frozen")
            lines.append(await answer.content.readline())
            agent.followers.result(result(9, stream="endo"))
            agent.followers.result(result(2))
            lines.append(await answer.content.readline())
            assert await answer.content.read() == b""
        found = [json.loads(line) for line in lines]
        assert (found[0]["frame"], found[0]["class"]) == (1, "result")
        assert found[1] == {"blank": "frozen"}
        assert found[2]["frame"] == 2


async def test_the_newest_line_wins_for_a_slow_follower(agent: Agent, tmp_path: Path) -> None:
    async with (
        running(agent, tmp_path) as clients,
        clients.tcp.get("/v1/results?stream=us0&limit=2") as answer,
    ):
        for frame in range(1000):
            agent.followers.result(result(frame))
        assert json.loads(await answer.content.readline())["frame"] == 999


async def test_a_follower_that_reads_nothing_is_let_go(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_page, "WRITE_TIMEOUT_S", 0.1)
    async with running(agent, tmp_path) as clients:
        silent = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", clients.console.port))
        silent.sendall(b"GET /v1/results?stream=us0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await wait_for(agent.followers.count, present=True)
        long = Result(node="cart", stream="us0", exam="x" * 16_000)
        with anyio.fail_after(5):
            while agent.followers.count():
                agent.followers.result(long)
                await anyio.sleep(0.005)
        silent.close()


async def test_a_follower_of_a_silent_stream_is_gone_when_its_client_is(
    agent: Agent, tmp_path: Path
) -> None:
    async with running(agent, tmp_path) as clients:
        async with clients.unix.get("/v1/results?stream=endo") as answer:
            await wait_for(agent.followers.count, present=True)
            answer.close()
        await wait_for(agent.followers.count, present=False)


async def test_followers_are_bounded_and_told_what_to_do(agent: Agent, tmp_path: Path) -> None:
    async with (
        running(agent, tmp_path, max_followers=2) as clients,
        clients.tcp.get("/v1/results?stream=us0"),
        clients.tcp.get("/v1/results?stream=us0"),
        clients.unix.get("/v1/results?stream=us0") as by_the_socket,
    ):
        assert by_the_socket.status == 200  # its places are its own
        status, document = await get(clients.tcp, "/v1/results?stream=us0")
        assert status == 503
        assert document["hint"] == "close one, or raise console.max_followers"


async def test_followers_are_ended_whole_when_the_console_ends(
    agent: Agent, tmp_path: Path
) -> None:
    async with anyio.create_task_group() as group:
        up = anyio.Event()
        console = Console(config=ConsoleConfig(port=0), views=agent, runtime_dir=tmp_path)
        group.start_soon(console.run, up.set)
        await up.wait()
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{console.port}") as session,
            session.get("/v1/results?stream=us0") as answer,
        ):
            agent.followers.result(result(1))
            assert await answer.content.readline()
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True), anyio.fail_after(3):
                assert await answer.content.read() == b""
    assert not (tmp_path / SOCKET_NAME).exists()


@pytest.mark.parametrize(
    ("query", "expected", "word"),
    [
        ("?stream=nope", 404, "no stream 'nope'"),
        ("", 400, "expected stream=NAME"),
        ("?stream=us0&limit=0", 400, "limit '0'"),
        ("?stream=us0&limit=many", 400, "limit 'many'"),
        ("?stream=us0&limit=" + "9" * 5000, 400, "limit"),
    ],
)
async def test_a_wrong_question_is_answered_with_words(
    agent: Agent, tmp_path: Path, query: str, expected: int, word: str
) -> None:
    async with running(agent, tmp_path) as clients:
        status, document = await get(clients.tcp, f"/v1/results{query}")
        assert status == expected
        assert word in document["error"]
        if "limit" not in query:
            assert document["hint"] == "streams are: endo, us0"
