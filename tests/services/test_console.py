from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest

from edge_agent.core.errors import ConfigError
from edge_agent.services.console import SOCKET_NAME
from tests.services.console import NOBODY, Agent, as_nobody, get, post, running

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def test_every_view_is_answered_by_both_doors(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        for session in (clients.unix, clients.tcp):
            status, document = await get(session, "/v1/status")
            assert (status, document["node"], document["age"]) == (200, "cart", None)
            for name in ("streams", "models", "spool", "uplink", "peers", "device", "events"):
                status, document = await get(session, f"/v1/{name}")
                assert status == 200
                assert document == {"schema": 1, name: getattr(agent, name)()}


async def test_health_and_readiness_tell_two_things(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        assert await get(clients.tcp, "/healthz") == (200, {"ok": True})
        assert await get(clients.tcp, "/readyz") == (200, {"ready": True})
        agent.is_up = False
        assert await get(clients.tcp, "/healthz") == (200, {"ok": True})
        assert await get(clients.tcp, "/readyz") == (503, {"ready": False})


async def test_metrics_are_prometheus_text(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients, clients.tcp.get("/metrics") as answer:
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert await answer.read() == b"edge_agent_ready 1.0\n"


async def test_every_answer_wears_the_security_headers(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        for path in ("/v1/status", "/nothing"):
            async with clients.tcp.get(path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["X-Frame-Options"] == "DENY"
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Server"] == "edge-agent"


async def test_an_unknown_path_lists_what_there_is(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        for path in ("/", "/v2/status"):
            status, document = await get(clients.tcp, path)
            assert status == 404
            assert {"/v1/status", "/v1/results", "/metrics"} <= set(document["routes"])
        status, document = await post(clients.unix, "/v1/status")
        assert (status, document["error"]) == (405, "POST /v1/status: Method Not Allowed")
        assert (await post(clients.unix, "/v1/nothing"))[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:80:80", ""])
async def test_a_rebound_name_gets_nothing(agent: Agent, tmp_path: Path, host: str) -> None:
    async with running(agent, tmp_path) as clients:
        status, _ = await get(clients.tcp, "/v1/status", headers={"Host": host})
        assert status == 403
        assert (await get(clients.tcp, "/v1/status", headers={"Host": "localhost:9810"}))[0] == 200
        assert (await get(clients.unix, "/v1/status", headers={"Host": host}))[0] == 200


async def test_a_frame_comes_with_its_result_and_is_audited(
    agent: Agent, tmp_path: Path, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    async with running(agent, tmp_path) as clients:
        async with clients.unix.get("/v1/frame?stream=us0") as answer:
            shot = msgspec.msgpack.decode(await answer.read())
        assert shot["frame"] == {
            "w": 2,
            "h": 1,
            "channels": 3,
            "pixels": b"abcdef",
            "number": 7,
            "age_ms": 1.5,
        }
        assert shot["result"]["kind"] == "result"
        status, document = await get(clients.unix, "/v1/frame?stream=endo")
        assert (status, document["error"]) == (503, "read frame of endo: there is none")
    first = audit()[0]
    assert (first["verb"], first["stream"], first["uid"]) == ("GET /v1/frame", "us0", os.geteuid())


async def test_pixels_leave_by_loopback_only_when_switched_on(
    agent: Agent, tmp_path: Path, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    async with running(agent, tmp_path) as clients:
        status, document = await get(clients.tcp, "/v1/frame?stream=us0")
        assert status == 403
        assert "console.pixels" in document["hint"]
        (line,) = audit()
        assert (line["reason"], line["allowed"]) == ("pixels over loopback", False)
    async with (
        running(agent, tmp_path, pixels=True) as clients,
        clients.tcp.get("/v1/frame?stream=us0") as answer,
    ):
        assert answer.status == 200
    assert (audit()[1]["via"], audit()[1]["allowed"]) == ("loopback", True)


async def test_reload_is_for_the_socket_and_is_audited(
    agent: Agent, tmp_path: Path, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    async with running(agent, tmp_path) as clients:
        assert await post(clients.unix, "/v1/reload") == (200, {"schema": 1, "changed": []})
        status, document = await post(clients.tcp, "/v1/reload")
        assert (status, document["error"]) == (403, "loopback HTTP is read-only")
    assert agent.reloads == 1
    assert [(line["via"], line["allowed"]) for line in audit()] == [
        ("socket", True),
        ("loopback", False),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can come as somebody else")
async def test_a_stranger_may_read_but_not_write(
    agent: Agent,
    tmp_path: Path,
    audit: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(agent, tmp_path):
        folder = tmp_path / "run"
        folder.chmod(0o711)
        (folder / SOCKET_NAME).chmod(0o666)
        monkeypatch.chdir(folder)
        for request, expected in (("GET /v1/status", b"200"), ("POST /v1/reload", b"403")):
            with as_nobody(), socket.socket(socket.AF_UNIX) as raw:
                raw.connect(SOCKET_NAME)
                client = raw.dup()
            async with await anyio.abc.UNIXSocketStream.from_socket(client) as stream:
                await stream.send(f"{request} HTTP/1.1\r\nHost: box\r\n\r\n".encode())
                assert (await stream.receive()).split()[1] == expected
    assert [(line["uid"], line["allowed"]) for line in audit()] == [(NOBODY, False)]
    assert agent.reloads == 0


async def test_a_bad_configuration_is_told_with_its_hint(agent: Agent, tmp_path: Path) -> None:
    agent.reload_error = ConfigError("streams.us0.fps", "-1, expected > 0", hint="say 30")
    async with running(agent, tmp_path) as clients:
        assert await post(clients.unix, "/v1/reload") == (
            422,
            {"error": "streams.us0.fps: -1, expected > 0", "hint": "say 30", "fault": "config"},
        )


async def test_a_client_that_leaves_does_not_leave_a_reload_half_done(
    agent: Agent, tmp_path: Path
) -> None:
    agent.reload_takes_s = 0.1
    async with running(agent, tmp_path) as clients:
        with anyio.move_on_after(0.03):
            await post(clients.unix, "/v1/reload")
        await anyio.sleep(0.2)
    assert agent.reloads == 1
