"""Callers who hold what they can: heads and bodies that do not end, answers that nobody reads."""

from __future__ import annotations

import logging
import os
import resource
import socket
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from edge_agent.services.console import SOCKET_NAME, Picture, Shot
from edge_agent.services.console import answers as answers_page
from edge_agent.services.console import callers as callers_page
from edge_agent.services.console import server as server_page
from tests.services.console import Agent, Clients, as_nobody, get, running, wait_for

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]

HEAD = b"POST /v1/desired HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ENDLESS = {
    "a head": b"GET /v1/st",
    "a body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "a body that was asked for": HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
    "HTTP/1.0": b"POST /v1/desired HTTP/1.0\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n",
    "an upgrade": b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n\r\n",
    "a body to a read": b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    "a body to a refusal": b"POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 9\r\n\r\n{",
}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_page, "SWEEP_PERIOD_S", 0.05)
    monkeypatch.setattr(server_page, "FIRST_REQUEST_S", 0.2)
    monkeypatch.setattr(server_page, "KEEPALIVE_S", 0.2)
    monkeypatch.setattr(server_page, "LINGER_S", 0.1)
    monkeypatch.setattr(answers_page, "BODY_S", 0.2)


def dial(clients: Clients, sent: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", clients.console.port or 1), timeout=5)
    sock.sendall(sent)
    return sock


async def heard(sock: socket.socket) -> bytes:
    """Everything until its end."""

    def read() -> bytes:
        found = b""
        try:
            while part := sock.recv(1 << 16):
                found += part
        except ConnectionResetError:
            pass
        return found

    with closing(sock):
        return await anyio.to_thread.run_sync(read)


@pytest.mark.usefixtures("hurried")
async def test_whatever_does_not_end_is_ended(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        found = {}
        for name, sent in ENDLESS.items():
            with anyio.fail_after(5):
                found[name] = (await heard(dial(clients, sent))).split(b"\r\n")[0]
        assert (await get(clients.tcp, "/healthz"))[0] == 200
    assert found.pop("a head") == b""
    assert {line.split()[1] for line in found.values()} <= {b"200", b"403", b"408", b"100"}
    assert found["a body"].split()[1] == found["chunks"].split()[1] == b"408"


@pytest.mark.usefixtures("hurried")
async def test_a_trickle_is_not_a_body_but_a_slow_road_with_progress_is(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_page, "MIN_BYTES_PER_S", 1000)
    async with running(agent, tmp_path) as clients:
        slow = dial(clients, HEAD + b"Content-Length: 99\r\n\r\n")
        with anyio.move_on_after(2) as trickling:
            while not await wrote(slow, b"{"):
                await anyio.sleep(0.05)
        assert not trickling.cancelled_caught
        slow.close()
        path = str(tmp_path / "run" / SOCKET_NAME)
        stream = await anyio.connect_unix(path)
        head = b"POST /v1/spool/import HTTP/1.1\r\nHost: box\r\nContent-Length: 2000\r\n\r\n"
        await stream.send(head)
        for _ in range(20):  # for longer than a body without progress may take
            await stream.send(b"x" * 100)
            await anyio.sleep(0.03)
        assert b'"bytes":2000' in await stream.receive()
        await stream.aclose()


async def wrote(sock: socket.socket, content: bytes) -> bool:
    """Whether the other end is done with it."""
    sock.setblocking(False)
    try:
        sock.send(content)
        return sock.recv(1 << 16, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    except OSError:
        return True


@pytest.mark.usefixtures("hurried")
async def test_answers_that_nobody_reads_do_not_keep_their_connection(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"schema": 1, "words": "x" * 500_000}
    monkeypatch.setattr(agent, "status", lambda: long)
    monkeypatch.setattr("edge_agent.services.console.routes.RESPONSE_TIMEOUT_S", 0.3)
    async with running(agent, tmp_path) as clients:
        before = descriptors_open()
        silent = []
        for _ in range(4):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", clients.console.port))
            sock.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 8)
            silent.append(sock)
        with anyio.fail_after(8):
            while descriptors_open() > before + len(silent):
                await anyio.sleep(0.05)
        for sock in silent:
            sock.close()


async def test_a_held_port_still_answers_and_takes_nothing_from_the_socket(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers_page, "SPARE_CONNECTIONS", 6)
    async with running(agent, tmp_path, max_followers=1) as clients:
        halves = [dial(clients, sent) for sent in [ENDLESS["a head"], ENDLESS["a body"]] * 4]
        assert (await get(clients.unix, "/v1/status"))[0] == 200
        await anyio.sleep(1.2)  # they have had their time
        for _ in range(3):
            assert (await get(clients.tcp, "/v1/status"))[0] == 200
        for half in halves:
            half.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as somebody else")
async def test_a_user_without_rights_who_holds_the_socket_keeps_no_operator_out(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(agent, tmp_path) as clients:
        folder = tmp_path / "run"
        folder.chmod(0o711)
        (folder / SOCKET_NAME).chmod(0o666)
        monkeypatch.chdir(folder)
        held = []
        for _ in range(3 * callers_page.STRANGERS):
            one = socket.socket(socket.AF_UNIX)
            with as_nobody():
                one.connect(SOCKET_NAME)
            one.sendall(b"GET /v1/st")
            held.append(one)
            await anyio.lowlevel.checkpoint()
        last = held[-1]
        last.settimeout(2)
        assert b"too many connections" in await anyio.to_thread.run_sync(last.recv, 1000)
        assert (await get(clients.unix, "/v1/status"))[0] == 200
        for one in held:
            one.close()
    (told,) = [one for one in agent.noted if one[1] == "connect"]
    assert (told[0], told[2]["count"]) == ("socket, without rights", 2 * callers_page.STRANGERS)


async def test_a_head_without_end_is_not_kept_in_memory(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        sock = dial(clients, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with anyio.fail_after(5):
            while not await wrote(sock, b"X-%d: " % 7 + b"y" * 3000 + b"\r\n"):
                await anyio.lowlevel.checkpoint()
        sock.close()
        assert (await get(clients.tcp, "/healthz"))[0] == 200


@pytest.mark.usefixtures("hurried")
async def test_a_body_is_bounded_also_when_it_says_nothing_of_its_size(
    agent: Agent, tmp_path: Path
) -> None:
    async with running(agent, tmp_path) as clients:
        for extra in (
            b"Content-Length: 99999999\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (70_000, b"x" * 70_000),
        ):
            answer = await heard(dial(clients, HEAD + extra))
            assert answer.startswith(b"HTTP/1.1 413")
        bomb = zlib.compress(b"0" * 5_000_000)
        sent = HEAD + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
        sock = dial(clients, sent)
        assert (await anyio.to_thread.run_sync(sock.recv, 100)).startswith(b"HTTP/1.1 415")
        sock.close()


async def test_two_lengths_are_no_request(agent: Agent, tmp_path: Path) -> None:
    both = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    hidden = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with running(agent, tmp_path) as clients:
        with anyio.fail_after(5):
            answer = await heard(dial(clients, HEAD + both + hidden))
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b'{"ok":true}' not in answer


@pytest.mark.usefixtures("hurried")
async def test_what_a_client_sends_wrong_fills_no_log(
    agent: Agent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chunked = b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{\r\n"
    async with running(agent, tmp_path) as clients:
        for line in (b"POST /v1/reload", b"POST /v1/desired", b"GET /v1/status", b"G\0T /"):
            await heard(dial(clients, line + b" HTTP/1.1\r\n" + chunked))
        half = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
        sock = dial(clients, half)
        await anyio.sleep(0.05)
        sock.sendall(b"zz\r\n")
        assert (await heard(sock)).split()[1] in (b"400", b"408")
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING] == []


async def test_pictures_on_their_way_are_few(agent: Agent, tmp_path: Path) -> None:
    picture = Picture(w=1000, h=1000, channels=3, pixels=bytes(3_000_000), number=1, age_ms=0.0)
    agent.frame = lambda stream: Shot(frame=picture)  # type: ignore[method-assign]  # noqa: ARG005
    ask = b"GET /v1/frame?stream=us0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with running(agent, tmp_path, pixels=True) as clients:
        silent = []
        for _ in range(6):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", clients.console.port))
            sock.sendall(ask)
            silent.append(sock)
        await anyio.sleep(0.3)
        heads = [await anyio.to_thread.run_sync(one.recv, 12) for one in silent]
        assert sorted(heads) == [b"HTTP/1.1 200"] * 4 + [b"HTTP/1.1 503"] * 2
        async with clients.unix.get("/v1/frame?stream=us0") as answer:
            assert answer.status == 200
        assert (await get(clients.tcp, "/v1/status"))[0] == 200
        for one in silent:
            one.close()


async def test_refusals_are_counted_over_loopback_and_told_at_the_end(
    agent: Agent, tmp_path: Path
) -> None:
    async with running(agent, tmp_path) as clients:
        one = b"POST /v1/Mustermann HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        with dial(clients, one * 40) as sock:
            found = b""
            while found.count(b"HTTP/1.1 403") < 40:
                found += await anyio.to_thread.run_sync(sock.recv, 1 << 16)
        async with clients.unix.post("/v1/reload") as answer:
            assert answer.status == 200
    ours = [one for one in agent.noted if one[0] == "loopback"]
    assert [(one[1], one[2]["count"]) for one in ours] == [
        ("POST (no such path)", 1),
        ("POST (no such path)", 39),
    ]
    assert (f"uid {os.geteuid()}", "POST reload", {"allowed": True}) in agent.noted


def descriptors_open() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


@contextmanager
def descriptors(more: int) -> Iterator[None]:
    """So many are left to this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open("/dev/null", os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_a_descriptor_the_door_waits_and_does_not_spin(
    agent: Agent, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(agent, tmp_path) as clients:
        sock = socket.socket()
        with descriptors(0):
            sock.connect(("127.0.0.1", clients.console.port))
            await anyio.sleep(0.3)
        said = [line for line in caplog.messages if "no connection is taken" in line]
        assert len(said) == 1
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with anyio.fail_after(5):
            assert (await heard(sock)).startswith(b"HTTP/1.1 200")


async def test_connections_stop_before_the_last_descriptors(agent: Agent, tmp_path: Path) -> None:
    with descriptors(40):
        async with running(agent, tmp_path) as clients:
            many = []
            for _ in range(16):
                many.append(dial(clients))
                await anyio.sleep(0.01)
            os.close(os.open("/dev/null", os.O_RDONLY))  # the agent's own work goes on
            assert (await get(clients.unix, "/healthz"))[0] == 200
            for one in many:
                one.close()


async def test_followers_who_leave_give_their_place_back(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path, max_followers=1) as clients:
        for _ in range(3):
            async with clients.tcp.get("/v1/results?stream=us0") as answer:
                assert answer.status == 200
                answer.close()
            await wait_for(agent.followers.count, present=False)
