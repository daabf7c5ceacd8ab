from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.errors import LinkDown, SourceLost
from edge_agent.core.restart import Backoff, Budget, Hush, is_weather, leaves


def test_the_budget_allows_its_crashes_and_not_one_more() -> None:
    budget = Budget(crashes=5, window_s=60.0)
    assert [budget.allows(float(now)) for now in range(6)] == [True] * 5 + [False]


def test_crashes_that_left_the_window_are_forgotten() -> None:
    budget = Budget(crashes=2, window_s=10.0)
    assert all(budget.allows(now) for now in (0.0, 6.0, 12.0, 18.0, 24.0))
    assert not budget.allows(25.0)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=60), st.integers(1, 6))
def test_the_budget_equals_a_count_over_the_window(times: list[float], crashes: int) -> None:
    budget = Budget(crashes=crashes, window_s=60.0)
    past: list[float] = []
    for now in sorted(times):
        past.append(now)
        recent = sum(1 for then in past if now - then < 60.0)
        assert budget.allows(now) == (recent <= crashes)


def test_delays_double_to_their_bound_and_begin_anew_after_a_good_run() -> None:
    backoff = Backoff(first_s=1.0, longest_s=4.0)
    assert [backoff.delay_s(ran_s=0, chance=1.0) for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]
    assert backoff.delay_s(ran_s=4.0, chance=1.0) == 1.0


@given(st.floats(0, 1, exclude_max=True))
def test_jitter_takes_away_at_most_a_half(chance: float) -> None:
    assert 0.5 <= Backoff(first_s=1.0).delay_s(ran_s=0, chance=chance) <= 1.0


@pytest.mark.anyio
async def test_the_errors_of_nested_groups_are_found() -> None:
    async def fail(error: Exception) -> None:
        raise error

    first, second = LinkDown("a"), SourceLost("b")

    async def nest() -> None:
        async with anyio.create_task_group() as outer:
            outer.start_soon(fail, first)
            async with anyio.create_task_group() as inner:
                inner.start_soon(fail, second)

    with pytest.raises(Exception, match="unhandled") as caught:
        await nest()
    assert set(leaves(caught.value)) == {first, second}
    assert is_weather(caught.value)
    assert leaves(first) == [first]
    assert not is_weather(ValueError("a bug"))


def test_a_day_without_a_road_is_two_dozen_lines() -> None:
    hush = Hush()
    assert sum(hush.is_news("away", minute * 60.0) for minute in range(24 * 60)) == 24
    assert hush.is_news("refused", 24 * 3600.0 - 1)
