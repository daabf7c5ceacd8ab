"""The edge: an outbox driven as the uplink's service drives it, on books kept as the spool does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final, NamedTuple

from edge_agent.core import edgecore, logbook
from edge_agent.core.backfill import Want
from edge_agent.core.edgecore import Ack, Topics
from edge_agent.core.frames import Result
from edge_agent.core.lanes import Cargo, Span, key_of
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.outbox import Outbox
from edge_agent.core.probe import Probe
from edge_agent.core.ranges import Ranges, intersect
from tools.faulting.simulated.moments import Alarm, Moments

NODE: Final = "cart-7"
STREAMS: Final = ("us", "endo")
EPOCH: Final = 1 << 32 | 7
TOPICS: Final = Topics.of("default", NODE)
IDLE_US: Final = 1_000_000  # the service looks at least so often
READ_US: Final = 5_000  # of a batch from the disk, and its encoding
RECORD_BYTES: Final = 60
ENVELOPE_BYTES: Final = 90
MOST_ROWS: Final = 1000  # of one acknowledgement, applied at once


class Bundle(NamedTuple):
    """One publish: what its envelopes say."""

    spans: tuple[Span, ...]
    probe: Probe | None


class Shelf:
    """The books of a spool whose disk is never full."""

    def __init__(self) -> None:
        self.logs: dict[LogKey, Log] = {}
        self._waiting: list[Result] = []
        self._given = dict.fromkeys(STREAMS, 0)

    def append(self, stream: str, now_us: int) -> Result:
        """Gets its id; its commit is under way."""
        self._given[stream] += 1
        record = Result(
            node=NODE, stream=stream, epoch=EPOCH, seq=self._given[stream], at_us=now_us
        )
        self._waiting.append(record)
        return record

    def commit(self) -> None:
        """All that waits, as one transaction."""
        last: dict[LogKey, tuple[int, int]] = {}
        for record in self._waiting:
            key = key_of(record)
            last[key] = (record.seq, last.get(key, (0, 0))[1] + RECORD_BYTES)
        for key, (seq, size) in last.items():
            log = self.logs.get(key) or Log(id=len(self.logs) + 1, key=key)
            self.logs[key] = logbook.written(log, seq, size, ())[0]
        self._waiting = []

    def acknowledge(self, acks: tuple[logbook.Ack, ...]) -> None:
        for ack in acks:
            gone: Ranges = ((1, 1),)
            while gone:
                self.logs[ack.key], gone = logbook.acknowledged(self.logs[ack.key], ack, MOST_ROWS)

    def sheet(self) -> logbook.Sheet:
        total = logbook.Sheet()
        for log in self.logs.values():
            total = total.plus(log.sheet())
        return total


class Edge:
    """publish: called with what goes up. findings: what the outbox had to tell, by code."""

    def __init__(
        self, moments: Moments, dice: random.Random, publish: Callable[[Bundle], None]
    ) -> None:
        self._moments, self._dice, self._publish = moments, dice, publish
        self.shelf = Shelf()
        self.outbox = Outbox(node=NODE, epoch=EPOCH)
        self.published = 0
        self.findings: list[str] = []
        self._alarm = Alarm(moments, self.step)

    def connect(self) -> None:
        self.outbox.up(self.shelf.logs.values(), self._moments.now_us)
        self.step()

    def append(self, number: int = 1) -> None:
        """So many results of each stream; those of last time are committed by now."""
        self.shelf.commit()
        for stream in STREAMS * number:
            record = self.shelf.append(stream, self._moments.now_us)
            self.outbox.appended(record, self._moments.now_us)
        self._look()
        self.step()

    def settle(self) -> None:
        """What was appended last is committed."""
        self.shelf.commit()
        self._look()
        self.step()

    def hear(self, topic: str, payload: bytes) -> None:
        """What comes down."""
        said = edgecore.read(TOPICS, topic, payload)
        if isinstance(said, Ack):
            self._look()
            heard = self.outbox.heard(said, self._moments.now_us)
            self.shelf.acknowledge(heard.apply)
            self._look()
        self.step()

    def step(self) -> None:
        """Everything that may be done now."""
        box, now_us = self.outbox, self._moments.now_us
        box.turn(now_us, self._dice.random())
        while (draft := box.draft(now_us)) is not None:
            live = [_cargo(key_of(run[0]), run[0].seq, run[-1].seq) for run in draft.runs]
            load = box.load(
                draft, live, now_us=now_us, chance=self._dice.random(),
                nonce=f"{self._dice.getrandbits(64):016x}",
            )  # fmt: skip
            if load.cargos or load.probe is not None:
                self.published += 1
                self._publish(Bundle(tuple(cargo.span for cargo in load.cargos), load.probe))
        want = box.want(now_us)
        if want is not None:
            self._moments.after(READ_US, lambda: self._fetched(want))
        self.findings += [finding.code for finding in box.witness.findings]
        box.witness.findings.clear()
        due_us = box.due_us(now_us)
        self._alarm.set(now_us + IDLE_US if due_us is None else min(due_us, now_us + IDLE_US))

    def _look(self) -> None:
        self.shelf.acknowledge(self.outbox.observe(self.shelf.logs.values(), self._moments.now_us))

    def _fetched(self, want: Want) -> None:
        here = intersect(self.shelf.logs[want.key].pending(), want.wanted)
        self.outbox.backfill.fetched(want, [_cargo(want.key, a, b) for a, b in here])
        self.step()


def _cargo(key: LogKey, a: int, b: int) -> Cargo:
    return Cargo(Span(key, a, b), ENVELOPE_BYTES + RECORD_BYTES * (b - a + 1), b"")
