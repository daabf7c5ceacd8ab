"""A road that answers nothing: what goes into it, and how soon it is awake again."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.backoff import JITTER, LONGEST_US, ProbeBackoff
from edge_agent.core.edgecore import Ack, NeedSaid
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.outbox import Outbox
from tests.core.outbox_ends import NODE
from tests.core.outbox_world import Faults, World

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
TELEMETRY = RecordClass.TELEMETRY


class EdgeHubWorld(World):
    """What is published while the link is cut is kept in memory and goes first when it is back, 30
    a second; the first three are swallowed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed, Faults(delay_us=(2_000, 4_000)))
        self.kept: list[Callable[[], None]] = []
        self.free_us = 0  # when the queue of EdgeHub is empty

    def _send(self, then: Callable[[], None]) -> None:
        if self.is_cut:
            self.kept.append(then)
            return
        self.at(max(self.free_us, self.now_us + self.dice.randint(*self.faults.delay_us)), then)

    def restore(self) -> None:
        self.is_cut = False
        for number, then in enumerate(self.kept[3:]):
            self.free_us = self.now_us + number * SECOND_US // 30
            self.at(self.free_us, then)
        self.kept = []

    def forget(self) -> None:
        """EdgeCore was restarted."""
        self.kept = []

    def count_after(self, at_us: int) -> int:
        return sum(p.at_us > at_us for p in self.published)


def cut(world: World, seconds: float, every_s: float = 10.0, *, evicts: bool = False) -> int:
    """An outage in which records go on being made; when the cloud was known to be away."""
    world.is_cut = True
    end_us = world.now_us + round(seconds * SECOND_US)
    down_us = 0
    while world.now_us < end_us:
        world.append("us", TELEMETRY)
        world.run(min(end_us, world.now_us + round(every_s * SECOND_US)))
        if evicts:
            world.evict(1)
        if not down_us and world.outbox.cloud(world.now_us) == "down":
            down_us = world.now_us
    return down_us


def beginning(seed: int = 1) -> EdgeHubWorld:
    world = EdgeHubWorld(seed)
    for _ in range(60):
        world.append("us", TELEMETRY)
        world.run(world.now_us + SECOND_US // 30)
    return world


def live_again_s(world: World) -> float:
    """Until a record is acknowledged that was made after the road was mended, s."""
    began_us = world.now_us
    (mine,) = (log.key for log in world.spool.logs.values() if log.key.epoch == world.spool.epoch)
    first = world.spool.given[mine.stream, mine.klass] + 1
    while world.now_us - began_us < 400 * SECOND_US:
        world.append("us", TELEMETRY)
        world.run(world.now_us + SECOND_US // 30)
        held = world.receivers[0].shelves[mine].held
        if any(b >= first for _, b in held) and world.outbox.cloud(world.now_us) == "up":
            return (world.now_us - began_us) / SECOND_US
    raise AssertionError("never")


def test_ten_hours_of_a_dead_road_cost_at_most_150_messages() -> None:
    """It was 0.8 a second for ever; EdgeHub drains them before the first live result."""
    world = beginning()
    down_us = cut(world, 36_000, evicts=True)
    assert down_us < 15 * SECOND_US + 2 * SECOND_US
    assert world.count_after(down_us) <= 150
    world.restore()
    assert live_again_s(world) < 6


def test_live_results_flow_as_soon_after_ten_hours_as_after_a_minute() -> None:
    after_s = {}
    for outage_s in (60, 36_000):
        world = beginning(seed=outage_s)
        cut(world, outage_s)
        world.restore()
        after_s[outage_s] = live_again_s(world)
    assert after_s[36_000] - after_s[60] < 5


def test_a_broker_that_comes_and_goes_while_the_cloud_is_away_makes_no_storm() -> None:
    world = beginning()
    world.is_cut = True
    cut(world, 60)
    before_us = world.now_us
    for _ in range(3600):
        world.append("us", TELEMETRY)
        world.reconnect()
        world.run(world.now_us + 10 * SECOND_US)
    assert world.count_after(before_us) <= 150
    assert all(not p.backfill_bytes for p in world.published if p.at_us > before_us)
    world.restore()
    assert live_again_s(world) < 6


def test_a_broker_that_flaps_from_the_first_second_is_seen_through() -> None:
    world = EdgeHubWorld(5)
    world.is_cut = True
    for _ in range(1200):
        world.append("us", TELEMETRY)
        world.run(world.now_us + SECOND_US)
        world.reconnect()
        world.run(world.now_us + 2 * SECOND_US)
    assert len(world.published) < 60
    assert world.outbox.cloud(world.now_us) == "down"


def test_where_everything_was_dropped_the_next_question_finds_out() -> None:
    world = beginning()
    cut(world, 7_200)
    world.forget()
    world.is_cut = False
    assert live_again_s(world) <= (1 + JITTER) * LONGEST_US / SECOND_US


def test_an_answer_to_a_question_of_hours_ago_wakes_the_road_at_once() -> None:
    world = beginning()
    cut(world, 7_200)
    world.kept = world.kept[:-1]
    asked = world.published[-1].at_us
    world.restore()
    world.run(world.now_us + SECOND_US)
    assert world.published[-1].at_us > asked
    assert world.outbox.cloud(world.now_us) == "up"


def asked(box: Outbox, now_us: int, nonce: str) -> None:
    box.turn(now_us, 0.0)
    draft = box.draft(now_us)
    assert draft is not None
    assert box.load(draft, [], now_us=now_us, chance=0.0, nonce=nonce).probe is not None


def silent() -> tuple[Outbox, int]:
    """An outbox that has asked for an hour."""
    box = Outbox(node=NODE, epoch=1 << 32 | 7)
    key = LogKey(NODE, "us", TELEMETRY, 1 << 32 | 7)
    box.up([Log(id=1, key=key, next=5)], 0)
    now_us = 0
    while now_us < HOUR_US:
        asked(box, now_us, f"n{now_us}")
        due_us = box.due_us(now_us)
        assert due_us is not None
        now_us = due_us
    assert box.cloud(now_us) == "down"
    return box, now_us - 200 * SECOND_US


def word(echo: str = "", rx: str = "rx-a") -> Ack:
    return Ack(schema=1, node=NODE, rx=rx, n=1, echo=echo)


def test_any_other_sign_of_the_cloud_is_worth_one_question_a_minute() -> None:
    need = NeedSaid(schema=1, node=NODE, kind="", name="", epoch=0, a=0, b=0, why="version")
    signs: tuple[Callable[[Outbox, int], object], ...] = (
        lambda box, now_us: box.needed(need, now_us),
        lambda box, now_us: box.heard(word(), now_us),
        lambda box, now_us: box.sign_of_life(now_us),
    )
    for sign in signs:
        box, now_us = silent()
        assert box.due_us(now_us) != now_us
        sign(box, now_us)
        assert box.due_us(now_us) == now_us
        assert box.cloud(now_us) == "down"
        asked(box, now_us, "again")
        due_us = box.due_us(now_us)
        assert due_us is not None
        assert due_us > now_us
        sign(box, now_us + SECOND_US // 2)
        assert box.due_us(now_us) == due_us


def test_a_stranger_that_answers_after_an_outage_is_asked_again_at_once() -> None:
    """Two answers make it trusted; five minutes between them would be five minutes lost."""
    box, now_us = silent()
    box.heard(word(f"n{0}"), now_us)
    asked(box, now_us + SECOND_US, "x1")
    assert not box.heard(word("x1", "rx-b"), now_us + 2 * SECOND_US).is_trusted
    assert (box.due_us(now_us + 2 * SECOND_US) or 0) <= now_us + 4 * SECOND_US


def test_an_answer_that_lay_for_hours_says_nothing_of_the_round_trip() -> None:
    """Each one made the patience with what is lost half a minute, for many answers after."""
    box, now_us = silent()
    box.heard(word("n0"), now_us)
    assert box.governor.round_trip_us == 0
    assert box.cloud(now_us) == "up"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 1 << 32), signs=st.lists(st.integers(0, 36_000), max_size=20))
def test_whatever_chance_says_ten_hours_are_bounded_and_no_pause_is_longer_than_it_may_be(
    seed: int, signs: list[int]
) -> None:
    dice, backoff, now_us, probes = random.Random(seed), ProbeBackoff(), 0, 0
    told = sorted(second * SECOND_US for second in signs)
    while now_us < 36_000 * SECOND_US:
        pause_us = backoff.asked(dice.random(), SECOND_US)
        assert SECOND_US <= pause_us <= (1 + JITTER) * LONGEST_US
        probes += 1
        then_us = now_us + pause_us
        while told and told[0] < then_us:
            at_us = told.pop(0)
            then_us = min(then_us, at_us) if backoff.sign(at_us) else then_us
        now_us = max(then_us, now_us)
    assert probes <= 128 + 9 * len(signs)
    assert backoff.is_silent
