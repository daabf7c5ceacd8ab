"""When the hot tier says what, to whom. Pure: outcomes and the time in, letters out.

To each carrier: each probe is answered with its nonce; each change is told at once, but at most 4
times a second; what was told is repeated after 1, 2, 4 ... 60 s until the node's floor has passed
`upto`, or a day has gone by (a node that lacks it asks). No letter has more than 64 logs or
32 kB. Only what was committed is ever given to this page, so that only that is acknowledged.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeVar

import msgspec

from edge_agent.core import edgecore, signed
from edge_agent.core.edgecore import MAX_DOWN_BYTES, MAX_EPOCHS, MAX_LOGS, MAX_RANGES, MAX_SEQ
from edge_agent.core.logbook import LogKey
from edge_agent.core.wire.codec import CODINGS
from edge_agent.core.wire.envelope import VERSION
from edge_agent.core.wire.outcome import Need
from edge_agent.core.wire.sealing import Signer
from tools.hot_tier.desk import Outcome
from tools.hot_tier.papers import Docs
from tools.hot_tier.receiver import Log

TICK_US: Final = 250_000
ANSWER_US: Final = 100_000  # for each probe beyond a burst
BURST: Final = 16
FIRST_REPEAT_US: Final = 1_000_000
LAST_REPEAT_US: Final = 60_000_000
REPEATED_US: Final = 90_000_000_000  # 25 h: what comes down wakes an edge that asks seldom by then
NEED_US: Final = 1_000_000  # the same need, again
LETTERS_A_TICK: Final = 4  # the way down keeps 100 messages and drops the oldest
MAX_ADDRESSEES: Final = 4096
MAX_BOOKS: Final = 16_384
MAX_KEYS: Final = 4096  # of one addressee, of each kind
MAX_QUESTIONS: Final = 64
MAX_NEEDS: Final = 16


class Letter(NamedTuple):
    """For the topic edge-agent/<node>/down/<what>."""

    node: str
    what: Literal["ack", "need", "desired", "tuf"]
    payload: bytes


class Repeat(NamedTuple):
    since_us: int
    due_us: int
    wait_us: int


class Addressee:
    """What one carrier is still to be told. All of it bounded; the oldest goes."""

    def __init__(self) -> None:
        self.questions: deque[tuple[str, tuple[LogKey, ...]]] = deque(maxlen=MAX_QUESTIONS)
        self.heard = ""  # the nonce of its newest question
        self.changed: OrderedDict[LogKey, None] = OrderedDict()
        self.repeats: OrderedDict[LogKey, Repeat] = OrderedDict()
        self.needs: OrderedDict[Need, None] = OrderedDict()
        self.needed: OrderedDict[Need, int] = OrderedDict()  # when it was said last
        self.docs: Docs = {}
        self.has_news = False  # of documents
        self.tick_us = 0  # changes not before
        self.free_us = -BURST * ANSWER_US  # answers: a bucket that fills up to BURST

    def wake_us(self) -> int | None:
        """When it has to be looked at next."""
        times = []
        if self.questions:
            times.append(self.free_us)
        if self.changed or self.has_news:
            times.append(self.tick_us)
        if self.repeats:
            times.append(max(self.tick_us, min(r.due_us for r in self.repeats.values())))
        times += [self.needed.get(need, -NEED_US) + NEED_US for need in self.needs]
        return min(times) if times else None


class Answers:
    """rx: the identity of the database. n: below all numbers that are to be given. signer: of every
    letter; None: they go unsigned.
    """

    def __init__(
        self, rx: str, *, n: int, dicts: tuple[str, ...], signer: Signer | None = None
    ) -> None:
        self._rx = rx
        self._n = n
        self._signer = signer
        self._can = edgecore.Can(versions=(VERSION,), dicts=dicts, codings=CODINGS)
        self._books: OrderedDict[LogKey, Log] = OrderedDict()
        self._addressees: OrderedDict[str, Addressee] = OrderedDict()
        self._doubles: Mapping[str, tuple[int, ...]] = {}

    def took(self, outcome: Outcome) -> None:
        """Something was committed."""
        for key, log in outcome.logs.items():
            _put(self._books, key, log, MAX_BOOKS)
        for carrier, keys in outcome.touched.items():
            one = self._addressee(carrier)
            one.docs = outcome.docs.get(carrier, one.docs)
            one.has_news |= carrier in outcome.fresh_docs
            for key in keys:
                one.repeats.pop(key, None)  # begins anew when it is told
                _put(one.changed, key, None, MAX_KEYS)
        for asked in outcome.asked:
            one = self._addressee(asked.carrier)
            one.questions.append((asked.nonce, asked.keys))
            one.heard = asked.nonce
        for carrier, need in outcome.needs:
            _put(self._addressee(carrier).needs, need, None, MAX_NEEDS)

    def remind(self, node: str, logs: Iterable[Log]) -> None:
        """A new life of a node is told what is still waited for; what it lacks it says."""
        for log in logs:
            _put(self._books, log.key, log, MAX_BOOKS)
            _put(self._addressee(node).changed, log.key, None, MAX_KEYS)

    def wake_us(self) -> int | None:
        """When `due` has something to say next; None: never."""
        times = [one.wake_us() for one in self._addressees.values()]
        return min((us for us in times if us is not None), default=None)

    def due(
        self, now_us: int, doubles: Mapping[str, tuple[int, ...]] | None = None
    ) -> list[Letter]:
        """What is to be said now. It is taken as said. doubles: epochs that share a name."""
        self._doubles = doubles or {}
        letters: list[Letter] = []
        for node, one in self._addressees.items():
            wake_us = one.wake_us()
            if wake_us is None or wake_us > now_us:
                continue
            said = self._answers(node, one, now_us)
            if one.tick_us <= now_us:
                said += self._news(node, one, now_us)
            said += _needs(node, one, now_us)
            letters += self._signed(said, one.heard) if self._signer is not None else said
        return letters

    def _signed(self, letters: Iterable[Letter], heard: str) -> list[Letter]:
        """heard: the newest question of that node. Before the first one no ack of ours would be
        believed: it would be as good as one that somebody kept.
        """
        assert self._signer is not None
        return [
            one._replace(payload=signed.sign(one.what, one.payload, self._signer, heard=heard))
            for one in letters
            if heard or one.what != "ack"
        ]

    def _addressee(self, node: str) -> Addressee:
        one = self._addressees.get(node) or Addressee()
        _put(self._addressees, node, one, MAX_ADDRESSEES)
        return one

    def _answers(self, node: str, one: Addressee, now_us: int) -> list[Letter]:
        letters: list[Letter] = []
        one.free_us = max(one.free_us, now_us - BURST * ANSWER_US)
        while one.questions and one.free_us <= now_us:
            one.free_us += ANSWER_US
            nonce, keys = one.questions.popleft()
            letters += self._write(node, one, keys, echo=nonce)
            self._said(one, keys, now_us)
        return letters

    def _news(self, node: str, one: Addressee, now_us: int) -> list[Letter]:
        due = [key for key, repeat in one.repeats.items() if repeat.due_us <= now_us]
        keys = [*one.changed, *(key for key in due if key not in one.changed)]
        if not keys and not one.has_news:
            return []
        letters: list[Letter] = []
        pages = self._pages(node, one, keys)
        for page in pages[:LETTERS_A_TICK]:
            letters.append(self._letter(node, one, page))
            self._said(one, [_key(said) for said in page], now_us)
        for key in keys:
            if key not in self._books:  # so long ago that nothing is known of it any more
                one.changed.pop(key, None)
                one.repeats.pop(key, None)
        one.has_news = False
        one.tick_us = now_us + TICK_US
        return letters

    def _said(self, one: Addressee, keys: Iterable[LogKey], now_us: int) -> None:
        for key in keys:
            one.changed.pop(key, None)
            log = self._books.get(key)
            before = one.repeats.pop(key, None)
            if log is None or log.floor > log.upto:
                continue
            if before is None:
                after = Repeat(now_us, now_us + FIRST_REPEAT_US, FIRST_REPEAT_US)
            elif before.due_us > now_us:
                after = before
            else:
                wait_us = min(2 * before.wait_us, LAST_REPEAT_US)
                after = Repeat(before.since_us, now_us + wait_us, wait_us)
            if after.due_us - after.since_us <= REPEATED_US:
                _put(one.repeats, key, after, MAX_KEYS)

    # ── the letters ───────────────────────────────────────────────────────────────────────────

    def _write(
        self, node: str, one: Addressee, keys: Iterable[LogKey], *, echo: str
    ) -> list[Letter]:
        pages = self._pages(node, one, keys)
        return [self._letter(node, one, page, echo=echo) for page in pages]

    def _pages(
        self, node: str, one: Addressee, keys: Iterable[LogKey]
    ) -> list[list[edgecore.LogAck]]:
        """What is to be said of these logs, cut into letters; at least one, which may be empty."""
        room = MAX_DOWN_BYTES - len(self._letter(node, one, [], echo="x" * 64).payload) - 32
        room -= signed.MAX_COST_BYTES if self._signer is not None else 0
        pages: list[list[edgecore.LogAck]] = [[]]
        left = room
        for log in (self._books[key] for key in keys if key in self._books):
            said = _said_of(log)
            size = len(edgecore_json(said)) + 1
            if size > left or len(pages[-1]) == MAX_LOGS:
                pages.append([])
                left = room
            pages[-1].append(said)
            left -= size
        return pages

    def _letter(
        self, node: str, one: Addressee, page: list[edgecore.LogAck], *, echo: str = ""
    ) -> Letter:
        self._n += 1
        ack = edgecore.Ack(
            schema=1, node=node, rx=self._rx, n=self._n, echo=echo, acks=tuple(page),
            docs=one.docs, can=self._can, epochs=self._doubles.get(node, ())[:MAX_EPOCHS],
        )  # fmt: skip
        return Letter(node, "ack", edgecore.encode(ack))


K = TypeVar("K")
V = TypeVar("V")

edgecore_json = msgspec.json.Encoder().encode


def _said_of(log: Log) -> edgecore.LogAck:
    node, stream, klass, epoch = log.key
    return edgecore.LogAck(
        node=node, stream=stream, klass=klass, epoch=epoch, upto=log.upto,
        have=log.have[:MAX_RANGES], lost=log.voided.lost,
    )  # fmt: skip


def _key(said: edgecore.LogAck) -> LogKey:
    return LogKey(said.node, said.stream, said.klass, said.epoch)


def _needs(node: str, one: Addressee, now_us: int) -> list[Letter]:
    """Those that were not said within the last second."""
    letters: list[Letter] = []
    for need in list(one.needs):
        if one.needed.get(need, -NEED_US) + NEED_US > now_us:
            continue
        del one.needs[need]
        _put(one.needed, need, now_us, MAX_NEEDS)
        said = msgspec.structs.replace(
            need,
            node=need.node or node,
            a=_bounded(need.a),
            b=max(_bounded(need.a), _bounded(need.b)),
        )
        letters.append(Letter(node, "need", edgecore_json(said)))
    return letters


def _bounded(seq: int) -> int:
    return min(max(seq, 0), MAX_SEQ)


def _put(kept: OrderedDict[K, V], key: K, value: V, most: int) -> None:
    """As the newest of at most so many."""
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > most:
        kept.popitem(last=False)
