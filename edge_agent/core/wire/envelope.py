"""The envelope: what a body is, whose it is, and a check over all of it.

    "EA" version kind codec flags node stream class epoch first count raw_len [ref] [result]
    ext_len ext body_len body check

`docs/wire.md` draws the bytes. An envelope says by itself where it belongs, so that it may be
stored, carried by a peer and delivered twice without anybody having to open its body.
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec
import xxhash

from edge_agent.core.frames import RecordClass
from edge_agent.core.wire.cursor import Reader, text, varint
from edge_agent.core.wire.outcome import Need, WireError

MAGIC: Final = b"EA"
VERSION: Final = 1
MAX_COUNT: Final = 4096
MAX_RAW_BYTES: Final = 1 << 20
MAX_BODY_BYTES: Final = MAX_RAW_BYTES  # a body is never longer than what it holds
MAX_EXT_BYTES: Final = 4096
MAX_NAME_BYTES: Final = 63
SUITE: Final = b"\1"  # of seals and signatures: the only one so far
TAG_BYTES: Final = 16  # by which a sealed body is longer
MAX_SEQ: Final = (1 << 40) - 1  # of a record
ID_BYTES: Final = 8
NO_ID: Final = b""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class Kind(enum.IntEnum):
    """What the body is."""

    RECORDS = 1
    DOCUMENT = 2
    PROBE = 3
    FRAMES = 4
    MODEL = 5


class Codec(enum.IntEnum):
    """How the body came out of the raw bytes."""

    RAW = 0
    ZSTD = 1
    ZSTD_DICT = 2  # ref names the dictionary
    P = 3  # zstd behind the base as prefix; ref names the base, result what comes out
    R = 4  # residual of typed arrays against the base; ref and result as in P


class Ext(enum.IntEnum):
    """Types of extensions. Even ones must be understood, odd ones may be skipped."""

    SEAL = 2  # suite u8, id of the receiver's key, ephemeral X25519 key; see `sealing`
    SIGNATURE = 4  # suite u8, id of the node's key, Ed25519 signature; the last of all


_EXT_BYTES: Final = {Ext.SEAL: 1 + 8 + 32, Ext.SIGNATURE: 1 + 8 + 64}


_WITH_REF = frozenset({Codec.ZSTD_DICT, Codec.P, Codec.R})
_WITH_RESULT = frozenset({Codec.P, Codec.R})
_ALLOWED = {
    Kind.RECORDS: {Codec.RAW, Codec.ZSTD, Codec.ZSTD_DICT},
    Kind.DOCUMENT: {Codec.RAW, Codec.ZSTD, Codec.ZSTD_DICT, Codec.P},
    Kind.PROBE: {Codec.RAW, Codec.ZSTD, Codec.ZSTD_DICT},
    Kind.FRAMES: set(Codec),
    Kind.MODEL: set(Codec),
}
_CLASSES: tuple[RecordClass | None, ...] = (None, *RecordClass)  # the byte is the index


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One envelope, opened or yet to be written.

    node: the origin, never the carrier. stream: of the records, or the document's name, or "".
    klass: None where there are no records. first, count: seqs first ... first + count - 1.
    raw_len: bytes of the body before its codec. ref, result: 8 bytes, or b"" without.
    ext: (type, value) in the order of the bytes.
    """

    kind: Kind
    codec: Codec
    node: str
    stream: str = ""
    klass: RecordClass | None = None
    epoch: int = 0
    first: int = 0
    count: int = 0
    raw_len: int
    ref: bytes = NO_ID
    result: bytes = NO_ID
    ext: tuple[tuple[int, bytes], ...] = ()
    body: bytes

    @property
    def last(self) -> int:
        """The highest seq of a records envelope."""
        return self.first + self.count - 1

    @property
    def is_sealed(self) -> bool:
        """The body is for the holder of a key alone; everything before it can be read."""
        return any(kind == Ext.SEAL for kind, _ in self.ext)

    def extension(self, kind: Ext) -> bytes:
        """Its value; b"" without."""
        return next((value for one, value in self.ext if one == kind), b"")

    @property
    def name(self) -> str:
        """What `Need` calls it."""
        return f"{self.stream}/{self.klass.value}" if self.klass else self.stream


def need(envelope: Envelope, why: str, have: tuple[str, ...] = ()) -> Need:
    """The answer to an envelope that is whole but cannot be opened here."""
    return msgspec.convert(
        {
            "node": envelope.node,
            "kind": envelope.kind.name.lower(),
            "name": envelope.name,
            "epoch": envelope.epoch,
            "a": envelope.first,
            "b": max(envelope.first, envelope.last),
            "why": why,
            "have": have[:8],
        },
        Need,
    )


def short_id(content: bytes) -> bytes:
    """The 8 bytes that name a dictionary, a base or a result: xxh3_64, big-endian."""
    return xxhash.xxh3_64_digest(content)


def encode(envelope: Envelope) -> bytes:
    """Raises ValueError for an envelope that no decoder would take."""
    sealed = unchecked(envelope)
    return sealed + short_id(sealed)


def head(envelope: Envelope) -> bytes:
    """The bytes in front of ext_len: what a seal is bound to. An envelope has one spelling, so
    that of a decoded one is what came.
    """
    names = text(envelope.node) + text(envelope.stream) + bytes((_CLASSES.index(envelope.klass),))
    numbers = (envelope.epoch, envelope.first, envelope.count, envelope.raw_len)
    mark = MAGIC + bytes((VERSION, envelope.kind, envelope.codec, 0))
    return b"".join((mark, names, *map(varint, numbers), envelope.ref, envelope.result))


def unchecked(envelope: Envelope) -> bytes:
    """All but the check: what a signature is made of. Raises ValueError as `encode`."""
    fault = _fault(envelope)
    if fault:
        raise ValueError(f"encode envelope of {envelope.node!r}: {fault}")
    ext = b"".join(varint(kind) + varint(len(value)) + value for kind, value in envelope.ext)
    size = varint(len(envelope.body))
    return b"".join((head(envelope), varint(len(ext)), ext, size, envelope.body))


def _fault(envelope: Envelope) -> str:
    """What breaks the rules of an envelope, in words; "" when nothing does."""
    holds = _holds(envelope)
    if all(holds):
        return ""
    rules = (
        f"codec {envelope.codec.name} for {envelope.kind.name}",
        f"node {envelope.node!r}",
        f"stream {envelope.stream!r}",
        f"class {envelope.klass} for {envelope.kind.name}",
        f"count {envelope.count}",
        f"first {envelope.first}",
        f"epoch {envelope.epoch}",
        f"raw_len {envelope.raw_len}",
        f"ref of {len(envelope.ref)} bytes",
        f"result of {len(envelope.result)} bytes",
        f"body of {len(envelope.body)} bytes",
        "a raw body of another length than raw_len",
        "extensions: a seal or a signature twice, cut short, or a signature that is not the last",
    )
    return ", ".join(f"bad {what}" for what, good in zip(rules, holds, strict=True) if not good)


def _holds(envelope: Envelope) -> tuple[bool, ...]:
    """Which rules hold, in the order in which `_fault` tells them."""
    codec, count, first = envelope.codec, envelope.count, envelope.first
    records = envelope.kind is Kind.RECORDS
    return (
        codec in _ALLOWED[envelope.kind],
        _NAME.fullmatch(envelope.node) is not None,
        not envelope.stream or _NAME.fullmatch(envelope.stream) is not None,
        (envelope.klass is not None) == records,
        count <= MAX_COUNT and (count > 0 or not records),
        0 < first <= MAX_SEQ + 1 - count if records else first + count < 1 << 63,
        envelope.epoch < 1 << 63,
        envelope.raw_len <= MAX_RAW_BYTES,
        len(envelope.ref) == ID_BYTES * (codec in _WITH_REF),
        len(envelope.result) == ID_BYTES * (codec in _WITH_RESULT),
        len(envelope.body) <= MAX_BODY_BYTES,
        codec is not Codec.RAW or _is_as_long(envelope),
        _are_in_order(envelope.ext),
    )


def _is_as_long(envelope: Envelope) -> bool:
    """Whether a raw body has the length that the head tells."""
    seal = envelope.extension(Ext.SEAL)
    if seal[:1] not in (b"", SUITE):
        return True  # whoever knows that suite can tell
    return len(envelope.body) == envelope.raw_len + (TAG_BYTES if seal else 0)


def _are_in_order(ext: tuple[tuple[int, bytes], ...]) -> bool:
    if not ext:
        return True
    kinds = [kind for kind, _ in ext]
    once = all(kinds.count(kind) <= 1 for kind in _EXT_BYTES)
    is_last = Ext.SIGNATURE not in kinds[:-1]
    whole = all(
        (value[:1] not in (b"", SUITE)) or len(value) == _EXT_BYTES[Ext(kind)]
        for kind, value in ext
        if kind in _KNOWN
    )
    return once and is_last and whole


def _is_understood(kind: int, value: bytes) -> bool:
    return kind % 2 == 1 or (kind in _KNOWN and value[:1] == SUITE)


_KNOWN: Final = frozenset(int(kind) for kind in _EXT_BYTES)


def decode(given: bytes, at: int = 0) -> tuple[Envelope | Need, int]:
    """The envelope that begins at byte `at`, and where the next one begins.

    `Need` says that a newer agent made it: its own version (then nothing behind it can be found
    either, and `next` is the end), something that it declares as essential, or a reserved kind.
    Raises: WireError.
    """
    read = Reader(given, "envelope", at)
    if read.take(2) != MAGIC:
        raise read.fail("the mark EA", given[at : at + 2].hex())
    version = read.u8()
    if version != VERSION:
        return _newer(), len(given)
    kind, codec, flags = read.u8(), read.u8(), read.u8()
    node, stream, klass = read.text(MAX_NAME_BYTES), read.text(MAX_NAME_BYTES), read.u8()
    epoch, first = read.varint((1 << 63) - 1), read.varint((1 << 63) - 1)
    count, raw_len = read.varint(MAX_COUNT), read.varint(MAX_RAW_BYTES)
    ref = read.take(ID_BYTES) if codec in _WITH_REF else NO_ID
    result = read.take(ID_BYTES) if codec in _WITH_RESULT else NO_ID
    ext = read.take(read.varint(MAX_EXT_BYTES))
    body = read.take(read.varint(MAX_BODY_BYTES))
    sealed = given[at : read.at]
    if read.take(ID_BYTES) != short_id(sealed):
        raise read.fail("the check of these bytes", "another one: damaged on the way")
    known = kind in _KINDS and codec in _CODECS and klass < len(_CLASSES)
    if flags or not known:
        last = max(first, first + count - 1)
        return _newer(_named(node), _named(stream), epoch=epoch, a=first, b=last), read.at
    envelope = Envelope(
        kind=Kind(kind),
        codec=Codec(codec),
        node=node,
        stream=stream,
        klass=_CLASSES[klass],
        epoch=epoch,
        first=first,
        count=count,
        raw_len=raw_len,
        ref=ref,
        result=result,
        ext=_extensions(ext),
        body=body,
    )
    fault = _fault(envelope)
    if fault:
        raise WireError(f"decode envelope of {node!r}: {fault}")
    if kind in _RESERVED or not all(_is_understood(*one) for one in envelope.ext):
        return need(envelope, "version"), read.at
    return envelope, read.at


_KINDS = frozenset(int(kind) for kind in Kind)
_RESERVED = frozenset({Kind.FRAMES, Kind.MODEL})  # what they hold is not settled
_CODECS = frozenset(int(codec) for codec in Codec)


def _named(text: str) -> str:
    """What is no name is not repeated to anybody."""
    return text if _NAME.fullmatch(text) else ""


def _newer(node: str = "", name: str = "", *, epoch: int = 0, a: int = 0, b: int = 0) -> Need:
    return Need(node=node, kind="", name=name, epoch=epoch, a=a, b=b, why="version")


def _extensions(given: bytes) -> tuple[tuple[int, bytes], ...]:
    read = Reader(given, "extensions")
    found = []
    while read.left:
        kind = read.varint()
        found.append((kind, read.take(read.varint(MAX_EXT_BYTES))))
    return tuple(found)
