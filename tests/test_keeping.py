"""The store as the house has it: what it says of a spool that is too small."""

from __future__ import annotations

import secrets
from pathlib import Path

import anyio
import msgspec
import pytest

from edge_agent.config.structs import Config
from edge_agent.core.frames import Event
from edge_agent.host import SystemClock
from edge_agent.keeping import open_store
from edge_agent.stores.spool import Notice

pytestmark = pytest.mark.anyio
MINUTE_US = 60_000_000


class Later(SystemClock):
    """Ours, and some time on."""

    ahead_us = 0

    def boot_us(self) -> int:
        return super().boot_us() + self.ahead_us


async def test_a_spool_that_does_not_last_for_a_day_is_told_of(tmp_path: Path) -> None:
    config = msgspec.convert(
        {"node": "cart-3", "state_dir": str(tmp_path), "spool": {"limit_bytes": 64 << 20}}, Config
    )
    clock = Later()
    store = await open_store(config, clock=clock, boot="0badcafe")
    assert store.disk is not None
    try:
        for _ in range(400):  # in two minutes: about 100 MB a day
            what = secrets.token_hex(200)  # nothing that the spool makes smaller
            store.spool.append(Event(node="cart-3", stream="", name="x", what=what))
        while store.disk.health().waiting:
            await anyio.sleep(0.001)
        assert store.problems() == []
        clock.ahead_us = 2 * MINUTE_US
        (problem,) = store.problems()
        what, fix = problem.what, problem.fix
        assert (problem.code, problem.severity) == ("spool-short", "warning")
        assert "without a network the spool is full after" in what
        assert fix.startswith("spool.limit_bytes = 1073741824")
        clock.ahead_us = 200 * MINUTE_US  # it came to no more than that
        assert store.problems() == []
    finally:
        await store.aclose()


async def test_a_disk_that_flaps_is_one_event_a_minute_with_a_count(tmp_path: Path) -> None:
    config = msgspec.convert({"node": "cart-3", "state_dir": str(tmp_path)}, Config)
    clock, told = Later(), list[tuple[str, str]]()
    store = await open_store(config, clock=clock, boot="0badcafe")
    try:
        store.listen(lambda name, what: told.append((name, what)))
        for _ in range(100):
            store._heard(Notice(name="failing", what="no space"))
            store._heard(Notice(name="well", what="it writes again"))
        assert told == [("spool-failing", "no space"), ("spool-well", "it writes again")]
        clock.ahead_us = MINUTE_US
        store._heard(Notice(name="failing", what="no space"))
        assert told[2:] == [("spool-failing", "100 times: no space")]
    finally:
        await store.aclose()
