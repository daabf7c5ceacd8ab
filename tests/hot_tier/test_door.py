"""The receiver answers each connection and closes it, whatever clients do with theirs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from tests import house
from tests.hot_tier.wire import ask, bundle, offer
from tools.hot_tier import HotTier, HttpRoad
from tools.hot_tier.door import MAX_CONNECTIONS, RESERVED_DESCRIPTORS, connections_bound
from tools.hot_tier.notices import Notices

pytestmark = pytest.mark.anyio
DESCRIPTORS = 256


def request(payload: bytes, path: str = "/up", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


async def connected(port: int) -> socket.socket:
    """A client that closes nothing by itself."""
    loop, found = asyncio.get_running_loop(), socket.socket()
    found.setblocking(False)
    await loop.sock_connect(found, ("127.0.0.1", port))
    return found


async def answered(client: socket.socket, sent: bytes = b"") -> bytes:
    """All that comes, until the other side closes."""
    loop, whole = asyncio.get_running_loop(), b""
    with contextlib.suppress(ConnectionError):
        await loop.sock_sendall(client, sent)
    while True:
        with anyio.fail_after(20):
            try:
                some = await loop.sock_recv(client, 4096)
            except ConnectionError:
                some = b""
        if not some:
            return whole
        whole += some


@contextlib.asynccontextmanager
async def listening(
    folder: Path, connections: int | None = None
) -> AsyncIterator[tuple[HotTier, int, Notices]]:
    notices = Notices()
    road = HttpRoad(0, notices=notices, connections=connections)
    async with HotTier(folder / "db", road, notices=notices) as tier:
        yield tier, road.port, notices


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(b"anything"), 202),
        (request(b"x" * 300_000), 413),
        (request(b"", "/nowhere"), 404),
        (request(b"", method="GET"), 405),
        (b"no request at all\r\n\r\n", 400),
    ],
)
async def test_each_answered_connection_is_closed_by_the_receiver(
    tmp_path: Path, sent: bytes, status: int
) -> None:
    """The Router never closes one: with aiohttp's hour of patience it was deaf after 58 s."""
    async with listening(tmp_path) as (_, port, _):
        with await connected(port) as client:
            answer = await answered(client, sent)  # returns when it is closed
    head = answer.partition(b"\r\n\r\n")[0].decode()
    assert f" {status} " in head.partition("\r\n")[0]
    assert head.startswith("HTTP/1.0 ") or "connection: close" in head.lower()


async def test_beyond_its_bound_it_says_busy_and_tells_so(tmp_path: Path) -> None:
    async with listening(tmp_path, connections=4) as (tier, port, _):
        clients = [await connected(port) for _ in range(4)]
        await anyio.sleep(0.1)  # they are taken
        with await connected(port) as late:
            assert b" 503 " in await answered(late, request(b"payload"))
        for client in clients:  # and those that were there are served
            assert b" 202 " in await answered(client, request(b"payload"))
            client.close()
        with await connected(port) as next_one:
            assert b" 202 " in await answered(next_one, request(b"payload"))
        sheet = tier.sheet()
        assert sheet["wire"]["turned_away"] == 1
        assert "connection-limit" in [one["code"] for one in sheet["problems"]]


async def test_a_burst_of_whole_requests_waits_for_its_turn_and_is_answered(tmp_path: Path) -> None:
    async with listening(tmp_path, connections=4) as (tier, port, _):
        got: list[bytes] = []

        async def post() -> None:
            with await connected(port) as client:
                got.append(await answered(client, request(b"payload")))

        async with anyio.create_task_group() as clients:
            for _ in range(100):
                clients.start_soon(post)
        assert [b" 202 " in one for one in got] == [True] * 100
        assert tier.sheet()["wire"]["turned_away"] == 0


async def test_clients_that_send_half_a_request_make_room_for_those_that_send_a_whole_one(
    tmp_path: Path,
) -> None:
    async with listening(tmp_path, connections=4) as (tier, port, _):
        halves = [await connected(port) for _ in range(4)]
        loop = asyncio.get_running_loop()
        for number, half in enumerate(halves):
            begun = request(b"x" * 100)[: 10 if number % 2 else -50]  # in the head, in the body
            await loop.sock_sendall(half, begun)
        await anyio.sleep(2.1)
        for _ in range(6):
            with await connected(port) as whole:
                assert b" 202 " in await answered(whole, request(b"payload"))
        assert tier.sheet()["wire"]["timed_out"] >= 1
        assert "slow-client" in [one["code"] for one in tier.sheet()["problems"]]
        for half in halves:
            half.close()


async def test_a_request_that_never_ends_is_closed_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.hot_tier.roads.REQUEST_S", 0.5)
    async with listening(tmp_path) as (tier, port, _):
        with await connected(port) as slow, await connected(port) as silent:
            assert await answered(slow, b"POST /up HTTP/1.1\r\nX-A: 1\r\n") == b""
            assert await answered(silent) == b""
        assert tier.sheet()["wire"]["timed_out"] == 2


def test_the_bound_leaves_descriptors_for_the_rest_of_the_process() -> None:
    assert connections_bound(256) == 256 - RESERVED_DESCRIPTORS
    assert connections_bound(1 << 20) == MAX_CONNECTIONS
    assert connections_bound(resource.RLIM_INFINITY) == MAX_CONNECTIONS
    assert connections_bound(20) > 0


# ── a process with few descriptors ────────────────────────────────────────────────────────────


@contextlib.contextmanager
def receiving(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """With at most so many descriptors, and where it listens."""
    words = [sys.executable, "-m", "tools.hot_tier", "receive", "--http", "0"]
    words += ["--db", str(folder / "db"), "--sheet", str(folder / "sheet")]
    shell = ["bash", "-c", f'ulimit -n {DESCRIPTORS} && exec "$@"', "bash", *words]
    process = subprocess.Popen(shell, cwd=house.ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process, int(json.loads(process.stdout.readline())["road"].rpartition(":")[2])
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


async def _posts(port: int, number: int, kept: list[socket.socket]) -> int:
    """One after the other, a new client each that never closes; how many were answered 202."""
    good, sent = 0, request(bundle(ask("n1", offer(1, 1))))
    for _ in range(number):
        client = await connected(port)
        kept.append(client)
        good += b" 202 " in await answered(client, sent)
        if len(kept) > 1000:  # our own descriptors; the receiver has closed them long ago
            kept.pop(0).close()
    return good


def _descriptors(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


@pytest.mark.parametrize(
    "posts",
    [1000, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
)
async def test_few_descriptors_are_enough_for_a_connection_per_post_that_never_closes(
    tmp_path: Path, posts: int
) -> None:
    kept: list[socket.socket] = []
    good: list[int] = []
    seen: list[int] = []
    with receiving(tmp_path) as (process, port):

        async def some(number: int) -> None:
            good.append(await _posts(port, number, kept))

        async def look() -> None:
            while True:
                seen.append(_descriptors(process.pid))
                await anyio.sleep(0.05)

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            async with anyio.create_task_group() as clients:
                for _ in range(8):
                    clients.start_soon(some, posts // 8)
            group.cancel_scope.cancel()
        process.terminate()
        assert process.wait(20) == 0
    for client in kept:
        client.close()
    assert sum(good) == posts
    assert max(seen) < 64  # flat: what the process needs, and those just being answered
    wire = json.loads((tmp_path / "sheet").read_bytes())["wire"]
    assert (wire["bundles"] + wire["overrun"], wire["turned_away"]) == (posts, 0)
