"""What the child says on the control socket is a message, or the side counts as dead."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from edge_agent.core.errors import SideDied
from edge_agent.orders import LENGTH
from edge_agent.services.engine.line import Line

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "body", [b"\xc1", b"\x81\xa2ok\xa2\xff\xfe", b"\x93\x01\x02\x03", b"\x81" * 4000, b""]
)
async def test_a_child_that_writes_nonsense_is_dead_and_whoever_waits_learns_it(
    body: bytes,
) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    line = Line(ours, lambda _: None)
    asked: list[BaseException] = []

    async def ask() -> None:
        try:
            await line.ask("state", timeout_s=5.0)
        except SideDied as died:
            asked.append(died)

    async def read() -> None:
        with pytest.raises(SideDied, match=f"control message of {len(body)} B"):
            await line.read_on()
        line.hang_up()

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        group.start_soon(read)
        await anyio.lowlevel.checkpoint()
        theirs.sendall(LENGTH.pack(len(body)) + body)
    assert len(asked) == 1
    theirs.close()


async def test_answers_and_events_go_where_they_belong() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heard: list[Any] = []
    line = Line(ours, heard.append)
    async with anyio.create_task_group() as group:
        group.start_soon(line.read_on)
        for words in ({"event": "born"}, {"re": 1, "ok": {"n": 5}}):
            body = msgspec.msgpack.encode(words)

            async def told(body: bytes = body) -> None:
                await anyio.sleep(0.01)
                theirs.sendall(LENGTH.pack(len(body)) + body)

            group.start_soon(told)
        assert await line.ask("state", timeout_s=5.0) == {"n": 5}
        theirs.close()
    line.hang_up()
    assert heard == [{"event": "born"}]
