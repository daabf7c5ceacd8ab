"""Where payloads become records that are kept: opens bundles, asks `receiver`, writes, commits.

Used by one thread. `keep` is one transaction for everything that it is given: when it returns, all
that its outcome says is durable, so that the outcome may be acknowledged; when it raises, nothing
of it has happened. Nothing that comes from the wire raises: it is counted, and what nothing could
be read of is kept in the quarantine. What one payload breaks costs that payload alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from edge_agent.core import probe as probes
from edge_agent.core.errors import Overloaded, Rejected
from edge_agent.core.frames import AnyRecord, pack
from edge_agent.core.logbook import LogKey
from edge_agent.core.wire import armour, bounds, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.dict_v1 import DICTIONARY_1
from edge_agent.core.wire.envelope import Envelope, Kind
from edge_agent.core.wire.outcome import Need, WireError
from tools.hot_tier import receiver
from tools.hot_tier.database import Database, DiskFull
from tools.hot_tier.gate import Gate, Unproven
from tools.hot_tier.papers import Docs, Papers
from tools.hot_tier.quarantine import MAX_A_TRANSACTION, Bad, Quarantine
from tools.hot_tier.receiver import Incoming, Log
from tools.hot_tier.store import Logs, Rows, Voids

MAX_NODES: Final = 4096
MAX_NEEDS: Final = 64  # of one transaction
# What wrong content has been seen or can be thought to end in, beside the words of the house.
BROKEN: Final = (
    *(msgspec.MsgspecError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(AssertionError, RecursionError, MemoryError),
)


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
    it has here. records: those that are new, in the order of their coming. alive: who sent a status
    document, and in which epoch.
    """

    logs: dict[LogKey, Log] = {}
    touched: dict[str, dict[LogKey, None]] = {}
    asked: list[Asked] = []
    needs: list[tuple[str, Need]] = []
    docs: dict[str, Docs] = {}
    records: list[AnyRecord] = []
    fresh_docs: set[str] = set()  # carriers of documents
    alive: list[tuple[str, int]] = []


class Bundle(msgspec.Struct):
    """taken_bytes: decoded, of the records that were taken so far. budget: for its bodies."""

    taken_bytes: int = 0
    budget: bounds.Budget = msgspec.field(default_factory=bounds.Budget)


class Opened(NamedTuple):
    """One envelope out of a bundle, what it needs to be read, or why nothing could be read."""

    carrier: str
    content: Envelope | Need | Bad
    bundle: Bundle

    @property
    def records(self) -> int:
        content = self.content
        if not isinstance(content, Envelope) or content.kind is not Kind.RECORDS:
            return 0
        return content.count


class Desk:
    """Opens, decides, writes. nodes: whose envelopes are taken; none given: everybody's. hears:
    whether somebody wants the records of an outcome; else they are not kept in memory. gate: what a
    signature has to say, and the keys of seals.
    """

    def __init__(
        self,
        db: Database,
        nodes: Collection[str] = (),
        gate: Gate | None = None,
        *,
        hears: bool = True,
    ) -> None:
        self._gate = gate or Gate()
        self.codecs = Codecs([DICTIONARY_1])
        self.logs = Logs(db)
        self.rows = Rows(db)
        self.voids = Voids(db)
        self._db = db
        self._only = frozenset(nodes)
        self._hears = hears
        self._bad = Quarantine(db)
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
            except WireError as error:
                found.append(Opened(armour.carrier_of(payload), Bad(payload, error.what), Bundle()))
                continue
            self.counts["envelopes"] += len(bundle.contents)
            one = Bundle()
            found += (Opened(bundle.carrier, content, one) for content in bundle.contents)
        return found

    def keep(self, opened: Iterable[Opened]) -> Outcome:
        """All of this, in one transaction. What breaks it is taken out, and the rest done again.

        Raises: Overloaded when the disk is full; Damaged. Nothing has happened then.
        """
        left = list(opened)
        while True:
            try:
                return self._keep(left)
            except _Broken as broken:
                left[broken.at] = broken.instead

    def _keep(self, opened: Sequence[Opened]) -> Outcome:
        """Raises: _Broken, Overloaded, Damaged. Nothing has happened then."""
        self._begin()
        before = self.counts.copy()
        taken = [(one.bundle, one.bundle.taken_bytes, one.bundle.budget.left) for one in opened]
        try:
            with self._db.transaction():
                for at, one in enumerate(opened):
                    with _contained(at, one):
                        self._take(one)
                for log in self._staged.values():
                    self.logs.put(log)
                if self._staged or self._out.fresh_docs or self._kept_bad:
                    self._db.put("counts", dict(self.counts))
        except BaseException:
            self.counts = before
            self.papers.forget()
            self._bad.forget()
            for bundle, size, left in taken:
                bundle.taken_bytes, bundle.budget.left = size, left
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
        self._kept_bad = 0
        self._out = Outcome()

    # ── one envelope ──────────────────────────────────────────────────────────────────────────

    def _take(self, opened: Opened) -> None:
        content = opened.content
        if isinstance(content, Need):
            self._lacks(opened.carrier, content)
        elif isinstance(content, Bad):
            self._spoiled(opened.carrier, content)
        else:
            self._envelope(opened, content)

    def _envelope(self, opened: Opened, envelope: Envelope) -> None:
        actions: dict[Kind, Callable[[Opened, Envelope], None]] = {
            Kind.RECORDS: self._records,
            Kind.PROBE: self._probe,
            Kind.DOCUMENT: self._document,
        }
        try:
            admitted = self._gate.admit(envelope)
            self._admit(opened.carrier, envelope.node)
            if isinstance(admitted, Need):
                self._lacks(opened.carrier, admitted)
                return
            if envelope.kind not in actions:
                raise Rejected(f"take {envelope.kind.name}: expected records, probe or document")
            actions[envelope.kind](opened, admitted)
            self._nodes.update((opened.carrier, envelope.node))
        except WireError as error:
            self._spoiled(opened.carrier, _bad(opened, error.what))
        except DiskFull:
            raise
        except Unproven as refused:
            self.counts[refused.count] += 1
            if refused.need is not None:
                self._lacks(opened.carrier, refused.need)
        except (Rejected, Overloaded):
            self.counts["refused"] += 1

    def _spoiled(self, carrier: str, bad: Bad) -> None:
        """Nothing could be read of it."""
        self.counts["corrupt"] += 1
        if self._kept_bad < MAX_A_TRANSACTION:
            self._kept_bad += 1
            self.counts["bad_kept"] += 1
            self.counts["bad_dropped"] += self._bad.put(carrier, bad)

    def _admit(self, *nodes: str) -> None:
        """Raises: Rejected, Overloaded."""
        for node in nodes:
            if self._only and node not in self._only:
                raise Rejected(f"take from {node}: expected one of the --node given")
            if node not in self._nodes and len(self._nodes) >= MAX_NODES:
                raise Overloaded(f"take from {node}: expected at most {MAX_NODES} nodes")

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

    def _records(self, opened: Opened, envelope: Envelope) -> None:
        found = records.decode(envelope, self.codecs, opened.bundle.budget)
        if isinstance(found, Need):
            self._lacks(opened.carrier, found)
            return
        opened.bundle.taken_bytes = _weighed(opened.bundle, found)
        bodies = [pack(record) for record in found]
        self._book(opened.carrier, envelope, found, bodies)

    def _book(
        self,
        carrier: str,
        envelope: Envelope,
        found: Sequence[AnyRecord],
        bodies: Sequence[bytes],
    ) -> None:
        assert envelope.klass is not None
        key = LogKey(envelope.node, envelope.stream, envelope.klass, envelope.epoch)
        log = self._log(key)
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
        if self._hears:
            self._out.records += (record for span in spans for record in found[span])

    # ── probes and documents ──────────────────────────────────────────────────────────────────

    def _probe(self, opened: Opened, envelope: Envelope) -> None:
        carrier = opened.carrier
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

    def _document(self, opened: Opened, envelope: Envelope) -> None:
        carrier = opened.carrier
        lacks = self.papers.take(carrier, envelope, self.codecs)
        self._out.alive.append((envelope.node, envelope.epoch))
        if lacks is not None:
            self._lacks(carrier, lacks)
            return
        self.counts["documents"] += 1
        self._out.touched.setdefault(carrier, {})
        self._out.fresh_docs.add(carrier)


class _Broken(Exception):
    """at: which of those opened broke the transaction; instead: what is taken in its place."""

    def __init__(self, at: int, instead: Opened) -> None:
        super().__init__(at)
        self.at, self.instead = at, instead


@contextmanager
def _contained(at: int, opened: Opened) -> Iterator[None]:
    """Raises: _Broken for what its content may have done."""
    try:
        yield
    except BROKEN as error:
        if isinstance(opened.content, Bad):  # its place in the quarantine is not its content
            raise
        bad = _bad(opened, f"{type(error).__name__}: {error}")
        raise _Broken(at, opened._replace(content=bad)) from error


def _bad(opened: Opened, reason: str) -> Bad:
    """An envelope in a bundle of its own."""
    if not isinstance(opened.content, Envelope):
        return Bad(b"", reason)
    return Bad(armour.pack(opened.carrier, [envelopes.encode(opened.content)]), reason)


def _weighed(bundle: Bundle, found: Sequence[AnyRecord]) -> int:
    """The bytes taken from it, with these. Raises: WireError."""
    taken = bundle.taken_bytes + sum(map(bounds.size_of, found))
    if taken > bounds.MAX_BUNDLE_BYTES:
        raise WireError(
            f"take records: expected at most {bounds.MAX_BUNDLE_BYTES} bytes of them decoded in a "
            f"bundle, got {taken}"
        )
    return taken


def _verdicts(here: dict[int, bytes], first: int, bodies: Sequence[bytes]) -> list[Incoming]:
    if not here:
        return [Incoming.NEW] * len(bodies)
    return [_verdict(here, seq, body) for seq, body in enumerate(bodies, first)]


def _verdict(here: dict[int, bytes], seq: int, body: bytes) -> Incoming:
    if seq not in here:
        return Incoming.NEW
    return Incoming.DUPLICATE if here[seq] == body else Incoming.CONFLICT
