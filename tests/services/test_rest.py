"""How a stream rests: without a picture, or since its exam ended; a frozen picture is no rest."""

from __future__ import annotations

import os

import pytest

from edge_agent import memory
from edge_agent.core import ring
from edge_agent.core.frames import SIGNALS, Result, Signal, pack
from edge_agent.core.ring import Word
from edge_agent.memory import Mapped
from edge_agent.services.engine import Rest, Tap

S = 1_000_000


class Stream:
    """The child's end of a stream's memory, and the agent's tap on it."""

    def __init__(self) -> None:
        self.tap = Tap("a")
        fd = memory.create("a")
        self.tap.open(fd)
        view = Mapped(fd).view
        os.close(fd)
        self.header, self._writer = ring.Header(view), ring.ResultWriter(view)

    def frame(self, at_s: float, *, exam: str = "", signal: Signal = Signal.OK) -> None:
        at_us = round(at_s * S)
        self.header[Word.LAST_FRAME_US] = at_us
        self.signal(signal)
        result = Result(node="n", stream="a", captured_us=at_us, exam=exam)
        self._writer.put(pack(result), primary=True)
        list(self.tap.drain())

    def signal(self, signal: Signal) -> None:
        self.header[Word.SIGNAL] = SIGNALS.index(signal)

    def rest(self, at_s: float) -> Rest:
        return self.tap.rest(round(at_s * S))


def test_while_an_exam_is_under_way_nothing_rests() -> None:
    stream = Stream()
    stream.frame(10, exam="aa")
    assert stream.rest(50) == ("aa", "ok", 0.0, 0.0)


def test_an_exam_ends_with_a_frame_of_none() -> None:
    stream = Stream()
    stream.frame(10, exam="aa")
    stream.frame(20)
    assert stream.rest(80) == ("", "ok", 0.0, 70.0)
    stream.frame(81, exam="bb")
    assert stream.rest(82) == ("bb", "ok", 0.0, 0.0)


def test_where_exams_are_not_told_apart_only_silence_is_rest() -> None:
    stream = Stream()
    stream.frame(10)
    assert stream.rest(500) == ("", "ok", 0.0, 0.0)
    stream.signal(Signal.NO_SIGNAL)
    assert stream.rest(500) == ("", "no_signal", 490.0, 0.0)


@pytest.mark.parametrize("signal", [Signal.FROZEN, Signal.BLACK])
def test_a_frozen_picture_is_being_looked_at(signal: Signal) -> None:
    stream = Stream()
    stream.frame(10, exam="aa", signal=signal)
    assert stream.rest(500)[2:] == (0.0, 0.0)


def test_silence_goes_on_over_a_restart_of_the_side() -> None:
    stream = Stream()
    stream.frame(10, exam="aa")
    stream.tap.close(clean=False)
    assert stream.rest(100) == ("aa", "starting", 90.0, 0.0)
