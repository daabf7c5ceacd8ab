"""Ranges behave as the sets of numbers that they stand for."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import ranges
from edge_agent.core.ranges import Ranges

numbers = st.sets(st.integers(1, 60), max_size=40)


def members(found: Ranges) -> set[int]:
    return {n for a, b in found for n in range(a, b + 1)}


def is_tidy(found: Ranges) -> bool:
    ordered = all(a <= b for a, b in found)
    return ordered and all(b + 1 < c for (_, b), (c, _) in itertools.pairwise(found))


@given(numbers, numbers)
def test_ranges_are_sets(one: set[int], other: set[int]) -> None:
    a, b = ranges.of(one), ranges.of(other)
    for found, expected in (
        (ranges.union(a, b), one | other),
        (ranges.subtract(a, b), one - other),
        (ranges.intersect(a, b), one & other),
        (ranges.clip(a, 10, 30), {n for n in one if 10 <= n <= 30}),
        (ranges.lowest(a, 7), set(sorted(one)[:7])),
    ):
        assert members(found) == expected
        assert is_tidy(found)
    assert ranges.count(a) == len(one)
    assert all(ranges.holds(a, n) == (n in one) for n in range(61))


def test_what_is_empty_stays_out() -> None:
    assert ranges.union(((5, 4),), ((1, 0),)) == ()
    assert ranges.subtract(((1, 0),), ()) == ()
    assert ranges.lowest(((1, 9),), 0) == ()
