"""Whose word counts: the receiver's database has an identity, and only a fresh answer changes it.

An answer that echoes one of our nonces was made after that probe was sent. So it can't be older
than what we knew then: if it says less, the receiver has lost something. Without the echo it may be
anything that lay on the road, and only joins. Two receivers that take turns would each delete what
the other lacks; while they do, nobody's word deletes anything.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from edge_agent.core.logbook import LogKey
from edge_agent.core.probe import Offer
from edge_agent.core.ranges import Ranges

MAX_NONCES: Final = 256  # of an outage of 21 hours; while all is well, of some minutes
MAX_PAST: Final = 8
LATE_QUESTIONS: Final = 16  # an answer to one so many before the newest that was answered is old
QUIET_US: Final = 60_000_000  # alone for so long: the other one is gone
PAST_US: Final = 600_000_000  # who spoke within it and speaks again takes turns


class Verdict(enum.Enum):
    """What becomes of an ack."""

    TRUSTED = "trusted"
    REPLACED = "replaced"  # trusted from now on: another database than before
    UNASKED = "unasked"  # a stranger that answers no question of ours, or only one so far
    CONTESTED = "contested"  # two take turns


class Question:
    """One probe. known: what the receiver had said to hold of each log when it was sent.

    offers: what it told.
    """

    def __init__(
        self, number: int, at_us: int, known: dict[LogKey, Ranges], offers: tuple[Offer, ...]
    ) -> None:
        self.number = number
        self.at_us = at_us
        self.known = known
        self.offers = offers
        self.answered: set[str] = set()


class Receivers:
    """The one that is trusted, and the questions it may answer."""

    def __init__(self) -> None:
        self.current = ""
        self.is_contested = False
        self._questions: dict[str, Question] = {}  # by nonce, oldest first
        self._asked = 0
        self._since = 0  # the question that made `current` trusted
        self._answered = 0  # the newest that a trusted one answered
        self._stranger: tuple[str, int] | None = None  # and the question it answered first
        self._past: dict[str, int] = {}  # when others were last trusted
        self._last = ""  # who answered last, while it is contested
        self._turned_us = 0

    def ask(
        self, nonce: str, now_us: int, known: Mapping[LogKey, Ranges], offers: tuple[Offer, ...]
    ) -> None:
        self._asked += 1
        self._questions[nonce] = Question(self._asked, now_us, dict(known), offers)
        while len(self._questions) > MAX_NONCES:
            del self._questions[next(iter(self._questions))]

    def question(self, echo: str) -> Question | None:
        return self._questions.get(echo)

    def is_fresh(self, nonce: str) -> bool:
        """Whether what was said after this question may still be believed. What an attacker kept,
        from before a receiver lost its database, is not.
        """
        question = self._questions.get(nonce)
        return question is not None and question.number > self._answered - LATE_QUESTIONS

    def forget(self, key: LogKey) -> None:
        """What was known of a log holds no more."""
        for question in self._questions.values():
            question.known.pop(key, None)

    def judge(self, rx: str, echo: str, now_us: int) -> Verdict:
        """Of an ack from `rx` that echoes `echo`; the same ack twice is judged the same."""
        question = self._questions.get(echo)
        if self.is_contested:
            return self._wait_for_quiet(rx, question, now_us)
        if rx == self.current:
            return self._again(rx, question, now_us)
        if question is None:
            return Verdict.UNASKED
        if not self.current:
            return self._adopt(rx, question)
        return self._meet(rx, question, now_us)

    def _again(self, rx: str, question: Question | None, now_us: int) -> Verdict:
        if question is None:
            return Verdict.TRUSTED
        question.answered.add(rx)
        self._answered = max(self._answered, question.number)
        if self._stranger is not None and question.number >= self._stranger[1]:
            return self._contest(rx, now_us)
        return Verdict.TRUSTED

    def _meet(self, rx: str, question: Question, now_us: int) -> Verdict:
        """It has to answer two questions while the trusted one answers none."""
        rivals = question.answered - {rx}
        if not rivals and question.number <= self._since:
            return Verdict.UNASKED  # late words of one that was replaced
        question.answered.add(rx)
        first = self._stranger or (rx, question.number)
        if rivals or first[0] != rx or now_us - self._past.get(rx, -PAST_US) < PAST_US:
            return self._contest(rx, now_us)
        self._stranger = first
        if question.number <= first[1]:
            return Verdict.UNASKED
        self._past[self.current] = now_us
        while len(self._past) > MAX_PAST:
            del self._past[next(iter(self._past))]
        self._adopt(rx, question)
        return Verdict.REPLACED

    def _contest(self, rx: str, now_us: int) -> Verdict:
        self.is_contested, self._stranger = True, None
        self._last, self._turned_us = rx, now_us
        return Verdict.CONTESTED

    def _adopt(self, rx: str, question: Question) -> Verdict:
        self.current, self._since, self._stranger = rx, question.number, None
        self._answered = max(self._answered, question.number)
        question.answered.add(rx)
        return Verdict.TRUSTED

    def _wait_for_quiet(self, rx: str, question: Question | None, now_us: int) -> Verdict:
        if question is None or rx in question.answered:
            return Verdict.CONTESTED
        question.answered.add(rx)
        if rx != self._last:
            self._last, self._turned_us = rx, now_us
        if now_us - self._turned_us < QUIET_US or question.answered != {rx}:
            return Verdict.CONTESTED
        self.is_contested, self._past = False, {}
        was = self.current
        self._adopt(rx, question)
        return Verdict.TRUSTED if rx == was else Verdict.REPLACED
