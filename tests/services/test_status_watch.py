"""Each change of a state or of a problem is one line of the log, and none without a change."""

from __future__ import annotations

import pytest

from edge_agent.core.problems import Problem, ProblemBook
from edge_agent.host import SystemClock
from edge_agent.services.status_watch import StatusWatch

LOST = Problem("source-lost", "critical", "a: gone", "plug it in", stream="a")
PIN = Problem("pinned", "notice", "pinned", "unpin", subject="tiny")


class House:
    """What a watch looks at."""

    def __init__(self) -> None:
        self.states, self.found = {"": "ok", "a": "ok"}, list[Problem]()
        self.watch = StatusWatch(
            clock=SystemClock(), states=lambda: self.states, found=lambda: self.found,
            book=ProblemBook(),
        )  # fmt: skip


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    lines = [(one.levelname, one.getMessage()) for one in caplog.records]
    caplog.clear()
    return lines


def test_a_change_is_one_line_and_what_stays_is_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "edge_agent.status")
    house = House()
    house.watch.look()
    assert said(caplog) == []
    house.states, house.found = {"": "degraded", "a": "reopening"}, [LOST]
    house.watch.look()
    assert said(caplog) == [
        ("WARNING", "problem source-lost"), ("INFO", "state: ok -> degraded"),
        ("INFO", "state: ok -> reopening"),
    ]  # fmt: skip
    house.found = [LOST._replace(what="a: still gone")]
    house.watch.look()
    assert said(caplog) == []
    house.states, house.found = {"": "ok", "a": "ok"}, []
    house.watch.look()
    assert said(caplog) == [
        ("INFO", "problem source-lost is over"), ("INFO", "state: degraded -> ok"),
        ("INFO", "state: reopening -> ok"),
    ]  # fmt: skip


def test_a_notice_warns_nobody_and_a_stream_that_left_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "edge_agent.status")
    house = House()
    house.watch.look()
    house.states, house.found = {"": "ok"}, [PIN]
    house.watch.look()
    assert said(caplog) == [("INFO", "problem pinned")]
