"""Bytes of the wire made by hand: what the agent never writes, with checks that hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import zstandard

from edge_agent.core.frames import AnyRecord
from edge_agent.core.wire import armour, packing, records
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.codec import Codecs
from edge_agent.core.wire.cursor import MASK, signed, varint, varints, wrap, zigzag
from edge_agent.core.wire.envelope import short_id

Column = tuple[int, bytes]
NODE, STREAM, EPOCH = "cart-07", "probe-a", 5 << 32
LONG_BYTES = 4096
CLASSES = ("", "alarm", "event", "result", "telemetry")


class Vector(msgspec.Struct, kw_only=True):
    """rule: the row of section 11 that the last envelope (or bundle) ends by; "": values.

    brief: only the number of records is told.
    """

    name: str
    why: str
    payloads: list[bytes]
    rule: str = ""
    brief: bool = False


def numbered(given: Sequence[AnyRecord], first: int = 1) -> list[AnyRecord]:
    """As one log."""
    return [
        msgspec.structs.replace(record, node=NODE, stream=STREAM, epoch=EPOCH, seq=seq)
        for seq, record in enumerate(given, first)
    ]


def bundle(*contents: bytes, carrier: str = NODE) -> bytes:
    return f"ea1 {carrier} ".encode() + armour.arm(b"".join(contents))


class Forged(msgspec.Struct, kw_only=True):
    """An envelope field by field; lengths are those of the content unless said otherwise."""

    mark: bytes = b"EA"
    version: int = 1
    kind: int = 1
    codec: int = 0
    flags: int = 0
    node: bytes = NODE.encode()
    stream: bytes = STREAM.encode()
    klass: int = 2
    epoch: bytes = varint(EPOCH)
    first: bytes = varint(1)
    count: bytes = varint(1)
    raw_len: bytes | None = None
    ref: bytes = b""
    result: bytes = b""
    ext: bytes = b""
    ext_len: bytes | None = None
    body: bytes = b""
    body_len: bytes | None = None
    node_len: bytes | None = None
    check: bytes | None = None

    def bytes(self) -> bytes:
        def length(said: bytes | None, of: bytes) -> bytes:
            return varint(len(of)) if said is None else said

        sealed = b"".join((
            self.mark, bytes((self.version, self.kind, self.codec, self.flags)),
            length(self.node_len, self.node), self.node, varint(len(self.stream)), self.stream,
            bytes((self.klass,)), self.epoch, self.first, self.count,
            length(self.raw_len, self.body), self.ref, self.result,
            length(self.ext_len, self.ext), self.ext, length(self.body_len, self.body), self.body,
        ))  # fmt: skip
        return sealed + (short_id(sealed) if self.check is None else self.check)


def frame(raw: bytes, dictionary: Any = None, **other: Any) -> bytes:
    """A zstd frame without its magic number, as section 3 has it but for what is said."""
    settings = {
        "format": zstandard.FORMAT_ZSTD1_MAGICLESS, "write_checksum": True,
        "write_content_size": True, "write_dict_id": False, **other,
    }  # fmt: skip
    parameters = zstandard.ZstdCompressionParameters.from_level(9, **settings)
    worker = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
    return worker.compress(raw)


def head(
    number: int, rows: int, columns: Sequence[tuple[int, int]], groups: Sequence[int] = ()
) -> bytes:
    """Of one table; (field, coding) for each column."""
    said = varints([number, rows, len(groups), *groups, len(columns)])
    return said + b"".join(varint(field) + bytes((coding,)) for field, coding in columns)


def body(*tables: tuple[Any, ...]) -> bytes:
    """(number, rows, {field: (coding, bytes)}[, groups]) each."""
    heads, columns = b"", b""
    for number, rows, fields, *groups in tables:
        codings = [(field, coding) for field, (coding, _) in fields.items()]
        heads += head(number, rows, codings, *groups)
        columns += b"".join(payload for _, payload in fields.values())
    return varint(len(tables)) + heads + columns


def int_(value: int) -> Column:
    return 1, signed(value)


def text(value: str) -> Column:
    return 4, entry(value)


def entry(value: str) -> bytes:
    return varint(2 * len(value.encode())) + value.encode()


def kinds(*of: int) -> tuple[Any, ...]:
    """Table 1."""
    return 1, len(of), {1: int_(of[0]) if len({*of}) == 1 else (5, block(of))}


EVENT: Mapping[int, Column] = {3: text("hi")}


def event(raw: bytes | None = None, **other: Any) -> bytes:
    """An envelope of one event, with another body."""
    content = body(kinds(5), (19, 1, EVENT)) if raw is None else raw
    return Forged(**{"body": content, **other}).bytes()


def of_class(klass: str, count: int, *tables: tuple[Any, ...]) -> bytes:
    """An envelope of these tables; raw, or a frame when that would be long."""
    raw = body(*tables)
    is_long = len(raw) > LONG_BYTES
    return Forged(
        klass=CLASSES.index(klass), count=varint(count), codec=int(is_long),
        body=frame(raw) if is_long else raw, raw_len=varint(len(raw)),
    ).bytes()  # fmt: skip


def encoded(given: Sequence[AnyRecord], codec: int, dictionary: bytes = b"") -> bytes:
    """As the agent has them, in the codec that is said."""
    raw = records.raw_of(given)
    klass = CLASSES.index(given[0].klass.value)
    common: dict[str, Any] = {
        "klass": klass,
        "first": varint(given[0].seq),
        "count": varint(len(given)),
    }
    if codec == 0:
        return Forged(**common, body=raw).bytes()
    trained = zstandard.ZstdCompressionDict(dictionary) if codec == 2 else None
    ref = short_id(dictionary) if codec == 2 else b""
    return Forged(
        **common, codec=codec, ref=ref, raw_len=varint(len(raw)), body=frame(raw, trained)
    ).bytes()


def live(given: Sequence[AnyRecord], dictionary: bytes) -> bytes:
    """As the agent sends them."""
    codecs = Codecs([dictionary])
    codecs.allow(codecs.ids)
    return envelopes.encode(records.encode(given, codecs))


# ── blocks ────────────────────────────────────────────────────────────────────────────────────


def block(
    numbers: Sequence[int], transform: int = 0, how: int = 1, *, lag: int = 0, start: int = 0,
    slope: int = 0, offset: int = 0, unsigned: bool = False, centres: Sequence[int] = (),
    k: int = 2, width: int = 8,
) -> bytes:  # fmt: skip
    """Section 5, in the transform and packing that are said."""
    rest = _residuals(numbers, transform, lag, start, slope)
    if centres:
        rest = [r - centres[i // lag] for i, r in enumerate(rest)]
    rest = [wrap(r - offset) for r in rest]
    words = [r & MASK if unsigned else zigzag(r) for r in rest]
    mode = transform | how << 2 | 0x20 * bool(offset) | 0x40 * unsigned | 0x80 * bool(centres)
    return b"".join((
        bytes((mode,)), varint(lag) if transform == 3 else b"",
        signed(start) if transform else b"", signed(slope) if transform == 2 else b"",
        block(centres) if centres else b"", signed(offset) if offset else b"",
        _packed(words, how, k, width),
    ))  # fmt: skip


def _residuals(x: Sequence[int], transform: int, lag: int, start: int, slope: int) -> list[int]:
    if transform == 0:
        return list(x)
    steps = [b - a for a, b in zip([start, *x], x, strict=False)]
    if transform == 1:
        return steps
    if transform == 2:
        return [b - a for a, b in zip([slope, *steps], steps, strict=False)]
    return [steps[i] if i < lag else x[i] - x[i - lag] for i in range(len(x))]


def _packed(words: Sequence[int], how: int, k: int, width: int) -> bytes:
    array = np.array(words, np.uint64)
    if how == 0:
        assert not any(words)
        return b""
    if how == 1:
        return varints(list(words))
    if how == 2:
        return packing.pack_rice(array, k, max(words))
    if how == 3:
        return packing.pack_planes(array, width)
    turns = [i for i in range(len(words) - 1) if words[i] != words[i + 1]]
    return packing.pack_runs(array, turns)


def numbers_of(block_: bytes, count: int, coding: int = 5) -> bytes:
    """A bundle of one model_stats whose scores are this column."""
    stats = {7: int_(count), 8: (2, b"\x00\x00"), 9: (2, b"\x00\x00")}
    return bundle(
        of_class("telemetry", 1, kinds(2), (15, 1, stats), (16, count, {1: (coding, block_)}))
    )
