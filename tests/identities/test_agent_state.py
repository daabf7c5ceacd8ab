"""The agent's state goes back, is doubled, or is gone: nothing is believed that is not so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.core.frames import RecordClass
from tests.identities.air import Air
from tests.identities.ends import cart, copied, put_back, tier, until

pytestmark = pytest.mark.anyio
ALARM, RESULT, TELEMETRY = RecordClass.ALARM, RecordClass.RESULT, RecordClass.TELEMETRY


async def test_a_spool_restored_from_a_backup_doubles_nothing_and_keeps_nobody_waiting(
    tmp_path: Path,
) -> None:
    air, state = Air(), tmp_path / "state"
    async with tier(tmp_path / "tier", air) as there:
        async with cart(state, air, online=False) as before:
            before.say(300, RESULT)
            before.say(5, ALARM)
        backup = copied(state, tmp_path / "backup")
        async with cart(state, air) as lost:
            lost.say(100, RESULT)
            await lost.drained()
            air.loses_up = lambda payload: len(payload) > 600
            lost.say(100, RESULT)
            await until(lambda: there.total()["waiting"] == 100, "the loss is known there")
        air.loses_up = lambda _: False
        put_back(backup, state)
        async with cart(state, air) as after:
            after.say(50, RESULT)
            await after.drained()
            await there.at_rest()
            stats = after.spool.stats()
            assert after.is_balanced()
            assert (stats.appended, stats.acked) == (355, 355)
            assert "lost-at-receiver" not in after.findings
        total = there.total()
        assert (total["held"], total["conflicts"]) == (455, 0)
        assert total["expected"] == 555
        assert there.void() == {"other": 100}


async def test_a_factory_reset_leaves_nobody_waiting_for_what_went_with_it(tmp_path: Path) -> None:
    air, state = Air(), tmp_path / "state"
    async with tier(tmp_path / "tier", air) as there:
        async with cart(state, air) as before:
            before.say(50)
            await before.drained()
            air.loses_up = lambda payload: len(payload) > 600
            before.say(100)
            await until(lambda: there.total()["waiting"] == 100, "the loss is known there")
        air.loses_up = lambda _: False
        shutil.rmtree(state)
        async with cart(state, air) as after:
            after.say(30)
            await after.drained()
            await there.at_rest()
            assert after.is_balanced()
            assert after.spool.stats().acked == 30
        total = there.total()
        assert (total["held"], total["conflicts"]) == (80, 0)
        assert there.void() == {"other": 100}
