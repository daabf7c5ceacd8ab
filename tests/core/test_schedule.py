"""Earliest deadline first, in classes; late only by waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import schedule
from edge_agent.core.schedule import Ready

JOBS = st.builds(
    Ready,
    rank=st.integers(0, 5),
    deadline_us=st.integers(0, 10**6),
    captured_us=st.integers(0, 10**6),
    key=st.integers(0, 100),
)


@given(st.lists(JOBS, min_size=1))
def test_the_highest_class_goes_first_and_in_it_the_earliest_deadline(jobs: list[Ready]) -> None:
    picked = schedule.pick(jobs)
    assert picked is not None
    assert picked.rank == min(job.rank for job in jobs)
    assert picked.deadline_us == min(j.deadline_us for j in jobs if j.rank == picked.rank)


def test_nothing_is_picked_from_nothing() -> None:
    assert schedule.pick([]) is None


def test_equal_deadlines_go_to_the_older_frame() -> None:
    older, newer = Ready(2, 50, 10, 9), Ready(2, 50, 20, 1)
    assert schedule.pick([newer, older]) is older


def test_a_second_model_goes_below_its_own_class_and_above_the_next() -> None:
    order = [
        schedule.rank_of("high", extra=False),
        schedule.rank_of("high", extra=True),
        schedule.rank_of("normal", extra=False),
        schedule.rank_of("normal", extra=True),
        schedule.rank_of("low", extra=False),
    ]
    assert order == sorted(set(order))


@given(
    budget=st.integers(1, 10**6), waited=st.integers(0, 2 * 10**6), estimate=st.floats(0, 2 * 10**6)
)
def test_a_frame_is_late_only_by_waiting(budget: int, waited: int, estimate: float) -> None:
    frame = Ready(0, 1000 + budget, 1000, 0)
    verdict = schedule.judge(frame, 1000 + waited, estimate)
    if verdict == "late":
        assert estimate <= budget, "run at once it would have met its deadline"
        assert waited + estimate > budget
        assert schedule.judge(frame, 1000, estimate) == "run"
    else:
        assert estimate > budget or waited + estimate <= budget


@given(estimate=st.floats(1, 20_000), waited=st.integers(1, 19_000), took=st.integers(100, 900))
def test_one_slow_spell_does_not_skip_frames_for_ever(
    estimate: float, waited: int, took: int
) -> None:
    skipped_in_a_row = 0
    for _ in range(600):
        if schedule.judge(Ready(0, 20_000, 0, 0), waited, estimate) == "run":
            estimate = schedule.update_estimate(estimate, took)
            skipped_in_a_row = 0
        else:
            estimate = schedule.doubt(estimate)
            skipped_in_a_row += 1
        assert skipped_in_a_row < 200
    assert schedule.judge(Ready(0, 20_000, 0, 0), waited, estimate) == "run"


def test_a_deadline_is_one_period_and_never_less_than_twenty_milliseconds() -> None:
    assert schedule.default_deadline_us(30) == 33_333
    assert schedule.default_deadline_us(240) == 20_000
    assert schedule.default_deadline_us(None) == schedule.default_deadline_us(0) == 100_000


def test_the_first_run_counts_whole_and_later_ones_a_little() -> None:
    first = schedule.update_estimate(0.0, 5000)
    assert first == 5000
    assert schedule.update_estimate(first, 6000) == 5100
