from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.window import Rate


def test_a_rate_is_what_a_counter_grows_by_in_a_second() -> None:
    rate = Rate()
    for second in range(5):
        rate.add(second * 1_000_000, 30 * second)
    assert rate.per_s() == 30.0


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_a_counter_that_begins_anew_is_no_negative_rate(counts: list[int]) -> None:
    rate = Rate()
    for second, count in enumerate(counts):
        rate.add(second * 1_000_000, count)
        assert rate.per_s() >= 0.0
