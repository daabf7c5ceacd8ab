"""`tools/faults outage` with minutes instead of hours, and that its road is EdgeCore's."""

from __future__ import annotations

import random

import pytest

from edge_agent.core.frames import RecordClass
from edge_agent.core.lanes import Span
from edge_agent.core.logbook import LogKey
from tools.edgecore.road import Faults
from tools.faulting.outage import MOST_LATER_S, MOST_PUBLISHED, Plan, Run, outage
from tools.faulting.simulated.cloud import ROAD_US, Hub, Tier
from tools.faulting.simulated.edge import EPOCH, NODE, Bundle, Edge
from tools.faulting.simulated.moments import Alarm, Moments

KEY = LogKey(NODE, "us", RecordClass.RESULT, EPOCH)


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_the_outage_both_sheets_are_exact_and_live_results_flow_again(
    seed: int, silent: bool
) -> None:
    found = outage(Plan(hours=0.1, per_s=2, seed=seed, silent=silent))
    assert found["exact"], found
    for name in ("minute", "outage"):
        assert found[name]["live_after_s"] <= found[name]["fresh_after_s"]
        assert found[name]["drained_s"] is not None
    assert found["outage"]["results"] > 2 * 2 * 360


def judged(hours: float, per_s: int) -> None:
    found = outage(Plan(hours=hours, per_s=per_s))
    assert found["later_s"] <= MOST_LATER_S, found
    assert found["outage"]["published"] <= MOST_PUBLISHED, found
    assert found["ok"], found


def test_after_two_hours_live_results_flow_as_soon_as_after_a_minute() -> None:
    judged(2, per_s=5)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_after_ten_hours_live_results_flow_as_soon_as_after_a_minute() -> None:
    judged(10, per_s=30)


def test_after_a_silent_hour_live_results_flow_within_a_minute() -> None:
    found = outage(Plan(hours=1, per_s=2, silent=True))
    assert found["outage"]["live_after_s"] <= 60, found


def test_what_is_never_delivered_is_seen() -> None:
    run = Run(Plan(hours=0.01, per_s=2), 10.0)
    run._hub.publish = lambda _: None  # type: ignore[assignment, method-assign]
    found = run.figures()
    names = ("live_after_s", "fresh_after_s", "drained_s")
    assert [found[name] for name in names] == [None] * 3
    assert found["lost"] == found["left"] == found["results"] > 100


def test_what_is_kept_twice_is_seen() -> None:
    moments = Moments()
    tier = Tier(moments, lambda *_: None, lambda *_: None)
    tier.rows[KEY] = ((2, 3),)  # and its books know nothing of them
    tier.arrive(Bundle((Span(KEY, 1, 5),), None))
    moments.run(moments.now_us + 1_000_000)
    assert (tier.doubled, tier.again) == (2, 0)


def test_its_edgehub_sends_first_what_was_published_without_a_road() -> None:
    moments = Moments()
    got: list[tuple[int, int]] = []
    hub = Hub(
        moments,
        Faults(reorder_within=0),
        lambda bundle: got.append((moments.now_us, bundle.spans[0].a)),
        lambda *_: None,
    )
    hub.cut()
    for n in range(100):
        hub.publish(Bundle((Span(KEY, n, n),), None))
    moments.run(moments.now_us + 5_000_000)
    back_us = moments.now_us
    hub.restore()
    hub.publish(Bundle((Span(KEY, 1000, 1000),), None))
    moments.run(back_us + 10_000_000)
    assert [n for _, n in got] == [*range(3, 100), 1000]
    assert got[59][0] == back_us + ROAD_US, "the burst"
    assert got[-1][0] - back_us == pytest.approx((98 - 60) / 30 * 1e6, rel=0.02)


def test_an_edge_without_a_road_says_less_than_with_one() -> None:
    moments, dice = Moments(), random.Random(1)
    edge = Edge(moments, dice, lambda _: None)
    edge.connect()
    for second in range(60):
        moments.run(second * 1_000_000)
        edge.append()
    assert 0 < edge.published < 120
    assert edge.shelf.sheet().pending == 60 * 2 - 2, "those of last time are committed"


def test_an_alarm_rings_once_at_the_earliest_time_that_it_was_set_to() -> None:
    moments, rung = Moments(), []
    alarm = Alarm(moments, lambda: rung.append(moments.now_us))
    start_us = moments.now_us
    for after_us in (500, 200, 900):
        alarm.set(start_us + after_us)
    moments.run(start_us + 10_000)
    assert rung == [start_us + 200]
    assert moments.now_us == start_us + 10_000
