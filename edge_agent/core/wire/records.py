"""A batch of records of one log in an envelope, and back: exactly, field by field.

A batch stands for itself: it needs no other batch, at most a dictionary that the receiver has.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.core.errors import Overloaded
from edge_agent.core.frames import AnyRecord
from edge_agent.core.wire import bounds, flatten, rebuild, schema, tables
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.envelope import MAX_COUNT, MAX_RAW_BYTES, Codec, Envelope, Kind, need
from edge_agent.core.wire.grids import Grids
from edge_agent.core.wire.outcome import Need, Newer, WireError


def encode(records: Sequence[AnyRecord], codecs: Codecs) -> Envelope:
    """One envelope of records with consecutive seqs of one log.

    Raises: Overloaded when they do not fit into one: halve them. ValueError when they are not
    such records, or hold what is never sent: numbers that are not finite.
    """
    return encode_weighed(records, codecs)[0]


def encode_weighed(records: Sequence[AnyRecord], codecs: Codecs) -> tuple[Envelope, int]:
    """As `encode`, and the bytes that they are at most, decoded (`bounds`)."""
    _check(records)
    first = records[0]
    weight = _weighed(records)
    raw = raw_of(records, codecs.grids)
    codec, ref, body = codecs.squeeze(raw)
    envelope = Envelope(
        kind=Kind.RECORDS,
        codec=codec,
        node=first.node,
        stream=first.stream,
        klass=first.klass,
        epoch=first.epoch,
        first=first.seq,
        count=len(records),
        raw_len=len(raw),
        ref=ref,
        body=body,
    )
    return envelope, weight


def _weighed(records: Sequence[AnyRecord]) -> int:
    """No less than their bytes decoded. Raises: Overloaded beyond the bounds."""
    weight = bounds.at_most(records)
    if weight > bounds.MAX_RECORD_BYTES:
        fault = bounds.fault(records)
        if fault:
            raise Overloaded(f"encode records: expected {fault}", hint="encode them in halves")
    return min(weight, bounds.MAX_BATCH_BYTES)


def encode_all(records: Sequence[AnyRecord], codecs: Codecs) -> list[Envelope]:
    """As few envelopes as hold them: halves where one would be too large.

    Raises: Overloaded for a single record beyond the bounds of an envelope; ValueError.
    """
    try:
        return [encode(records, codecs)]
    except Overloaded:
        if len(records) == 1:
            raise
    half = len(records) // 2
    return encode_all(records[:half], codecs) + encode_all(records[half:], codecs)


def raw_of(records: Sequence[AnyRecord], grids: Grids | None = None) -> bytes:
    """The body before its codec. grids: where contours may be steps. Raises: Overloaded."""
    found = flatten.tables_of(records, grids)
    large = [table.number for table in found if table.rows > schema.KNOWN[table.number].most]
    raw = b"" if large else tables.encode(found)
    if large or len(raw) > MAX_RAW_BYTES or len(records) > MAX_COUNT:
        raise Overloaded(
            f"encode records: expected at most {MAX_COUNT} records in {MAX_RAW_BYTES} bytes, "
            f"got {len(records)} in {len(raw)}, too many rows in tables {large}",
            hint="encode them in halves",
        )
    return raw


def _check(records: Sequence[AnyRecord]) -> None:
    if not records:
        raise ValueError("encode records: expected at least one, got none")
    first = records[0]
    log = (first.node, first.stream, first.klass, first.epoch)
    for seq, record in enumerate(records, first.seq):
        if (record.node, record.stream, record.klass, record.epoch) != log or record.seq != seq:
            raise ValueError(
                f"encode records: expected seq {seq} of log {log}, got seq {record.seq} of "
                f"{(record.node, record.stream, record.klass, record.epoch)}"
            )


def decode(
    envelope: Envelope, codecs: Codecs, budget: bounds.Budget | None = None
) -> tuple[AnyRecord, ...] | Need:
    """The records with their ids, or what is missing to read them. budget: of the bundle.

    Raises: WireError.
    """
    if envelope.kind is not Kind.RECORDS or envelope.codec in (Codec.P, Codec.R):
        raise WireError(
            f"decode records: expected an envelope of records, got {envelope.kind.name} "
            f"{envelope.codec.name}"
        )
    raw = codecs.expand(envelope)
    if isinstance(raw, Need):
        return raw
    try:
        body = tables.decode(raw, schema.KNOWN, budget)
        found = rebuild.records_of(body.tables, envelope)
    except Newer:
        return need(envelope, "version")
    # No value is larger than itself and the longest text, so most batches need no closer look.
    most = body.values * (bounds.VALUE_BYTES + body.longest)
    fault = bounds.fault(found) if most > bounds.MAX_RECORD_BYTES else ""
    if fault:
        raise WireError(f"decode records: expected {fault}")
    return found
