"""The agent's state goes back, is doubled, or is gone: nothing is believed that is not so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.core.frames import RecordClass
from edge_agent.stores.spool import SpoolLimits
from tests.identities.air import Air
from tests.identities.ends import cart, copied, put_back, tier, until
from tests.stores.spooling import Refusal

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


async def test_a_state_folder_cloned_to_two_running_agents_is_told_and_costs_neither_a_record(
    tmp_path: Path,
) -> None:
    air = Air()
    async with tier(tmp_path / "tier", air) as there, cart(tmp_path / "a", air) as one:
        air.loses_up = lambda payload: len(payload) > 600
        one.say(60, RESULT)
        await one.committed()
        copied(tmp_path / "a", tmp_path / "b")
        async with cart(tmp_path / "b", air) as other:
            assert other.spool.epoch != one.spool.epoch
            air.loses_up = lambda _: False
            for _ in range(12):  # each speaks, in turns
                one.say(7, RESULT)
                await until(lambda: not one.spool.stats().records, "the first one drains")
                other.say(5, RESULT)
                await until(lambda: not other.spool.stats().records, "its clone drains")
            await other.drained()
            await there.at_rest()
            assert "duplicate-node" in there.problems()
            assert one.is_balanced()
            assert other.is_balanced()
            assert one.spool.stats().acked == 60 + 12 * 7
            assert other.spool.stats().acked == 60 + 12 * 5
        total = there.total()
        assert (total["held"], total["conflicts"]) == (60 + 12 * 12, 0)
        assert there.void() == {}


async def test_what_a_clone_denies_or_closes_its_twin_still_delivers(tmp_path: Path) -> None:
    air = Air()
    async with tier(tmp_path / "tier", air) as there:
        async with cart(tmp_path / "a", air) as one:
            one.say(20, RESULT)
            await one.drained()
            copied(tmp_path / "a", tmp_path / "b")
            air.loses_up = lambda payload: len(payload) > 600
            one.say(80, RESULT)
            await until(lambda: there.total()["waiting"] == 80, "the receiver waits for them")
        async with cart(tmp_path / "b", air) as other:  # it knows this log only up to 20
            other.say(1)
            await other.drained()
            await there.at_rest()
            assert there.void() == {"other": 80}
        air.loses_up = lambda _: False
        async with cart(tmp_path / "a", air) as again:
            again.say(1)
            await again.drained()
            await there.at_rest()
            assert again.spool.stats().acked == 101
        assert there.total()["held"] == 102
        assert there.void() == {}


async def test_two_agents_of_one_name_are_told_and_both_drain(tmp_path: Path) -> None:
    air = Air()
    async with (
        tier(tmp_path / "tier", air) as there,
        cart(tmp_path / "a", air) as one,
        cart(tmp_path / "b", air) as other,
    ):
        for _ in range(8):
            one.say(3)
            await until(lambda: not one.spool.stats().records, "the first one drains")
            other.say(3)
            await until(lambda: not other.spool.stats().records, "the second one drains")
        await there.at_rest()
        assert there.problems() == ["duplicate-node"]
        assert there.total()["held"] == 48
        assert one.is_balanced()
        assert other.is_balanced()
        assert one.spool.stats().acked == other.spool.stats().acked == 24


async def test_one_identity_with_two_contents_is_kept_apart_and_told(tmp_path: Path) -> None:
    air = Air()
    async with tier(tmp_path / "tier", air) as there:
        for name in (
            "a",
            "b",
        ):  # a machine that was copied while it ran: even the epoch is the same
            async with cart(tmp_path / name, air, random32=lambda: 7) as one:
                one.say(40)
                await one.drained()
                assert one.is_balanced()
                assert one.spool.stats().acked == 40
        await there.at_rest()
        assert there.problems() == ["identity-conflict"]
        total = there.total()
        assert (total["held"], total["conflicts"], total["expected"]) == (40, 40, 40)


async def test_what_was_sent_and_died_before_its_commit_keeps_nobody_waiting(
    tmp_path: Path,
) -> None:
    air, refusal = Air(), Refusal()
    state = tmp_path / "state"
    async with tier(tmp_path / "tier", air) as there:
        async with cart(state, air, connect=refusal.connect) as before:
            before.say(20, RESULT)
            await before.drained()
            refusal.commits = 1 << 30
            for turn in range(4):  # four publishes, of which the second and the third are lost
                air.loses_up = lambda _, turn=turn: turn in (1, 2)  # type: ignore[misc]
                sent = before.uplink.stats()["publishes"]
                before.say(10, RESULT)
                await until(lambda: before.uplink.stats()["publishes"] > sent, "a publish")  # noqa: B023
            await until(lambda: there.total()["waiting"] == 20, "the receiver waits for a gap")
            copied(state, tmp_path / "crashed")
        async with cart(tmp_path / "crashed", air) as after:
            assert after.spool.stats().appended == 20
            after.say(5, RESULT)
            await after.drained()
            await there.at_rest()
            assert after.is_balanced()
            assert after.findings == []
        total = there.total()
        assert (total["expected"], total["held"]) == (65, 45)
        assert there.void() == {"other": 20}


async def test_a_closed_epoch_of_which_all_rows_are_evicted_is_declared_and_forgotten(
    tmp_path: Path,
) -> None:
    air, state = Air(), tmp_path / "state"
    tiny = SpoolLimits(limit_bytes=256 << 10, ballast_bytes=0, commit_ms=0)
    async with cart(state, air, online=False, limits=tiny) as before:
        before.say(300, TELEMETRY)
        before.say(200, RESULT)
    async with cart(state, air, online=False, limits=tiny) as full:
        for _ in range(100):
            full.say(50, ALARM)
            await full.committed()
        assert {log.floor == log.next for log in full.old_logs()} == {True}
        assert full.is_balanced()
    # With room again: what is evicted while it is on its way is held there, too.
    roomy = SpoolLimits(limit_bytes=1 << 20, ballast_bytes=0, commit_ms=0)
    async with tier(tmp_path / "tier", air) as there, cart(state, air, limits=roomy) as after:
        after.say(1)
        await after.drained()
        await there.at_rest()
        stats = after.spool.stats()
        assert after.is_balanced()
        assert stats.evicted > 1000
        assert there.void() == {"evicted": stats.evicted}
        assert there.total()["held"] == stats.acked
        assert stats.appended == there.total()["expected"] == 5501
