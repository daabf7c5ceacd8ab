"""The receiver's database goes back, is another one, or its words are replayed and forged."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from edge_agent.core.edgecore import LogAck
from edge_agent.core.frames import RecordClass
from tests.identities.air import Air
from tests.identities.ends import cart, copied, put_back, tier, until

pytestmark = pytest.mark.anyio
RESULT = RecordClass.RESULT


async def test_a_receiver_restored_from_a_backup_says_what_is_lost_and_so_does_the_agent(
    tmp_path: Path,
) -> None:
    air, folder = Air(), tmp_path / "tier"
    async with cart(tmp_path / "state", air) as agent:
        async with tier(folder, air):
            agent.say(100, RESULT)
            await agent.drained()
        backup = copied(folder, tmp_path / "backup")
        async with tier(folder, air):
            agent.say(70, RESULT)
            await agent.drained()
        put_back(backup, folder)
        async with tier(folder, air) as there:
            agent.say(30, RESULT)
            await agent.drained()
            await until(lambda: there.total()["held"] == 130, "what was left came")
            await there.at_rest()
            assert there.void() == {"lost-at-receiver": 70}
            assert there.problems() == ["lost-at-receiver"]
            await until(lambda: agent.spool.health().lost == 70, "it is booked here too")
            assert agent.findings == ["lost-at-receiver"]
            assert agent.is_balanced()
            assert agent.spool.stats().acked == 200


async def test_a_restored_receiver_does_not_wait_for_an_epoch_that_is_long_forgotten(
    tmp_path: Path,
) -> None:
    air, folder, state = Air(), tmp_path / "tier", tmp_path / "state"
    async with tier(folder, air) as there, cart(state, air) as first:
        first.say(10, RESULT)
        await first.drained()
        air.loses_up = lambda payload: len(payload) > 600
        first.say(100, RESULT)
        await until(lambda: there.total()["waiting"] == 100, "a hundred are on their way")
    backup = copied(folder, tmp_path / "backup")
    air.loses_up = lambda _: False
    async with tier(folder, air), cart(state, air) as second:
        second.say(1)
        await second.drained()
    put_back(backup, folder)
    async with tier(folder, air) as there, cart(state, air) as third:
        third.say(1)
        await third.drained()
        await there.at_rest()
        assert third.is_balanced()
        assert third.spool.stats().acked == 112
        assert there.total()["held"] == 11
        assert there.void() == {"lost-at-receiver": 1, "other": 100}


async def test_a_receiver_that_was_replaced_is_believed_and_all_that_is_gone_is_told(
    tmp_path: Path,
) -> None:
    air = Air()
    async with cart(tmp_path / "state", air) as agent:
        async with tier(tmp_path / "old", air):
            agent.say(100, RESULT)
            await agent.drained()
        async with tier(tmp_path / "new", air) as there:
            agent.say(50, RESULT)
            await agent.drained()
            await there.at_rest()
            assert "receiver-replaced" in agent.findings
            assert there.total()["held"] == 50
            assert there.void() == {"lost-at-receiver": 100}
            assert there.problems() == ["lost-at-receiver"]
            await until(lambda: agent.spool.health().lost == 100, "it is booked here too")
            assert agent.is_balanced()
            assert agent.spool.stats().acked == 150


async def test_two_receivers_at_once_delete_nothing_until_one_is_gone(tmp_path: Path) -> None:
    air = Air()
    async with cart(tmp_path / "state", air) as agent, tier(tmp_path / "one", air) as one:
        async with tier(tmp_path / "other", air):
            for _ in range(8):
                agent.say(10, RESULT)
                await until(lambda: not agent.uplink.stats()["inflight"], "word of it")
            await until(lambda: "receivers-alternate" in agent.findings, "two are noticed")
            await anyio.sleep(1)  # for what was believed before
            held = agent.spool.stats().records
            agent.say(100, RESULT)
            await agent.committed()
            assert agent.spool.stats().records == held + 100
        await agent.drained()
        await one.at_rest()
        assert agent.is_balanced()
        assert agent.spool.stats().acked == 180
        assert one.total()["held"] + sum(one.void().values()) == 180


async def test_acks_that_are_replayed_and_reversed_change_nothing(tmp_path: Path) -> None:
    air = Air()
    async with cart(tmp_path / "state", air) as agent, tier(tmp_path / "tier", air) as there:
        for _ in range(10):
            agent.say(20, RESULT)
            await until(lambda: not agent.spool.stats().records, "they are acknowledged")
        air.loses_up = lambda _: True
        agent.say(30, RESULT)
        await agent.committed()
        before = agent.spool.stats()
        said = list(air.acks)
        for topic, payload in [*reversed(said), *random.sample(said, len(said))]:
            air.say(topic, payload)
        await until(lambda: agent.uplink.stats()["inflight"] == 0, "they are read")
        assert agent.spool.stats().acked == before.acked == 200
        air.loses_up = lambda _: False
        await agent.drained()
        await there.at_rest()
        assert agent.findings == []
        assert agent.spool.stats().acked == there.total()["held"] == 230
        assert there.void() == {}


async def test_forged_acks_are_refused_counted_and_told_and_cost_no_record(tmp_path: Path) -> None:
    air = Air()
    async with cart(tmp_path / "state", air) as agent, tier(tmp_path / "tier", air) as there:
        agent.say(20, RESULT)
        await until(lambda: not agent.spool.stats().records, "they are acknowledged")
        epoch = agent.spool.epoch

        def said(upto: int, klass: RecordClass = RESULT, epoch: int = epoch) -> LogAck:
            return LogAck(node=agent.node, stream="us", klass=klass, epoch=epoch, upto=upto)

        refused = agent.uplink.stats()["refused"]
        for forged in (said(1 << 30), said(5, RecordClass.ALARM), said(9, epoch=77)):
            air.forge(echo="", acks=(forged,))
        air.forge(echo="", rx="somebody else", acks=(said(25),))
        await until(lambda: agent.uplink.stats()["refused"] == refused + 4, "four are refused")
        assert set(agent.findings) == {"ack-refused"}
        agent.say(20, RESULT)
        await agent.drained()
        await there.at_rest()
        assert agent.is_balanced()
        assert agent.spool.stats().acked == there.total()["held"] == 40
