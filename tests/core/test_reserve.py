"""A spool that is too small for a day without a network is known before that day."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.reserve import DAY_S, GIB, Reserve, enough_gib

SECOND_US = 1_000_000


def test_two_streams_of_boxes_fill_six_gigabytes_a_day() -> None:
    reserve = Reserve(0, 1000)
    reserve.look(120 * SECOND_US, records=500, body_bytes=500 * 909, appended=1000 + 120 * 60)
    daily = reserve.bytes_per_day
    assert daily is not None
    assert 5.8e9 < daily < 6e9
    lasts_s = reserve.lasts_s(4 * GIB)
    assert lasts_s is not None
    assert 17 < lasts_s / 3600 < 18


def test_nothing_is_said_before_enough_was_seen() -> None:
    reserve = Reserve(0, 0)
    reserve.look(59 * SECOND_US, records=5000, body_bytes=5_000_000, appended=5000)
    assert reserve.lasts_s(GIB) is None
    reserve = Reserve(0, 0)
    reserve.look(600 * SECOND_US, records=299, body_bytes=300_000, appended=5000)
    assert reserve.lasts_s(GIB) is None
    reserve.look(700 * SECOND_US, records=300, body_bytes=300_000, appended=0)
    assert reserve.lasts_s(GIB) is None  # nothing comes


def test_the_size_that_was_seen_last_counts_when_the_spool_is_nearly_empty() -> None:
    reserve = Reserve(0, 0)
    reserve.look(60 * SECOND_US, records=300, body_bytes=300_000, appended=600)
    before = reserve.bytes_per_day
    reserve.look(120 * SECOND_US, records=3, body_bytes=90_000, appended=1200)
    assert reserve.bytes_per_day == before


def test_a_spool_that_is_emptied_at_once_is_known_after_some_looks() -> None:
    """Online a few dozen records lie in it: the warning must not wait for the first outage."""
    reserve = Reserve(0, 0)
    for look in range(1, 11):
        reserve.look(
            look * 10 * SECOND_US, records=30, body_bytes=30 * 909, appended=look * 10 * 60
        )
    daily = reserve.bytes_per_day
    assert daily is not None
    assert 5.8e9 < daily < 6e9


@given(st.floats(1.0, 1e14))
def test_what_is_proposed_lasts_for_more_than_a_day(daily: float) -> None:
    assert enough_gib(daily) * GIB / daily * DAY_S >= 1.49 * DAY_S
