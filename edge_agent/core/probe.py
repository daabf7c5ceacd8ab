"""What the edge offers: the question that every acknowledgement answers.

    {"schema":1,"nonce","logs":[{node,stream,class,epoch,floor,next,closed,void:[[a,b,why]]}],"more"}

`floor` is the lowest seq still offered; below it, and in `void`, a receiver waits for nothing and
books the reason. `closed`: no seq from `next` on will ever come. `more`: further logs follow in
another probe. `via`, where it is there: what KubeEdge calls the machine, by which it is answered.
It travels as an envelope of its own kind, beside records or alone.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edge_agent.core.edgecore import MAX_SEQ, Counter, Name, Seq, StreamName, Token
from edge_agent.core.frames import RecordClass
from edge_agent.core.kubeedge import OptionalNode
from edge_agent.core.logbook import MAX_RANGES, Log, LogKey
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import Envelope, Kind
from edge_agent.core.wire.outcome import Need, WireError

SCHEMA: Final = 1
MAX_LOGS: Final = 64
MAX_SHOWN: Final = 200  # characters of what the decoder says, which quotes values
MAX_PAGE_VOIDS: Final = 512  # of all logs of one probe: some 15 kB

Why = Annotated[str, Meta(pattern="^[a-z-]{1,32}$(?!\\n)")]  # `$` alone lets a line end pass
Voids = Annotated[tuple[tuple[Seq, Seq, Why], ...], Meta(max_length=MAX_RANGES)]


class Offer(msgspec.Struct, frozen=True, kw_only=True, rename={"klass": "class"}):
    """One log: seqs floor … next - 1 are offered, but for those in `void`."""

    node: Name
    stream: StreamName
    klass: RecordClass
    epoch: Counter
    floor: Counter
    next: Counter
    closed: bool = False
    void: Voids = ()

    @property
    def key(self) -> LogKey:
        return LogKey(self.node, self.stream, self.klass, self.epoch)


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """nonce: not to be guessed; an answer that echoes it was made after it was asked.

    via: only where KubeEdge's name of the machine is not that of the node.
    """

    schema: Annotated[int, Meta(ge=1, le=1)] = SCHEMA
    nonce: Token
    logs: Annotated[tuple[Offer, ...], Meta(max_length=MAX_LOGS)] = ()
    more: bool = False
    via: OptionalNode | UnsetType = UNSET


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Probe)


def offer_of(log: Log, *, closed: bool) -> Offer:
    node, stream, klass, epoch = log.key
    return Offer(
        node=node, stream=stream, klass=klass, epoch=epoch,
        floor=log.floor, next=log.next, closed=closed, void=log.void,
    )  # fmt: skip


def encode(node: str, probe: Probe, codecs: Codecs) -> Envelope:
    raw = _encoder.encode(probe)
    codec, ref, body = codecs.squeeze(raw)
    return Envelope(
        kind=Kind.PROBE, codec=codec, node=node, raw_len=len(raw), ref=ref, body=body
    )  # fmt: skip


def decode(envelope: Envelope, codecs: Codecs) -> Probe | Need:
    """The receiver's half. Only the origin speaks of a log: others' are refused.

    Raises: WireError.
    """
    if envelope.kind is not Kind.PROBE:
        raise WireError(f"decode probe: expected a probe, got {envelope.kind.name}")
    raw = codecs.expand(envelope)
    if isinstance(raw, Need):
        return raw
    try:
        raw.decode()  # what is skipped has to be text all the same
        probe = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"decode probe of {envelope.node}: {str(error)[:MAX_SHOWN]}") from None
    for offer in probe.logs:
        fault = _fault(offer, envelope.node)
        if fault:
            raise WireError(f"decode probe of {envelope.node}: {offer.stream}: expected {fault}")
    return probe


def _fault(offer: Offer, node: str) -> str:
    if offer.node != node:
        return f"a log of that node, got {offer.node}"
    if not 1 <= offer.floor <= offer.next <= MAX_SEQ + 1:
        return f"1 <= floor <= next <= 2**40, got {offer.floor} and {offer.next}"
    if any(not 1 <= a <= b < offer.next for a, b, _ in offer.void):
        return f"void ranges from 1 to {offer.next - 1}, got others"
    return ""
