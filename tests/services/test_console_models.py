"""Models over the console: what may be asked, by whom, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from edge_agent.core.errors import (
    BadPackage,
    ConfigError,
    Damaged,
    EdgeAgentError,
    LinkDown,
    Overloaded,
    Rejected,
    SideDied,
)
from tests.services.console import Agent, get, running

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def ask(
    session: aiohttp.ClientSession, verb: str, asked: dict[str, Any] | bytes
) -> tuple[int, Any]:
    body = asked if isinstance(asked, bytes) else msgspec.json.encode(asked)
    async with session.post(f"/v1/models/{verb}", data=body) as answer:
        return answer.status, msgspec.json.decode(await answer.read())


async def test_verbs_reach_the_rollouts_and_the_audit_log(
    agent: Agent, tmp_path: Path, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    async with running(agent, tmp_path) as clients:
        status, said = await ask(clients.unix, "install", {"file": "/media/stick/a.eam"})
        assert (status, said["models"]["us-chamber"]["file"]) == (200, "/media/stick/a.eam")
        assert (await ask(clients.unix, "rollback", {"model": "us-chamber"}))[0] == 200
        pinned = (await ask(clients.unix, "pin", {"model": "us-chamber", "version": "1.0.0"}))[1]
        assert (pinned["pinned"], pinned["by"]) == ("1.0.0", f"uid {os.getuid()}")
        off = (await ask(clients.unix, "pin", {"model": "us-chamber", "off": True}))[1]
        assert off["pinned"] is None
        status, past = await get(clients.unix, "/v1/models/history?model=us-chamber")
        assert (status, past["history"][0]["outcome"]) == (200, "committed")
    assert (f"uid {os.getuid()}", "POST models rollback", {"model": "us-chamber"}) in agent.noted
    lines = [line for line in audit() if "model" in line or "file" in line]
    assert lines[0]["file"] == "a.eam"  # its folder may be called after anybody


async def test_loopback_may_look_and_never_touch(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        assert (await get(clients.tcp, "/v1/models/history"))[0] == 200
        for verb in ("install", "rollback", "pin"):
            assert (await ask(clients.tcp, verb, {"model": "us-chamber"}))[0] == 403


@pytest.mark.parametrize(
    ("verb", "asked"),
    [
        ("install", b"no json"),
        ("install", {}),
        ("install", {"file": "/a", "usb": "/b"}),
        ("install", {"version": "1.0.0"}),
        ("install", {"file": "relative.eam"}),
        ("install", {"model": "../x", "version": "1.0.0"}),
        ("install", {"file": "/a", "force": True}),
        ("rollback", {}),
        ("pin", {"model": "us-chamber", "version": "latest"}),
    ],
)
async def test_what_is_not_understood_is_refused_whole(
    agent: Agent, tmp_path: Path, verb: str, asked: dict[str, Any] | bytes
) -> None:
    async with running(agent, tmp_path) as clients:
        status, said = await ask(clients.unix, verb, asked)
        assert status == 400
        assert said["error"]
        assert (await get(clients.unix, "/v1/models/history?model=../x"))[0] == 400


async def test_a_refusal_is_told_as_one(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        asked = {"model": "us-chamber", "version": "9.9.9"}
        status, said = await ask(clients.unix, "install", asked)
        assert (status, said["hint"], said["fault"]) == (403, "name another", "rejected")


@pytest.mark.parametrize(
    ("error", "status", "fault"),
    [
        (Rejected("not signed"), 403, "rejected"),
        (BadPackage("got NaN"), 403, "bad-package"),
        (Overloaded("no memory"), 503, "overloaded"),
        (LinkDown("the repository is away"), 502, "link-down"),
        (Damaged("no longer what was installed"), 500, "damaged"),
        (SideDied("no side"), 409, "side-lost"),
        (ConfigError("rollouts.root_file", "none"), 422, "config"),
    ],
)
async def test_an_answer_says_whose_fault_it_was(
    agent: Agent, tmp_path: Path, error: EdgeAgentError, status: int, fault: str
) -> None:
    agent.install_error = error
    body = msgspec.json.encode({"model": "us-chamber", "version": "9.9.9"})
    async with (
        running(agent, tmp_path) as clients,
        clients.unix.post("/v1/models/install", data=body) as answer,
    ):
        said = msgspec.json.decode(await answer.read())
        assert (answer.status, said["fault"]) == (status, fault)
        assert said["error"] == error.what
        assert ("Retry-After" in answer.headers) is (status == 503)


async def test_anybody_here_may_hint_at_a_wanted_state_and_hears_what_this_node_knows(
    agent: Agent, tmp_path: Path
) -> None:
    async with running(agent, tmp_path) as clients:
        for session in (clients.tcp, clients.unix):
            async with session.post("/v1/desired", data=b'{"schema":1,"serial":9}') as answer:
                assert answer.status == 202
                said = msgspec.json.decode(await answer.read())
            assert said["desired"] == {"serial": 3, "state": "pending"}
            async with session.post("/v1/desired", data=b"garbage") as answer:
                assert answer.status == 409
            async with session.post("/v1/desired", data=b"x" * 100_000) as answer:
                assert answer.status == 413
