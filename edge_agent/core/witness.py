"""What an ack is worth, and what follows from it. Acks come from outside: they may be forged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from edge_agent.core import logbook
from edge_agent.core.edgecore import Ack, LogAck
from edge_agent.core.lanes import Flight
from edge_agent.core.ledger import Ledger, key_of, less_than
from edge_agent.core.logbook import LogKey
from edge_agent.core.probe import Offer
from edge_agent.core.ranges import Ranges, count, subtract
from edge_agent.core.receivers import Question, Receivers, Verdict

MAX_FINDINGS: Final = 32
MAX_NOTED: Final = 256


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something for the audit and the operator. `code` is stable."""

    code: Literal[
        "ack-refused",
        "receiver-replaced",
        "receivers-alternate",
        "lost-at-receiver",
        "receiver-too-old",
        "receiver-lacks-key",
        "answers-untrusted",
        "record-unfit",
    ]
    what: str
    records: int = 0


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What an ack leads to.

    apply: delete what these say. forfeit: these logs hold no more than so, whatever was said
    before. forget: closed logs that the receiver knows to be over. question: the probe that this
    is the first answer to. arrived: publishes that are there, whole. answers: it is this
    receiver's first answer to a question of ours, whether it is trusted or not.
    """

    verdict: Verdict
    answers: bool = False
    apply: tuple[logbook.Ack, ...] = ()
    forfeit: tuple[logbook.Ack, ...] = ()
    forget: tuple[LogKey, ...] = ()
    question: Question | None = None
    arrived: tuple[Flight, ...] = ()

    @property
    def is_trusted(self) -> bool:
        return self.verdict in (Verdict.TRUSTED, Verdict.REPLACED)


class Witness:
    """refused: logs in acks that were. findings: emptied by whoever reads it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._receivers = Receivers()
        self._noted: set[LogKey] = set()
        self.findings: list[Finding] = []
        self.refused = 0

    @property
    def is_contested(self) -> bool:
        return self._receivers.is_contested

    def is_fresh(self, nonce: str) -> bool:
        """Whether what was said after this question of ours still counts."""
        return self._receivers.is_fresh(nonce)

    def ask(self, nonce: str, now_us: int, offers: tuple[Offer, ...]) -> None:
        """A probe goes out; what is known now can't be less when it is answered."""
        known: Mapping[LogKey, Ranges] = {o.key: self._ledger.known(o.key) for o in offers}
        self._receivers.ask(nonce, now_us, known, offers)

    def hear(self, ack: Ack, now_us: int) -> Heard:
        was = self.is_contested
        question = self._receivers.question(ack.echo)
        first = question is not None and ack.rx not in question.answered
        verdict = self._receivers.judge(ack.rx, ack.echo, now_us)
        if verdict is Verdict.CONTESTED and not was:
            self.find("receivers-alternate", "two receivers answer in turn: nothing is deleted")
            self._ledger.distrust()
        if verdict in (Verdict.UNASKED, Verdict.CONTESTED):
            self.refused += len(ack.acks)
            return Heard(verdict=verdict, answers=first)
        if verdict is Verdict.REPLACED:
            self.find("receiver-replaced", "the receiver has another database than before")
            self._ledger.distrust()
        offers = question.offers if question else ()
        self._ledger.answered(offers)
        forfeit = tuple(self._believe(log, question) for log in ack.acks)
        self._ledger.heard()
        return Heard(
            verdict=verdict,
            answers=first,
            apply=self._ledger.applicable(),
            forfeit=tuple(step for step in forfeit if step is not None),
            forget=self._ledger.settled(o.key for o in offers if o.closed and o.floor == o.next),
            question=question if first else None,
        )

    def find(self, code: str, what: str, records: int = 0) -> None:
        if len(self.findings) < MAX_FINDINGS:
            finding = {"code": code, "what": what, "records": records}
            self.findings.append(msgspec.convert(finding, Finding))

    def _believe(self, log: LogAck, question: Question | None) -> logbook.Ack | None:
        """Joins it; or, where the receiver has lost something, what the books have to forfeit."""
        fault = self._ledger.fault(log, echoed=question is not None)
        if fault:
            if not self._ledger.is_unborn(log):
                self._refuse(log, fault)
            self._ledger.disown(key_of(log))
            return None
        key = key_of(log)
        known = question.known.get(key, ()) if question else ()
        gone = less_than(known, log)
        more = self._ledger.mourn(log) if question is not None else 0
        if more or gone:
            name = f"{log.stream or 'the agent'}/{log.klass.value}"
            number = max(more, count(gone))
            what = f"the receiver no longer has {number} records of {name} that it acknowledged"
            self.find("lost-at-receiver", what, number)
        if not gone:
            self._ledger.join(log)
            return None
        self._receivers.forget(key)
        return self._ledger.replace(log, subtract(known, gone), count(gone))

    def _refuse(self, log: LogAck, fault: str) -> None:
        self.refused += 1
        key = key_of(log)
        if key in self._noted or len(self._noted) >= MAX_NOTED:
            return
        self._noted.add(key)
        name = f"{log.stream or 'the agent'}/{log.klass.value} epoch {log.epoch:x}"
        self.find("ack-refused", f"ack of {name}: expected {fault}, got upto {log.upto}")
