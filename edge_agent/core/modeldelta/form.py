"""The bytes of a delta, read and written: docs/model-delta.md draws them.

Every length is checked against what is there before anything is made of it. The check at the end
finds damage at once; it is no defence, for whoever forges a delta can compute it. Against them
stand the bounds here and the hash of the result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, cast

import msgspec
import xxhash
import zstandard

from edge_agent.core.errors import Rejected
from edge_agent.core.modeldelta.lanes import WIDTH, Form, Kind
from edge_agent.core.wire.cursor import Reader, signed, varint
from edge_agent.core.wire.outcome import WireError

MAGIC: Final = b"EAD\x01"  # the last byte is the version
ID_BYTES: Final = 32
CHECK_BYTES: Final = 8
NO_BASE: Final = bytes(ID_BYTES)
MAX_RESULT_BYTES: Final = 1 << 36
MAX_SPANS: Final = 1 << 17
MAX_LANES: Final = 1 << 14
MAX_LANE_ITEMS: Final = 1 << 20
MAX_SPANS_BYTES: Final = MAX_SPANS * 8
MAX_PRIMER_BYTES: Final = 1 << 24  # of the base, in front of the rest
MAX_WINDOW_BYTES: Final = 1 << 25
HINT: Final = "fetch the whole package"


class Span(msgspec.Struct, frozen=True):
    """`size` bytes of the result at `at`. lane: 0 copies them from the base, n is the nth lane.

    base_at: where they come from, or what is added to; -1 in a lane without base.
    """

    at: int
    size: int
    lane: int
    base_at: int


class Lane(msgspec.Struct, frozen=True):
    kind: Kind
    form: Form

    @property
    def width(self) -> int:
        return WIDTH[self.kind]

    @property
    def planes(self) -> int:
        """How many planes it is written as."""
        return 1 if self.form is Form.SNAPPED else self.width


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a delta says of itself. base, result: sha256 as hex; base "": it needs none."""

    base: str
    result: str
    base_bytes: int
    result_bytes: int
    delta_bytes: int
    lanes: tuple[Lane, ...]

    @property
    def mode(self) -> str:
        """plain, prefix, residual or snapped: the most that it does."""
        forms = {lane.form for lane in self.lanes}
        if not self.base:
            return "plain"
        if Form.SNAPPED in forms:
            return "snapped"
        return "residual" if Form.RESIDUAL in forms else "prefix"


def sealed(content: bytes) -> bytes:
    return content + xxhash.xxh3_64_digest(content)


def write_header(base: bytes, new: bytes, lanes: list[Lane], *, needs_base: bool) -> bytes:
    return b"".join(
        (
            MAGIC,
            hashlib.sha256(base).digest() if needs_base else NO_BASE,
            hashlib.sha256(new).digest(),
            varint(len(base) if needs_base else 0),
            varint(len(new)),
            varint(len(lanes)),
            *(bytes((lane.kind, lane.form)) for lane in lanes),
        )
    )


def read_header(delta: bytes) -> tuple[Header, Reader]:
    """The header, and a reader that stands behind it and ends before the check.

    Raises: WireError.
    """
    body = memoryview(delta)[:-CHECK_BYTES]
    read = Reader(cast("bytes", body), "model delta")  # what it takes are views, not copies
    mark = read.take(len(MAGIC))
    if mark[:3] != MAGIC[:3]:
        raise read.fail("the mark EAD", mark.hex())
    if mark != MAGIC:
        raise WireError(
            f"decode model delta: expected version {MAGIC[3]}, got {mark[3]}", hint=HINT
        )
    if xxhash.xxh3_64_digest(body) != delta[-CHECK_BYTES:]:
        raise read.fail("the check of these bytes", "another one: damaged or cut short")
    base, result = read.take(ID_BYTES), read.take(ID_BYTES)
    sizes = read.varint(MAX_RESULT_BYTES), read.varint(MAX_RESULT_BYTES)
    lanes = tuple(_lane(read) for _ in range(read.varint(MAX_LANES)))
    if base == NO_BASE and (sizes[0] or any(lane.form is not Form.PLAIN for lane in lanes)):
        raise read.fail("the name of a base", "none")
    header = Header(
        base="" if base == NO_BASE else base.hex(),
        result=result.hex(),
        base_bytes=sizes[0],
        result_bytes=sizes[1],
        delta_bytes=len(delta),
        lanes=lanes,
    )
    return header, read


def _lane(read: Reader) -> Lane:
    try:
        lane = Lane(Kind(read.u8()), Form(read.u8()))
    except ValueError as error:
        raise read.fail("a kind and a form of a lane", error) from None
    if lane.form is Form.SNAPPED and lane.kind not in (Kind.F16, Kind.F32):
        raise read.fail("a snapped lane of 16 or 32-bit floats", lane.kind.name)
    return lane


def write_spans(spans: list[Span]) -> bytes:
    """Gap, size, lane; where in the base, as the distance from where it is if nothing moved."""
    out = []
    at = base_at = 0
    for span in spans:
        gap = span.at - at
        out += [varint(gap), varint(span.size), varint(span.lane)]
        at = span.at + span.size
        if span.base_at >= 0:
            out.append(signed(span.base_at - base_at - gap))
            base_at = span.base_at + span.size
        else:
            base_at += gap + span.size
    raw = b"".join(out)
    return varint(len(spans)) + varint(len(raw)) + counted(squeeze(raw, 19))


def read_spans(read: Reader, header: Header) -> list[Span]:
    """In order, disjoint, inside base and result; of whole numbers; no lane larger than its bound.

    Raises: WireError.
    """
    count, size = read.varint(MAX_SPANS), read.varint(MAX_SPANS_BYTES)
    table = Reader(unzstd(read.take(read.varint()), size), "spans of a model delta")
    found = []
    items = [0] * len(header.lanes)
    at = base_at = 0
    for _ in range(count):
        gap = table.varint(header.result_bytes - at)
        size = table.varint(header.result_bytes - at - gap)
        number = table.varint(len(header.lanes))
        lane = header.lanes[number - 1] if number else None
        at, base_at = at + gap, base_at + gap
        based = lane is None or lane.form is not Form.PLAIN
        if based:
            base_at += table.signed()
        if based and not 0 <= base_at <= header.base_bytes - size:
            raise table.fail(f"a span inside {header.base_bytes} bytes", base_at)
        if lane:
            items[number - 1] += size // lane.width
            _bound(table, size % lane.width, items[number - 1])
        found.append(Span(at, size, number, base_at if based else -1))
        at, base_at = at + size, base_at + size
    table.end()
    return found


def _bound(table: Reader, odd: int, items: int) -> None:
    if odd or items > MAX_LANE_ITEMS:
        raise table.fail(f"at most {MAX_LANE_ITEMS} whole numbers in a lane", items)


def counted(piece: bytes) -> bytes:
    """A piece behind its length."""
    return varint(len(piece)) + piece


def squeeze(raw: bytes, level: int, primer: bytes = b"") -> bytes:
    """One zstd frame; `primer` is content in front of it. Of nothing no frame."""
    if not raw:
        return b""
    total = len(raw) + len(primer)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=len(raw),
        dict_size=len(primer),
        window_log=min(MAX_WINDOW_BYTES.bit_length() - 1, max(10, total.bit_length())),
        write_checksum=False,
        write_dict_id=False,
    )
    dictionary = primed(primer) if primer else None
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(
        raw
    )


def squeeze_noise(raw: bytes, borders: Iterable[int]) -> bytes:
    """One zstd frame of what hardly repeats, with a new block, and its Huffman table, at each
    border. What seems to repeat there does so by chance, and costs more than it is: so hardly any
    of it is looked for.
    """
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, window_log=17
    )
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=len(raw))
    out = []
    at = 0
    for border in borders:
        out += [made.compress(raw[at:border]), made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)]
        at = border
    return b"".join((*out, made.compress(raw[at:]), made.flush()))


def unzstd(frame: bytes, size: int) -> bytes:
    """Exactly `size` bytes, and never more of them in memory; nothing is no frame at all.

    Raises: WireError.
    """
    if not size and not frame:
        return b""
    try:
        if not size or zstandard.get_frame_parameters(frame).content_size != size:
            raise WireError(f"decode model delta: expected a frame of {size} bytes, got another")
        made = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        raw = made.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise WireError(f"decode model delta: {error}") from error
    if len(raw) != size:
        raise WireError(f"decode model delta: expected {size} bytes, got {len(raw)}")
    return raw


def primed(primer: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(primer, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def primer_of(base: memoryview, spans: list[Span]) -> bytes:
    """What of the base no span used: the first 16 MiB of it. Both sides come to the same."""
    used = sorted((span.base_at, span.base_at + span.size) for span in spans if span.base_at >= 0)
    found, left, at = [], MAX_PRIMER_BYTES, 0
    for start, end in (*used, (len(base), len(base))):
        piece = base[at : max(at, min(start, at + left))]
        found.append(piece)
        left -= len(piece)
        at = max(at, end)
    return b"".join(found)


def refused(what: str, expected: object, got: object) -> Rejected:
    return Rejected(f"apply model delta: expected {what} {expected}, got {got}", hint=HINT)
