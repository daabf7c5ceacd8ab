"""What a level takes away, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.degrade import MAX_LEVEL, NEVER, every

PRIORITIES = ["high", "normal", "low"]


@pytest.mark.parametrize("priority", PRIORITIES)
def test_level_zero_takes_nothing(priority: str) -> None:
    assert every(0, priority, extra=False) == every(0, priority, extra=True) == 1


@pytest.mark.parametrize("priority", PRIORITIES)
@pytest.mark.parametrize("level", range(1, MAX_LEVEL + 1))
def test_second_models_go_first(priority: str, level: int) -> None:
    assert every(level, priority, extra=True) == NEVER
    if level == 1:
        assert every(level, priority, extra=False) == 1


def work(level: int, priority: str) -> float:
    n = every(level, priority, extra=False)
    return 1 / n if n else 0.0


@pytest.mark.parametrize("level", range(MAX_LEVEL))
@pytest.mark.parametrize("priority", PRIORITIES)
def test_a_higher_level_never_does_more(priority: str, level: int) -> None:
    assert work(level + 1, priority) <= work(level, priority)


@pytest.mark.parametrize("level", range(MAX_LEVEL + 1))
def test_a_higher_class_never_gets_less(level: int) -> None:
    shares = [work(level, priority) for priority in PRIORITIES]
    assert shares == sorted(shares, reverse=True)


@given(st.integers(-10, 10), st.sampled_from(PRIORITIES))
def test_levels_beyond_the_table_are_its_ends(level: int, priority: str) -> None:
    assert every(level, priority, extra=False) == every(
        min(max(level, 0), MAX_LEVEL), priority, extra=False
    )
