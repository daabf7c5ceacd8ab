"""What a stream is called from what its books, its engine and its results say, moment by moment."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from edge_agent.core.account import Totals
from edge_agent.core.alarms import ENGINE_DOWN, ENGINE_STILL
from edge_agent.core.frames import Record, Result, Signal
from edge_agent.core.ring import Word
from edge_agent.host import SystemClock
from edge_agent.services.pipeline import Channel, Pipeline, Scribe, StreamTerms
from edge_agent.stores.volatile import VolatileSpool

MAX_AGE_US = 500_000
SECOND_US = 1_000_000
START_US = 60_000_000


class Books(NamedTuple):
    """A stream's, as of a moment."""

    of_signal: Signal = Signal.OK
    last_frame_us: int = 0

    def totals(self) -> Totals:
        return Totals()

    def signal(self) -> Signal:
        return self.of_signal

    def word(self, word: Word) -> int:
        return self.last_frame_us if word is Word.LAST_FRAME_US else 0


class Engine:
    """One that says of itself what a test tells it."""

    def __init__(self) -> None:
        self.is_up, self.has_failed, self.starts, self.still = True, False, 1, 0.0

    def still_s(self) -> float:
        return self.still


class Stream:
    """A channel and its surroundings."""

    def __init__(self, **terms: int) -> None:
        self.channel = Channel(StreamTerms(MAX_AGE_US, **terms))
        self.engine = Engine()

    def at(self, now_us: int, signal: Signal = Signal.OK, last_frame_us: int = 0) -> str:
        return self.channel.look(Books(signal, last_frame_us), signal, self.engine, now_us)


def test_ok_needs_a_fresh_result_and_goes_within_two_seconds_of_its_age() -> None:
    stream = Stream()
    assert stream.at(0) == "starting"
    stream.channel.freshness.result(100_000)
    assert stream.at(200_000) == "ok"
    assert stream.at(100_000 + MAX_AGE_US + SECOND_US - 1) == "ok"
    assert stream.at(100_000 + MAX_AGE_US + SECOND_US) == "stale"


def test_a_pause_of_the_loop_hides_no_age() -> None:
    """Stale was counted from when somebody looked: a result of five seconds was ok."""
    stream = Stream()
    stream.channel.freshness.result(0)
    assert stream.at(10_000) == "ok"
    assert stream.at(5 * SECOND_US) == "stale"


def test_after_a_picture_is_back_it_is_starting_until_a_result_of_it_is_there() -> None:
    """For a second it was ok, with a result from before the picture was gone."""
    stream = Stream()
    stream.channel.freshness.result(0)
    assert stream.at(10_000) == "ok"
    assert stream.at(9 * SECOND_US, Signal.REOPENING) == "reopening"
    assert stream.at(10 * SECOND_US) == "starting"
    assert stream.at(11 * SECOND_US) == "stale"
    stream.channel.freshness.result(11 * SECOND_US)
    assert stream.at(11 * SECOND_US + 1) == "ok"


def test_starting_has_an_end() -> None:
    stream = Stream(start_limit_us=START_US)
    assert stream.at(0, Signal.STARTING) == "starting"
    assert stream.at(START_US - 1, Signal.STARTING) == "starting"
    assert stream.at(START_US, Signal.STARTING) == "no_signal"


@pytest.mark.parametrize("expect_us", [0, 5 * SECOND_US])
def test_an_empty_watched_folder_is_idle_until_more_was_expected(expect_us: int) -> None:
    stream = Stream(expect_us=expect_us)
    stream.channel.is_watched = True
    assert stream.at(0, Signal.NO_SIGNAL) == "idle"
    late = stream.at(5 * SECOND_US, Signal.NO_SIGNAL)
    assert late == ("no_signal" if expect_us else "idle")
    assert stream.at(5 * SECOND_US, Signal.NO_SIGNAL, 4 * SECOND_US) == "idle", "one came since"


# ── and the alarm of it ───────────────────────────────────────────────────────────────────────


def test_a_side_that_stands_still_or_is_gone_is_named_as_that() -> None:
    clock, engine, books = SystemClock(), Engine(), {"a": Books()}
    spool = VolatileSpool(epoch=1, limit_bytes=1 << 20, clock=clock)
    scribe = Scribe(node="n", boot="0badcafe", clock=clock, spool=spool)
    told: list[Record] = []
    scribe.listen(told.append)
    pipeline = Pipeline(
        clock=clock, scribe=scribe, books=books, engine=engine, is_stuck=lambda _: False,
        observe=lambda _result, _now: None,
    )  # fmt: skip
    pipeline.configure({"a": StreamTerms(1000)})
    channel, now_us = pipeline.channels["a"], clock.boot_us()
    pipeline.on_record(Result(node="n", stream="a", captured_us=now_us), primary=True)

    def alarm(at_us: int) -> str:
        pipeline._tick("a", channel, at_us)
        standing = pipeline.alarms.standing().get("a")
        return standing.meaning.code if standing else ""

    assert alarm(now_us) == ""
    assert alarm(now_us + 2 * SECOND_US) == "results-stale"
    engine.still = 2.0
    assert alarm(now_us + 3 * SECOND_US) == ENGINE_STILL.code
    engine.is_up, engine.has_failed = False, True
    assert alarm(now_us + 4 * SECOND_US) == ENGINE_DOWN.code
    assert [getattr(one, "code", "") for one in told if getattr(one, "state", "") == "raised"] == [
        "results-stale", "engine-still", "engine-down",
    ]  # fmt: skip
