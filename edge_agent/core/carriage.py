"""Records carried by hand: the file that takes them away, the receiver's word that comes back.

An export is text, one bundle a line (`docs/wire.md`, section 2): all records, then the probes of
the carrier, which seal it: a file whose last line is no probe was cut off. What comes back is JSON,
one acknowledgement a line, as on `down/ack`. It echoes the nonce of the probe, which proves itself:
it can only have come from an export of this very state directory, however long ago.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

from edge_agent.core import probe as probes
from edge_agent.core import signed
from edge_agent.core.edgecore import Ack, Topics, read
from edge_agent.core.errors import Overloaded, Rejected, Untrusted
from edge_agent.core.frames import AnyRecord, unpack
from edge_agent.core.logbook import Log, LogKey
from edge_agent.core.probe import MAX_LOGS, MAX_PAGE_VOIDS, Offer, Probe, offer_of
from edge_agent.core.wire import armour, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.bounds import MAX_BUNDLE_BYTES
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope, Kind
from edge_agent.core.wire.sealing import Verifier

MAX_ACK_FILE_BYTES: Final = 8 << 20  # 256 acknowledgements of the largest size
MAX_RUN: Final = 300  # records of an envelope
RANDOM_BYTES: Final = 12
MAC_BYTES: Final = 16
Encode = Callable[[Envelope], bytes]  # sealed and signed, where that is wanted
_PURPOSE: Final = b"edge-agent export 1 "


class Packed(msgspec.Struct, frozen=True):
    """bundles: lines without their ends. unfit: records that nobody could send."""

    bundles: list[bytes]
    records: int
    unfit: int


class Line(msgspec.Struct, frozen=True):
    """What a line of an export holds. is_seal: nothing but probes, so that it may be the last."""

    records: int
    is_seal: bool


# ── away ──────────────────────────────────────────────────────────────────────────────────────


def pack_rows(
    carrier: str,
    key: LogKey,
    rows: Sequence[tuple[int, bytes]],
    codecs: Codecs,
    *,
    encode: Encode = envelopes.encode,
) -> Packed:
    """(seq, MessagePack) of one log, rising, gaps allowed: in as few bundles as hold them."""
    room = armour.room_bytes(carrier)
    runs = _runs(key, rows)
    found = [one for run in runs for one in _fitting(run, codecs, room, encode)]
    held = sum(one.records for one in found)
    return Packed(list(_bundles(carrier, found, room)), held, len(rows) - held)


def seal(
    carrier: str,
    logs: Iterable[Log],
    *,
    epoch: int,
    nonce: str,
    codecs: Codecs,
    encode: Encode = envelopes.encode,
) -> list[bytes]:
    """The probes of the carrier's own logs, a bundle each: at least one."""
    own = [log for log in logs if log.key.node == carrier]
    pages = list(_pages([offer_of(log, closed=log.key.epoch != epoch) for log in own]))
    asked = [
        Probe(nonce=nonce, logs=page, more=number < len(pages))
        for number, page in enumerate(pages, 1)
    ]
    return [
        armour.pack(carrier, [encode(probes.encode(carrier, probe, codecs))]) for probe in asked
    ]


def look(line: bytes) -> Line:
    """Raises: WireError."""
    contents = armour.unpack(line).contents
    known = [one for one in contents if isinstance(one, Envelope)]
    is_seal = len(known) == len(contents) and all(one.kind is Kind.PROBE for one in known)
    return Line(sum(one.count for one in known if one.kind is Kind.RECORDS), is_seal)


def _runs(key: LogKey, rows: Iterable[tuple[int, bytes]]) -> Iterator[list[AnyRecord]]:
    """Consecutive seqs together; what is no record of this log is left out."""
    run: list[AnyRecord] = []
    for seq, body in rows:
        try:
            record = unpack(body)
        except msgspec.MsgspecError:
            continue
        if (record.node, record.stream, record.klass, record.epoch, record.seq) != (*key, seq):
            continue
        if run and (run[-1].seq != seq - 1 or len(run) == MAX_RUN):
            yield run
            run = []
        run.append(record)
    if run:
        yield run


class _Encoded(NamedTuple):
    """One envelope. weight: bytes that its records are at most, decoded."""

    content: bytes
    records: int
    weight: int


def _fitting(run: Sequence[AnyRecord], codecs: Codecs, room: int, encode: Encode) -> list[_Encoded]:
    """Halves where one envelope would not go into a bundle; a single record that does not, or that
    cannot be said, is left out.
    """
    with suppress(Overloaded, ValueError):
        envelope, weight = records.encode_weighed(run, codecs)
        encoded = encode(envelope)
        if len(encoded) <= room:
            return [_Encoded(encoded, len(run), weight)]
    half = len(run) // 2
    parts = (run[:half], run[half:]) if half else ()
    return [one for part in parts for one in _fitting(part, codecs, room, encode)]


def _bundles(carrier: str, contents: Iterable[_Encoded], room: int) -> Iterator[bytes]:
    waiting: list[bytes] = []
    weighed = 0
    for content, _, weight in contents:
        size = sum(map(len, waiting)) + len(content)
        full = len(waiting) == armour.MAX_ENVELOPES or weighed + weight > MAX_BUNDLE_BYTES
        if waiting and (size > room or full):
            yield armour.pack(carrier, waiting)
            waiting, weighed = [], 0
        weighed += weight
        waiting.append(content)
    if waiting:
        yield armour.pack(carrier, waiting)


def _pages(offers: Iterable[Offer]) -> Iterator[tuple[Offer, ...]]:
    page: list[Offer] = []
    for offer in offers:
        voids = sum(len(one.void) for one in page)
        if len(page) == MAX_LOGS or voids >= MAX_PAGE_VOIDS:
            yield tuple(page)
            page = []
        page.append(offer)
    yield tuple(page)


# ── and back ──────────────────────────────────────────────────────────────────────────────────


def read_acks(
    node: str, content: bytes, secret: bytes, verifier: Verifier | None = None
) -> list[Ack]:
    """All acknowledgements of a file, or none. verifier: of the hot tier, where its keys are
    pinned.

    Raises: Rejected with the number of the line.
    """
    if len(content) > MAX_ACK_FILE_BYTES:
        raise Rejected(f"read acks: expected at most {MAX_ACK_FILE_BYTES} B, got {len(content)} B")
    topics = Topics.of("default", node)
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            if verifier is not None:
                signed.check("ack", line, verifier)
            ack = read(topics, topics.down("ack"), line)
        except Untrusted as error:
            raise Rejected(f"read acks: line {number}: {error.what}", hint=_UNSIGNED) from None
        except Rejected as error:
            raise Rejected(f"read acks: line {number}: {error.what}", hint=_WRITTEN_BY) from None
        assert isinstance(ack, Ack)
        if not is_ours(ack.echo, node, secret):
            echo = ack.echo or "no nonce"
            raise Rejected(
                f"read acks: line {number}: expected the answer to an export of this agent, got "
                f"{echo}",
                hint="export again, receive that file, and import what it answers",
            )
        found.append(ack)
    if not found:
        raise Rejected("read acks: expected acknowledgements, got none", hint=_WRITTEN_BY)
    return found


_UNSIGNED: Final = (
    "import it at the hot tier with --uplink-keys; is uplink.hot_tier_keys its newest file?"
)
_WRITTEN_BY: Final = "expected the file that the hot tier wrote for an export"


def mint(node: str, secret: bytes, random: bytes) -> str:
    """A nonce that `is_ours` knows again. random: `RANDOM_BYTES` fresh ones."""
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"mint nonce: expected {RANDOM_BYTES} B, got {len(random)} B")
    return "x" + base64.urlsafe_b64encode(random + _mac(node, secret, random)).decode().rstrip("=")


def is_ours(nonce: str, node: str, secret: bytes) -> bool:
    """Whether an export with this secret carried it."""
    try:
        given = base64.b64decode(nonce[1:] + "=" * (-(len(nonce) - 1) % 4), b"-_", validate=True)
    except ValueError:
        return False
    random, mac = given[:RANDOM_BYTES], given[RANDOM_BYTES:]
    return nonce[:1] == "x" and hmac.compare_digest(mac, _mac(node, secret, random))


def _mac(node: str, secret: bytes, random: bytes) -> bytes:
    said = _PURPOSE + node.encode() + b" " + random
    return hmac.new(secret, said, hashlib.sha256).digest()[:MAC_BYTES]
