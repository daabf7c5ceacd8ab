"""Never shown as fresh: stale, frozen, lost, or of an engine that is down."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.frames import SIGNALS, Signal
from edge_agent.core.freshness import (
    BLANKING,
    STALE_AFTER_US,
    Freshness,
    Observation,
    stream_state,
)

MAX_AGE_US = 500_000


def test_only_a_live_picture_is_not_blanked() -> None:
    assert set(SIGNALS) - set(BLANKING) == {Signal.OK}


def test_a_result_is_fresh_until_it_is_too_old() -> None:
    fresh = Freshness(MAX_AGE_US)
    assert fresh.reason(0, Signal.OK) == "no result yet"
    assert fresh.age_us(0) is None
    fresh.result(1000)
    assert fresh.reason(1000 + MAX_AGE_US, Signal.OK) is None
    assert fresh.reason(1001 + MAX_AGE_US, Signal.OK) == "stale"
    assert fresh.age_us(3000) == 2000


def test_an_engine_that_is_down_is_said_before_anything_else() -> None:
    fresh = Freshness(MAX_AGE_US)
    assert fresh.reason(0, Signal.FROZEN, engine_up=False) == "engine down"


def test_a_blank_is_told_once_per_spell() -> None:
    fresh = Freshness(MAX_AGE_US)
    assert fresh.blank(0, Signal.STARTING) == "starting"
    assert fresh.blank(1, Signal.STARTING) is None
    fresh.result(2)
    assert fresh.blank(3, Signal.OK) is None
    assert fresh.blank(4, Signal.FROZEN) == "frozen picture"
    assert fresh.blank(5, Signal.FROZEN) is None
    assert fresh.blank(6, Signal.OK) is None
    assert fresh.blank(7, Signal.FROZEN) == "frozen picture"


def test_what_is_shown_between_two_looks_re_arms_the_blank() -> None:
    """With a short max_age a look can find `stale` twice although a result was shown between."""
    fresh = Freshness(10_000)
    fresh.result(0)
    assert fresh.blank(20_000, Signal.OK) == "stale"
    fresh.result(30_000)
    assert fresh.may_show(30_000, 30_001, Signal.OK)
    assert fresh.blank(70_000, Signal.OK) == "stale", "else its listener would show it for ever"


@pytest.mark.parametrize("signal", SIGNALS)
def test_nothing_is_shown_of_a_picture_that_is_not_alive(signal: Signal) -> None:
    fresh = Freshness(MAX_AGE_US)
    fresh.result(0)
    assert fresh.may_show(0, 1, signal) is (signal is Signal.OK)
    assert not fresh.may_show(0, 1, signal, engine_up=False)
    assert not fresh.may_show(0, MAX_AGE_US + 1, signal)


EVENT = st.tuples(
    st.sampled_from(["result", "look"]), st.integers(0, 300_000), st.sampled_from(SIGNALS)
)


@given(st.lists(EVENT, max_size=60))
def test_after_a_look_a_listener_shows_something_exactly_when_it_may(
    events: list[tuple[str, int, Signal]],
) -> None:
    fresh, shown, now_us = Freshness(MAX_AGE_US), False, 0
    for kind, step_us, signal in events:
        now_us += step_us
        if kind == "result":
            captured_us = now_us - step_us
            if signal is Signal.OK:
                fresh.result(captured_us)
            shown |= fresh.may_show(captured_us, now_us, signal)
        else:
            shown &= fresh.blank(now_us, signal) is None
            assert not (shown and fresh.reason(now_us, signal)), "shown though it may not be"


# ── what a stream is called ───────────────────────────────────────────────────────────────────


def called(signal: Signal, **facts: Any) -> str:
    return stream_state(Observation(signal, **facts))


def test_a_stream_without_a_fresh_result_for_a_second_is_stale() -> None:
    assert called(Signal.OK) == "ok"
    assert called(Signal.OK, stale_us=STALE_AFTER_US - 1) == "ok"
    assert called(Signal.OK, stale_us=STALE_AFTER_US) == "stale"


def test_a_watched_folder_that_has_shown_all_is_idle_before_the_signal_says_so() -> None:
    """It was stale, with a critical alarm, for a second after each clip."""
    shown = {"stale_us": STALE_AFTER_US, "watched": True, "answered": True}
    assert called(Signal.OK, **shown) == "idle"
    assert called(Signal.OK, **shown, expect_us=5, quiet_us=4) == "idle"
    assert called(Signal.OK, **shown, expect_us=5, quiet_us=5) == "no_signal"
    assert called(Signal.OK, **{**shown, "answered": False}) == "stale", "a result is owed"
    assert called(Signal.OK, **{**shown, "watched": False}) == "stale"


def test_one_that_never_had_a_result_is_starting_and_then_stale() -> None:
    assert called(Signal.OK, has_result=False, stale_us=10) == "starting"
    assert called(Signal.OK, has_result=False, stale_us=STALE_AFTER_US) == "stale"


def test_starting_has_an_end() -> None:
    assert called(Signal.STARTING, starting_us=59_000_000) == "starting"
    assert called(Signal.STARTING, starting_us=60_000_000) == "no_signal"


def test_while_the_side_is_down_nothing_is_ok() -> None:
    assert called(Signal.OK, engine_up=False) == "starting"
    assert called(Signal.OK, engine_up=False, engine_failed=True) == "stale"
    assert called(Signal.FAILED, engine_up=False, engine_failed=True) == "failed"


def test_an_empty_watched_folder_is_idle_unless_it_was_told_to_expect_more() -> None:
    assert called(Signal.NO_SIGNAL, watched=True, quiet_us=10**12) == "idle"
    assert called(Signal.NO_SIGNAL, watched=True, quiet_us=5, expect_us=10) == "idle"
    assert called(Signal.NO_SIGNAL, watched=True, quiet_us=10, expect_us=10) == "no_signal"
    assert called(Signal.NO_SIGNAL) == "no_signal"
