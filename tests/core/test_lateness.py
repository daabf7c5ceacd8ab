"""What of a live stream is old, though it looks new."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.lateness import QUEUE_US, Lateness

FRAME_US = 40_000


def played(
    gaps_us: list[int], stamps_us: list[int], *, waits: bool = True, has_stamps: bool = True
) -> str:
    """What is said of packets that come so far apart; the last word."""
    late, now_us, said = Lateness(0, has_stamps=has_stamps), 0, ""
    for gap_us, stamp_us in zip(gaps_us, stamps_us, strict=True):
        now_us += gap_us
        said = late.packet(now_us - (gap_us if waits else 0), now_us, stamp_us)
        if said:
            break
    return said


STEADY = [number * FRAME_US for number in range(100)]


@given(st.lists(st.integers(1_000, 900_000), min_size=2, max_size=100))
def test_what_comes_as_it_likes_is_not_late(gaps_us: list[int]) -> None:
    assert played(gaps_us, STEADY[: len(gaps_us)]) == ""


def test_what_follows_a_silence_as_if_nothing_had_been_is_as_old_as_the_silence() -> None:
    gaps_us = [FRAME_US] * 99 + [1_600_000]
    assert "as old as that" in played(gaps_us, STEADY)
    assert played(gaps_us, STEADY, has_stamps=False) == "", "they are made up from a rate"


def test_a_sender_that_left_out_what_it_could_not_send_is_not_late() -> None:
    assert played([FRAME_US] * 99 + [1_600_000], [*STEADY[:-1], STEADY[-2] + 1_600_000]) == ""


@pytest.mark.parametrize("gap_us", [1_000_000, 2_500_000])
def test_a_slow_camera_that_stamps_by_a_rate_is_not_late(gap_us: int) -> None:
    assert played([gap_us] * 50, STEADY[:50]) == ""


def test_a_reader_that_never_waits_has_a_queue_before_it() -> None:
    gaps_us = [FRAME_US] * 100
    assert "more of it comes" in played(gaps_us, STEADY, waits=False)
    assert (
        played(gaps_us[: QUEUE_US // FRAME_US], STEADY[: QUEUE_US // FRAME_US], waits=False) == ""
    )
