"""Where payloads become records that are kept: opens bundles, asks `receiver`, writes, commits.

Used by one thread. `keep` is one transaction for everything that it is given: when it returns, all
that its outcome says is durable, so that the outcome may be acknowledged; when it raises, nothing
of it has happened. Nothing that comes from the wire raises: it is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from edge_agent.core import probe as probes
from edge_agent.core.errors import Overloaded, Rejected
from edge_agent.core.frames import AnyRecord, pack
from edge_agent.core.logbook import LogKey
from edge_agent.core.wire import armour, records
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope, Kind
from edge_agent.core.wire.outcome import Need, WireError
from tools.hot_tier import receiver
from tools.hot_tier.database import Database, DiskFull
from tools.hot_tier.papers import Docs, Papers
from tools.hot_tier.receiver import Incoming, Log
from tools.hot_tier.store import Logs, Rows, Voids

MAX_NODES: Final = 4096
MAX_NEEDS: Final = 64  # of one transaction


class Asked(msgspec.Struct, frozen=True):
    """One probe. live: the epochs that it says are still written. via: KubeEdge's name of the
    machine, "" for the node's own.
    """

    carrier: str
    node: str
    nonce: str
    keys: tuple[LogKey, ...]
    live: frozenset[int]
    via: str = ""


class Outcome(msgspec.Struct):
    """What one transaction did. All of it is durable.

    logs: as they are now, of all that were touched. touched: by carrier. docs: by carrier, all that
    it has here. records: those that are new, in the order of their coming.
    """

    logs: dict[LogKey, Log] = {}
    touched: dict[str, dict[LogKey, None]] = {}
    asked: list[Asked] = []
    needs: list[tuple[str, Need]] = []
    docs: dict[str, Docs] = {}
    records: list[AnyRecord] = []
    fresh_docs: set[str] = set()  # carriers of documents


class Opened(NamedTuple):
    """One envelope out of a bundle, or what it needs to be read."""

    carrier: str
    content: Envelope | Need

    @property
    def records(self) -> int:
        is_records = isinstance(self.content, Envelope) and self.content.kind is Kind.RECORDS
        return self.content.count if is_records else 0  # type: ignore[union-attr]


class Desk:
    """Opens, decides, writes. nodes: whose envelopes are taken; none given: everybody's."""

    def __init__(self, db: Database, nodes: Collection[str] = ()) -> None:
        self.codecs = Codecs([DICTIONARY_1])
        self.logs = Logs(db)
        self.rows = Rows(db)
        self.voids = Voids(db)
        self._db = db
        self._only = frozenset(nodes)
        self.papers = Papers(db)
        self._nodes = {node for (node,) in db.rows("SELECT DISTINCT node FROM log")}
        self._nodes |= self.papers.nodes()
        self._begin()
        self.counts: Counter[str] = Counter(db.get("counts") or {})

    def take(self, payloads: Sequence[bytes]) -> Outcome:
        """`open` and `keep`."""
        return self.keep(self.open(payloads))

    def open(self, payloads: Sequence[bytes]) -> list[Opened]:
        """Everything in these bundles, in their order; nothing of it has happened yet."""
        found: list[Opened] = []
        for payload in payloads:
            self.counts["bundles"] += 1
            self.counts["bytes"] += len(payload)
            try:
                bundle = armour.unpack(payload)
            except WireError:
                self.counts["corrupt"] += 1
                continue
            self.counts["envelopes"] += len(bundle.contents)
            found += (Opened(bundle.carrier, content) for content in bundle.contents)
        return found

    def keep(self, opened: Iterable[Opened]) -> Outcome:
        """All of this, in one transaction.

        Raises: Overloaded when the disk is full; Damaged. Nothing has happened then.
        """
        self._begin()
        before = self.counts.copy()
        try:
            with self._db.transaction():
                for carrier, content in opened:
                    if isinstance(content, Need):
                        self._lacks(carrier, content)
                    else:
                        self._envelope(carrier, content)
                for log in self._staged.values():
                    self.logs.put(log)
                if self._staged or self._out.fresh_docs:  # garbage alone is no reason to write
                    self._db.put("counts", dict(self.counts))
        except BaseException:
            self.counts = before
            self.papers.forget()
            raise
        for key, log in self._staged.items():
            self.logs.committed(self._before[key], log)
        self._out.logs = self._staged
        self._out.docs = {carrier: self.papers.ids(carrier) for carrier in self._out.touched}
        return self._out

    def close(self) -> None:
        """Raises: Overloaded, Damaged."""
        with self._db.transaction():
            self._db.put("counts", dict(self.counts))

    def _begin(self) -> None:
        self._before: dict[LogKey, Log | None] = {}  # as committed
        self._staged: dict[LogKey, Log] = {}  # as of now
        self._opened = 0  # of these, new ones
        self._out = Outcome()

    # ── one envelope ──────────────────────────────────────────────────────────────────────────

    def _envelope(self, carrier: str, envelope: Envelope) -> None:
        actions: dict[Kind, Callable[[str, Envelope], None]] = {
            Kind.RECORDS: self._records,
            Kind.PROBE: self._probe,
            Kind.DOCUMENT: self._document,
        }
        try:
            self._admit(carrier, envelope.node)
            if envelope.kind not in actions:
                raise Rejected(f"take {envelope.kind.name}: expected records, probe or document")
            actions[envelope.kind](carrier, envelope)
        except WireError:
            self.counts["corrupt"] += 1
        except DiskFull:
            raise
        except (Rejected, Overloaded):
            self.counts["refused"] += 1

    def _admit(self, *nodes: str) -> None:
        """Raises: Rejected, Overloaded."""
        for node in nodes:
            if self._only and node not in self._only:
                raise Rejected(f"take from {node}: expected one of the --node given")
            if node not in self._nodes and len(self._nodes) >= MAX_NODES:
                raise Overloaded(f"take from {node}: expected at most {MAX_NODES} nodes")
        self._nodes.update(nodes)

    def _lacks(self, carrier: str, need: Need) -> None:
        self.counts["needs"] += 1
        if len(self._out.needs) < MAX_NEEDS:
            self._out.needs.append((carrier, need))

    def _log(self, key: LogKey) -> Log:
        """As of now. A new one counts only once it is staged. Raises: Overloaded."""
        if key in self._staged:
            return self._staged[key]
        found = self.logs.get(key)
        self._before[key] = found
        return found or self.logs.blank(key, self._opened)

    def _stage(self, carrier: str, log: Log) -> None:
        self._opened += log.key not in self._staged and self._before[log.key] is None
        self._staged[log.key] = log
        self._out.touched.setdefault(carrier, {})[log.key] = None

    # ── records ───────────────────────────────────────────────────────────────────────────────

    def _records(self, carrier: str, envelope: Envelope) -> None:
        found = records.decode(envelope, self.codecs)
        if isinstance(found, Need):
            self._lacks(carrier, found)
            return
        assert envelope.klass is not None
        key = LogKey(envelope.node, envelope.stream, envelope.klass, envelope.epoch)
        log = self._log(key)
        bodies = [pack(record) for record in found]
        first, last = envelope.first, envelope.last
        here = self.rows.held(log.id, first, last) if receiver.may_be_here(log, first, last) else {}
        verdicts = _verdicts(here, first, bodies)
        voids = self.voids.touching(log.id, first, last) if any(log.voided) else ()
        log, said = receiver.taken(log, first, verdicts, voids)
        spans = [slice(a - first, b + 1 - first) for a, b in said.new]
        size = sum(len(body) for span in spans for body in bodies[span])
        log = msgspec.structs.replace(log, bytes=log.bytes + size)
        self.rows.put(log.id, first, bodies, said.new)
        if said.freed:
            self.voids.cut(log.id, voids, said.new)
        for seq in said.conflicts:
            kept = self.rows.quarantine(log.id, seq, bodies[seq - first], carrier)
            self.counts["quarantined" if kept else "unquarantined"] += 1
        self._stage(carrier, log)
        for span in spans:
            self._out.records += found[span]

    # ── probes and documents ──────────────────────────────────────────────────────────────────

    def _probe(self, carrier: str, envelope: Envelope) -> None:
        probe = probes.decode(envelope, self.codecs)
        if isinstance(probe, Need):
            self._lacks(carrier, probe)
            return
        self.counts["probes"] += 1
        self._out.touched.setdefault(carrier, {})
        answered = [offer for offer in probe.logs if self._offer(carrier, offer)]
        self._out.asked.append(
            Asked(
                carrier=carrier,
                node=envelope.node,
                nonce=probe.nonce,
                keys=tuple(dict.fromkeys(offer.key for offer in answered)),
                live=frozenset(offer.epoch for offer in answered if not offer.closed),
                via=probe.via or "",
            )
        )

    def _offer(self, carrier: str, offer: probes.Offer) -> bool:
        """Whether it could be booked."""
        try:
            log, fresh = receiver.offered(self._log(offer.key), offer)
        except DiskFull:
            raise
        except (Rejected, Overloaded):
            self.counts["refused"] += 1
            return False
        self.voids.add(log.id, fresh)
        self._stage(carrier, log)
        return True

    def _document(self, carrier: str, envelope: Envelope) -> None:
        lacks = self.papers.take(carrier, envelope, self.codecs)
        if lacks is not None:
            self._lacks(carrier, lacks)
            return
        self.counts["documents"] += 1
        self._out.touched.setdefault(carrier, {})
        self._out.fresh_docs.add(carrier)


def _verdicts(here: dict[int, bytes], first: int, bodies: Sequence[bytes]) -> list[Incoming]:
    if not here:
        return [Incoming.NEW] * len(bodies)
    return [_verdict(here, seq, body) for seq, body in enumerate(bodies, first)]


def _verdict(here: dict[int, bytes], seq: int, body: bytes) -> Incoming:
    if seq not in here:
        return Incoming.NEW
    return Incoming.DUPLICATE if here[seq] == body else Incoming.CONFLICT
