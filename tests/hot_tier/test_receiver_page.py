"""docs/receiver.md against the receiver that this project has: what it books, what it says."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.core import edgecore
from tests.hot_tier.opened import opened
from tests.hot_tier.wire import ask, batch, bundle, offer
from tools.hot_tier.answers import Answers
from tools.hot_tier.desk import Outcome
from tools.hot_tier.receiver import OTHER, REASONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "receiver.md").read_text(encoding="utf-8")


def said(outcome: Outcome) -> edgecore.LogAck:
    """The one log of the ack that follows."""
    answers = Answers("rx", n=0, dicts=())
    answers.took(outcome)
    (letter,) = answers.due(0)
    topics = edgecore.Topics.of("default", letter.node)
    ack = edgecore.read(topics, topics.down("ack"), letter.payload)
    assert isinstance(ack, edgecore.Ack)
    (log,) = ack.acks
    return log


def test_the_exchange_of_the_page_is_what_the_receiver_says(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        log = said(at.desk.take([bundle(batch(1, 4), batch(7, 8))]))
        assert (log.upto, log.have) == (4, ((7, 8),))
        assert "L: upto 4, have [[7, 8]]" in PAGE
        void = ((6, 6, "evicted"),)
        log = said(at.desk.take([bundle(batch(5, 5), ask("p1", offer(5, 9, void=void)))]))
        assert (log.upto, log.have, log.lost) == (8, (), 0)
        log = said(at.desk.take([bundle(ask("p2", offer(9, 9)))]))
        assert log.upto == 8


def test_what_is_not_here_below_the_floor_is_lost_and_void(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        log = said(at.desk.take([bundle(batch(2, 2), ask("p1", offer(4, 9)))]))
        assert (log.upto, log.have, log.lost) == (3, (), 2)


def test_a_log_that_is_over_moves_no_upto_and_a_void_seq_that_comes_is_held(tmp_path: Path) -> None:
    with opened(tmp_path) as at:
        at.desk.take([bundle(batch(1, 2), batch(5, 5))])
        log = said(at.desk.take([bundle(ask("p1", offer(1, 3, closed=True)))]))
        assert (log.upto, log.have) == (2, ((5, 5),))
        log = said(at.desk.take([bundle(ask("p2", offer(1, 6, void=((3, 4, "corrupt"),))))]))
        assert (log.upto, log.have) == (5, ())
        at.desk.take([bundle(batch(3, 4))])
        assert at.held() == [1, 2, 3, 4, 5]


def test_the_reasons_of_the_page_are_those_that_are_counted() -> None:
    shown = re.findall(r"^\| `([a-z-]+)` \| (?:its disk|the record|a receiver)", PAGE, re.MULTILINE)
    assert {*shown, OTHER} == set(REASONS)
