"""From a base and a delta to the new package, byte for byte, or to `Rejected`.

First the base is compared with the name that the delta has for it, last the result. Beside base,
delta and result there is one lane, or the window of the rest and up to 16 MiB of the base.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

import numpy as np
import zstandard
from numpy.typing import NDArray

from edge_agent.core.errors import Rejected
from edge_agent.core.modeldelta import lanes as arithmetic
from edge_agent.core.modeldelta.form import (
    HINT,
    MAX_WINDOW_BYTES,
    Header,
    Lane,
    Span,
    primed,
    primer_of,
    read_header,
    read_spans,
    refused,
    unzstd,
)
from edge_agent.core.modeldelta.lanes import Form, Words
from edge_agent.core.wire.cursor import Reader
from edge_agent.core.wire.outcome import WireError


def inspect(delta: bytes) -> Header:
    """What a delta is for and how large its result is, its own check included.

    Raises: Rejected.
    """
    return read_header(delta)[0]


def apply(base: bytes | memoryview, delta: bytes, *, max_bytes: int) -> bytes:
    """The package that the delta was made of. max_bytes: of the result, from a signed source.

    Raises: Rejected; with a wrong base, too, and then nothing else was looked at.
    """
    try:
        return _apply(memoryview(base), delta, max_bytes)
    except WireError as error:
        raise Rejected(error.what, hint=HINT) from error


def _apply(base: memoryview, delta: bytes, max_bytes: int) -> bytes:
    header, read = read_header(delta)
    if header.result_bytes > max_bytes:
        raise refused("a result of at most", max_bytes, f"{header.result_bytes} bytes")
    if header.base and len(base) != header.base_bytes:
        raise refused("a base of", f"{header.base_bytes} bytes", len(base))
    if header.base and hashlib.sha256(base).hexdigest() != header.base:
        raise refused("base", header.base, "another one")
    spans = read_spans(read, header)
    room = io.BytesIO()
    _reserve(room, header.result_bytes)
    with room.getbuffer() as view:
        _fill(view, base if header.base else base[:0], spans, read, header)
    result = room.getvalue()
    if hashlib.sha256(result).hexdigest() != header.result:
        raise refused("result", header.result, "another one")
    return result


def _reserve(room: io.BytesIO, size: int) -> None:
    """Zeros of the result's size, in the one buffer that becomes the result."""
    if size:
        room.seek(size - 1)
        room.write(b"\0")


def _fill(
    view: memoryview, base: memoryview, spans: list[Span], read: Reader, header: Header
) -> None:
    """Raises: WireError."""
    for span in spans:
        if not span.lane:
            view[span.at : span.at + span.size] = base[span.base_at : span.base_at + span.size]
    _rest(view, base, spans, read)
    of_lane: list[list[Span]] = [[] for _ in header.lanes]
    for span in spans:
        if span.lane:
            of_lane[span.lane - 1].append(span)
    for lane, pieces in zip(header.lanes, of_lane, strict=True):
        _lane(view, base, lane, pieces, read)
    read.end()


def _gaps(spans: list[Span], size: int) -> Iterator[tuple[int, int]]:
    """What no span covers: from, to."""
    at = 0
    for span in spans:
        if span.at > at:
            yield at, span.at
        at = span.at + span.size
    if size > at:
        yield at, size


def _rest(view: memoryview, base: memoryview, spans: list[Span], read: Reader) -> None:
    """From one frame straight into the gaps. Raises: WireError."""
    is_primed, frame = read.u8(), read.take(read.varint())
    gaps = list(_gaps(spans, len(view)))
    if not gaps and not frame:
        return
    primer = primer_of(base, spans) if is_primed else b""
    try:
        window = zstandard.get_frame_parameters(frame).window_size
        if window > MAX_WINDOW_BYTES:
            raise read.fail(f"a window of at most {MAX_WINDOW_BYTES} bytes", window)
        made = zstandard.ZstdDecompressor(
            dict_data=primed(primer) if primer else None, max_window_size=MAX_WINDOW_BYTES
        )
        with made.stream_reader(frame) as stream:
            for start, end in gaps:
                _pour(stream, view[start:end])
            if stream.read(1):
                raise read.fail("the end of the rest", "more")
    except zstandard.ZstdError as error:
        raise WireError(f"decode model delta: {error}") from error


def _pour(stream: zstandard.ZstdDecompressionReader, gap: memoryview) -> None:
    while gap:
        got = stream.readinto(gap)
        if not got:
            raise WireError(f"decode model delta: expected {len(gap)} bytes more of the rest")
        gap = gap[got:]


def _lane(view: memoryview, base: memoryview, lane: Lane, pieces: list[Span], read: Reader) -> None:
    """Raises: WireError."""
    count = sum(span.size for span in pieces) // lane.width
    scales = read.take(4 * len(pieces)) if lane.form is Form.SNAPPED else b""
    planes = [_plane(read, count) for _ in range(lane.planes)]
    if lane.form is Form.SNAPPED:
        numbers = _stepped(base, lane, pieces, scales, planes[0])
    else:
        numbers = _added(base, lane, pieces, arithmetic.joined(lane.width, count, planes))
    done = numbers.view(np.uint8)
    at = 0
    for span in pieces:
        view[span.at : span.at + span.size] = done[at : at + span.size].data
        at += span.size


def _plane(read: Reader, count: int) -> NDArray[np.uint8]:
    bits = read.u8()
    if bits not in arithmetic.PACKINGS:
        raise read.fail("0, 1, 2, 4 or 8 bits", bits)
    size = arithmetic.packed_size(bits, count)
    frame = unzstd(read.take(read.varint()), size) if bits else b""
    return arithmetic.unpacked(bits, count, frame)


def _added(base: memoryview, lane: Lane, pieces: list[Span], given: Words) -> Words:
    if lane.form is Form.PLAIN:
        return arithmetic.unturned(lane.kind, given)
    before = arithmetic.words(lane.kind, gathered(base, pieces))
    places, _ = arithmetic.order(lane.kind, before)
    if places is not None:
        given, sorted_ = np.empty_like(given), given
        given[places] = sorted_
    return arithmetic.risen(lane.kind, before, given)


def _stepped(
    base: memoryview, lane: Lane, pieces: list[Span], scales: bytes, plane: NDArray[np.uint8]
) -> Words:
    """Each span has its scale."""
    before = arithmetic.words(lane.kind, gathered(base, pieces))
    steps = arithmetic.unzigzag(plane).view(np.int8)
    numbers = np.empty_like(before)
    at = 0
    for span, scale in zip(pieces, np.frombuffer(scales, "<f4").tolist(), strict=True):
        cut = slice(at, at + span.size // lane.width)
        numbers[cut] = arithmetic.stepped(lane.kind, before[cut], scale, steps[cut])
        at = cut.stop
    return numbers


def gathered(base: memoryview, pieces: list[Span]) -> bytes:
    """The base of a lane, in one piece."""
    return b"".join(base[span.base_at : span.base_at + span.size] for span in pieces)
