"""The spool over the console: what may be read where, and how an answer breaks off."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from edge_agent.core.carriage import MAX_ACK_FILE_BYTES
from edge_agent.core.errors import Damaged, Rejected
from tests.services.console import Agent, get, post, running

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet_loop")]


async def test_the_newest_records_come_over_the_socket_only(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        status, document = await get(clients.unix, "/v1/spool/records?limit=2")
        assert (status, [one["seq"] for one in document["records"]]) == (200, [300, 299])
        assert len((await get(clients.unix, "/v1/spool/records"))[1]["records"]) == 20
        for limit in ("0", "257", "x"):
            assert (await get(clients.unix, f"/v1/spool/records?limit={limit}"))[0] == 400
        assert (await get(clients.tcp, "/v1/spool/records"))[0] == 403


async def test_verbs_of_the_spool_are_audited_and_not_for_loopback(
    agent: Agent, tmp_path: Path, audit: Callable[[], list[dict[str, Any]]]
) -> None:
    async with running(agent, tmp_path) as clients:
        assert await post(clients.unix, "/v1/spool/verify") == (
            200,
            {"schema": 1, "records": 3, "corrupt": 0},
        )
        for verb in ("verify", "export", "import"):
            assert (await post(clients.tcp, f"/v1/spool/{verb}"))[0] == 403
    assert next(line["verb"] for line in audit()) == "POST /v1/spool/verify"


async def test_an_export_streams_and_one_that_breaks_off_has_no_end(
    agent: Agent, tmp_path: Path
) -> None:
    agent.export_lines = 300
    async with running(agent, tmp_path) as clients:
        async with clients.unix.post("/v1/spool/export") as answer:
            body = await answer.read()
        assert body.splitlines()[-1] == b"end"
        assert len(body) > 1_000_000
        agent.export_error = Damaged("read spool: disk I/O error")
        async with clients.unix.post("/v1/spool/export") as answer:
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()
        agent.export_lines, agent.export_error = 0, Rejected("export spool: volatile", hint="no")
        status, document = await post(clients.unix, "/v1/spool/export")
        assert (status, document["hint"]) == (409, "no")


async def test_an_import_has_a_bound(agent: Agent, tmp_path: Path) -> None:
    async with running(agent, tmp_path) as clients:
        for size, status in ((1 << 20, 200), (MAX_ACK_FILE_BYTES + 1, 413)):
            async with clients.unix.post(
                "/v1/spool/import", data=io.BytesIO(bytes(size))
            ) as answer:
                assert answer.status == status
                said = msgspec.json.decode(await answer.read())
        assert "error" in said
