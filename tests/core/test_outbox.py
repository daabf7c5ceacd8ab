"""The outbox in a world that loses, repeats and mixes up: every promised record arrives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import RecordClass
from edge_agent.core.governor import Governor, Limits
from edge_agent.core.ranges import count, intersect
from tests.core.outbox_ends import Receiver
from tests.core.outbox_world import Faults, World

SECOND_US = 1_000_000
GENTLE = settings(  # a world takes half a second: shrinking one would take minutes
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
TELEMETRY, EVENT, ALARM = RecordClass.TELEMETRY, RecordClass.EVENT, RecordClass.ALARM


def produce(world: World, seconds: int, per_s: int = 30) -> None:
    """Two streams of records, an event each second, an alarm each third."""
    start_us = world.now_us
    for tick in range(seconds * per_s):
        at_us = start_us + tick * SECOND_US // per_s
        world.at(at_us, lambda: world.append("us", TELEMETRY))
        world.at(at_us + 3000, lambda: world.append("endo", TELEMETRY))
    for second in range(seconds):
        world.at(start_us + second * SECOND_US, lambda: world.append("", EVENT))
        if second % 3 == 0:
            world.at(start_us + second * SECOND_US + 777, lambda: world.append("us", ALARM))


def heal_and_settle(world: World, after_s: int = 90) -> None:
    world.faults, world.is_cut = Faults(), False
    world.run(world.now_us + after_s * SECOND_US)
    world.check_bounds()
    world.check_settled()


ROADS = st.builds(
    Faults,
    loss=st.sampled_from((0.0, 0.05, 0.3, 0.8)),
    twice=st.sampled_from((0.0, 0.3)),
    delay_us=st.sampled_from(((1_000, 8_000), (1_000, 400_000), (300_000, 1_500_000))),
)
DEEDS = st.lists(
    st.tuples(
        st.integers(0, 30_000_000),
        st.sampled_from(("crash", "cut", "mend", "reconnect", "evict", "evict-many", "amnesia")),
    ),
    max_size=14,
)


def deed(world: World, name: str) -> None:
    if name in ("cut", "mend"):
        world.is_cut = name == "cut"
    elif name.startswith("evict"):
        world.evict(200 if name == "evict-many" else 3)
    elif name == "amnesia":
        world.receivers[0].shelves = {}
    else:
        {"crash": world.crash, "reconnect": world.reconnect}[name]()


def schedule(world: World, deeds: list[tuple[int, str]]) -> None:
    def act(name: str) -> Callable[[], None]:
        return lambda: deed(world, name)

    for at_us, name in deeds:
        world.at(world.now_us + at_us, act(name))


@settings(GENTLE, max_examples=15)
@given(seed=st.integers(0, 1 << 32), road=ROADS, deeds=DEEDS)
def test_whatever_the_road_does_every_promised_record_arrives_and_both_sheets_are_exact(
    seed: int, road: Faults, deeds: list[tuple[int, str]]
) -> None:
    world = World(seed, road)
    produce(world, 30)
    deeds = [(at_us, name) for at_us, name in deeds if name != "amnesia"]
    schedule(world, deeds)
    world.run(world.now_us + 31 * SECOND_US)
    heal_and_settle(world)
    held = sum(count(shelf.held) for shelf in world.receivers[0].shelves.values())
    assert held >= world.spool.sheet().acked
    assert world.findings == []  # nor of a log whose life ended before its commit


@settings(GENTLE, max_examples=8)
@given(seed=st.integers(0, 1 << 32), road=ROADS, deeds=DEEDS)
def test_a_receiver_that_forgets_is_noticed_and_nobody_waits_for_what_is_gone(
    seed: int, road: Faults, deeds: list[tuple[int, str]]
) -> None:
    world = World(seed, road)
    produce(world, 30)
    schedule(world, deeds)
    world.run(world.now_us + 31 * SECOND_US)
    heal_and_settle(world)
    sheet = world.spool.sheet()
    assert sheet.appended == sheet.acked + sheet.evicted


def test_live_records_leave_within_one_slot() -> None:
    world = World(1, Faults(delay_us=(2_000, 2_000)))
    produce(world, 5)
    world.run(world.now_us + 6 * SECOND_US)
    assert len(world.published) <= 20 * 6 + 5
    assert world.outbox.backfill.is_busy is False
    assert world.outbox.resends == 0
    assert world.receivers[0].again == 0


def test_a_backlog_drains_beside_live_records_within_its_bytes() -> None:
    world = World(2, Faults(delay_us=(10_000, 20_000)))
    world.outbox.down()
    produce(world, 60, per_s=100)
    world.run(world.now_us + 61 * SECOND_US)
    backlog = world.spool.sheet().pending
    assert backlog > 12_000
    world.reconnect()
    began_us = world.now_us
    while world.spool.sheet().pending:
        world.append("us", TELEMETRY)
        world.run(world.now_us + SECOND_US // 30)
        assert world.now_us - began_us < 60 * SECOND_US
    heal_and_settle(world)
    bytes_per_s = backlog * 120 / ((world.now_us - 90 * SECOND_US - began_us) / 1e6)
    assert bytes_per_s > 150_000


def test_without_an_ack_only_probes_go_out_and_the_first_ack_ends_it() -> None:
    world = World(3, Faults())
    world.is_cut = True
    produce(world, 30)
    world.run(world.now_us + 31 * SECOND_US)
    late = [p for p in world.published if p.at_us > 4 * SECOND_US]
    assert len(late) <= 30
    assert all(p.backfill_bytes == 0 for p in late)
    assert world.outbox.cloud(world.now_us) == "down"
    heal_and_settle(world)
    assert world.outbox.cloud(world.now_us) == "up"


def test_an_idle_link_falls_silent() -> None:
    world = World(4, Faults())
    produce(world, 3)
    heal_and_settle(world)
    before = len(world.published)
    world.run(world.now_us + 600 * SECOND_US)
    assert len(world.published) == before


def test_alarms_do_not_wait_for_the_slot() -> None:
    world = World(5, Faults())
    world.run(world.now_us + SECOND_US)
    for _ in range(12):
        world.append("us", TELEMETRY)
        world.append("us", ALARM)
        world.run(world.now_us + 10_000)
    world.run(world.now_us + SECOND_US)
    assert sum(p.alarms_only for p in world.published) == 5
    heal_and_settle(world)


def test_a_poor_road_gets_less_backlog_and_recovers() -> None:
    world = World(6, Faults(delay_us=(5_000, 6_000)))
    governor = world.outbox.governor
    full = governor.publish_bytes()
    governor.answered(0, 10_000)
    for second in range(1, 5):
        governor.answered(second * SECOND_US, 80_000)
    assert governor.publish_bytes() <= full // 8
    for second in range(5, 15):
        governor.answered(second * SECOND_US, 11_000)
    assert governor.publish_bytes() == full


def test_what_is_packed_at_once_is_what_a_slot_may_carry_and_never_more_than_a_publish() -> None:
    governor = World(6, Faults()).outbox.governor
    governor.wrote(50_000, 500)  # a fast road: a publish might carry 64 kB
    assert governor.batch_bytes() == 256_000 // 20
    governor.answered(0, 10_000)
    for second in range(1, 9):
        governor.answered(second * SECOND_US, 80_000)
        assert governor.batch_bytes() <= governor.publish_bytes()
    slow = Governor(Limits(backfill_bytes_per_s=20_000))
    assert slow.batch_bytes() == 8_000  # and then it waits: smaller ones compress worse


def test_one_late_answer_or_a_cut_under_a_probe_costs_the_backlog_nothing() -> None:
    governor = World(6, Faults()).outbox.governor
    full = governor.publish_bytes()
    for second in range(40):
        governor.answered(second * SECOND_US, 90_000 if second % 3 == 1 else 10_000)
    governor.answered(41 * SECOND_US, 2_500_000)
    governor.answered(42 * SECOND_US, 2_500_000)
    assert governor.publish_bytes() == full


def test_a_busy_machine_does_not_hold_the_backlog_back_for_ever() -> None:
    governor = World(6, Faults()).outbox.governor
    full = governor.publish_bytes()
    governor.answered(0, 10_000)
    for second in range(1, 8):
        governor.answered(second * SECOND_US, 150_000 + second % 3 * 40_000)
    assert governor.publish_bytes() <= full // 16
    for second in range(8, 30):
        governor.answered(second * SECOND_US, 150_000 + second % 3 * 40_000)
    assert governor.publish_bytes() == full


def test_an_old_log_is_told_as_over_and_forgotten() -> None:
    world = World(7, Faults())
    produce(world, 3)
    world.run(world.now_us + SECOND_US)
    old = world.spool.epoch
    world.crash()
    heal_and_settle(world)
    assert all(key.epoch != old for key in world.spool.logs)


def test_a_peer_carries_what_it_is_handed_and_the_ack_still_moves_the_spool() -> None:
    world = World(8, Faults())
    world.outbox.down()
    produce(world, 5)
    world.run(world.now_us + 6 * SECOND_US)
    carried: list[tuple[int, int]] = []
    while (loan := world.outbox.backfill.hand_over(50)) is not None:
        number, (key, a, b) = loan
        assert key.node == "cart-1"
        carried.append((a, b))
        world.receivers[0].take([loan[1]], None)
        if len(carried) == 3:
            world.outbox.backfill.take_back(number)
    assert sum(b - a + 1 for a, b in carried) == world.spool.sheet().pending + 50
    world.reconnect()
    heal_and_settle(world)


def test_bounds_follow_the_configuration() -> None:
    limits = Limits(publishes_per_s=5, backfill_bytes_per_s=20_000, inflight_bundles=8)
    world = World(9, Faults(loss=0.2, delay_us=(1_000, 200_000)), limits)
    produce(world, 20)
    world.run(world.now_us + 21 * SECOND_US)
    heal_and_settle(world)
    times = [p.at_us for p in world.published if not p.alarms_only]
    assert min(b - a for a, b in itertools.pairwise(times)) >= SECOND_US // 5


def test_two_receivers_in_turn_delete_nothing_until_one_is_gone() -> None:
    world = World(10, Faults())
    produce(world, 10)
    world.run(world.now_us + 2 * SECOND_US)
    world.receivers.append(Receiver("rx-b"))
    world.run(world.now_us + 3 * SECOND_US)
    assert "receivers-alternate" in world.findings
    acked = world.spool.sheet().acked
    world.run(world.now_us + 30 * SECOND_US)
    assert world.spool.sheet().acked == acked
    del world.receivers[0]
    heal_and_settle(world, 300)
    assert "lost-at-receiver" in world.findings or "receiver-replaced" in world.findings


def test_a_replaced_receiver_is_believed_after_two_answers() -> None:
    world = World(11, Faults())
    produce(world, 10)
    world.run(world.now_us + 5 * SECOND_US)
    world.receivers[:] = [Receiver("rx-new")]
    world.run(world.now_us + 8 * SECOND_US)
    assert "receiver-replaced" in world.findings
    assert "receivers-alternate" not in world.findings
    heal_and_settle(world)


def test_a_receiver_restored_from_a_backup_costs_exactly_what_it_lost() -> None:
    world = World(12, Faults())
    produce(world, 20)
    world.run(world.now_us + 5 * SECOND_US)
    backup = world.receivers[0].copy()
    world.run(world.now_us + 5 * SECOND_US)
    world.receivers[:] = [backup]
    world.run(world.now_us + 11 * SECOND_US)
    heal_and_settle(world)
    sheet = world.spool.sheet()
    shelves = world.receivers[0].shelves.values()
    lost = sum(count(shelf.void) for shelf in shelves)  # acknowledged once, gone at both ends
    assert 200 < lost < 450
    assert sum(count(shelf.held) for shelf in shelves) == sheet.acked - lost


def test_replayed_and_reversed_acks_change_nothing() -> None:
    world = World(13, Faults())
    produce(world, 5)
    world.run(world.now_us + 6 * SECOND_US)
    before = world.spool.sheet()
    old = list(world.acks_sent)
    dice = random.Random(1)
    for ack in [*reversed(old), *dice.sample(old, len(old))]:
        world.hear(ack)
    assert world.spool.sheet() == before
    assert world.findings == []
    heal_and_settle(world)


def test_what_is_held_is_never_sent_twice_on_a_road_without_loss() -> None:
    world = World(14, Faults(delay_us=(1_000, 3_000)))
    world.outbox.down()
    produce(world, 20)
    world.run(world.now_us + 21 * SECOND_US)
    world.reconnect()
    heal_and_settle(world)
    assert world.receivers[0].again == 0
    for shelf in world.receivers[0].shelves.values():
        assert not intersect(shelf.held, shelf.void)
