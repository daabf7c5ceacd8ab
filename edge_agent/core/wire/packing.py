"""Non-negative numbers to bytes and back: constant, varints, Rice, byte planes, runs.

Rice is what brings noise close to its entropy: the low k bits as they are, the rest in unary.
Every `unpack` is given how many numbers to expect, and checks before it allocates that the bytes
can hold them.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire.cursor import Reader, varint

Words = NDArray[np.uint64]

RICE_CAP: Final = 16  # a longer unary code ends here; a varint says by how much it was longer
_ONE = np.uint64(1)


class Packing(enum.IntEnum):
    """How the numbers lie in the bytes."""

    CONSTANT = 0  # all are 0: nothing follows
    VARINTS = 1
    RICE = 2
    PLANES = 3
    RUNS = 4


class Plan(NamedTuple):
    """A packing that was chosen, its bytes, and its k or width."""

    size: int
    packing: Packing
    detail: int = 0


def plan(words: Words) -> Plan:
    """The shortest packing of these numbers."""
    top = int(words.max())
    if not top:
        return Plan(0, Packing.CONSTANT)
    k, rice_bytes = rice_size(words, top)
    width = -(-top.bit_length() // 8)
    chosen = min(
        Plan(_varints_size(words, top), Packing.VARINTS),
        Plan(rice_bytes, Packing.RICE, k),
        Plan(1 + width * len(words), Packing.PLANES, width),
    )
    runs = 1 + int(np.count_nonzero(words[1:] != words[:-1]))
    if 1 + 2 * runs >= chosen.size:  # no run takes less than two bytes
        return chosen
    return min(chosen, Plan(_runs_size(words), Packing.RUNS))


def pack(words: Words, how: Plan) -> bytes:
    """As planned for these numbers."""
    if how.packing is Packing.RICE:
        return pack_rice(words, how.detail)
    if how.packing is Packing.PLANES:
        return pack_planes(words, how.detail)
    if how.packing is Packing.RUNS:
        return pack_runs(words)
    return pack_varints(words) if how.packing is Packing.VARINTS else b""


def unpack(packing: int, count: int, read: Reader) -> Words:
    """Raises: WireError."""
    if packing == Packing.CONSTANT:
        return np.zeros(count, np.uint64)
    if packing == Packing.VARINTS:
        return _unpack_varints(count, read)
    if packing == Packing.RICE:
        return _unpack_rice(count, read)
    if packing == Packing.PLANES:
        return _unpack_planes(count, read)
    if packing == Packing.RUNS:
        return _unpack_runs(count, read)
    raise read.fail("a packing from 0 to 4", packing)


def _varints_size(words: Words, top: int | None = None) -> int:
    """Bytes of all of them as varints. top: the largest of them."""
    top = int(words.max(initial=0)) if top is None else top
    longer = (int(np.count_nonzero(words >> np.uint64(b))) for b in range(7, top.bit_length(), 7))
    return len(words) + sum(longer)


def pack_varints(words: Words) -> bytes:
    return b"".join(map(varint, words.tolist()))


def _unpack_varints(count: int, read: Reader) -> Words:
    if count > read.left:
        raise read.fail(f"{count} varints", f"{read.left} bytes")
    return np.array([read.varint() for _ in range(count)], np.uint64)


def rice_size(words: Words, top: int) -> tuple[int, int]:
    """(k, bytes) of the best Rice code: near log2 of the mean, and one more try to either side."""
    near = min(56, int(float(words.mean()) * 0.69 + 1).bit_length() - 1)
    return min(
        ((k, _rice_bytes(words, k, top)) for k in range(max(0, near - 1), min(near + 2, 57))),
        key=lambda pair: pair[1],
    )


def _rice_bytes(words: Words, k: int, top: int) -> int:
    quotients = words >> np.uint64(k)
    excess = 0
    if top >> k >= RICE_CAP:
        long = quotients[quotients >= RICE_CAP]
        excess = _varints_size(long - np.uint64(RICE_CAP))
        quotients = np.minimum(quotients, np.uint64(RICE_CAP))
    unary = int(quotients.sum()) + len(words)
    unary_bytes = -(-unary // 8)
    return 1 + len(varint(unary_bytes)) + unary_bytes + -(-len(words) * k // 8) + excess


def pack_rice(words: Words, k: int) -> bytes:
    """Is k | length of unary | unary | low bits | excess. Bits fill bytes from the top."""
    quotients = words >> np.uint64(k)
    capped = np.minimum(quotients, np.uint64(RICE_CAP)).astype(np.int64)
    ends = np.cumsum(capped + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, np.uint8)
    unary[ends] = 1
    unary_bytes = np.packbits(unary).tobytes()
    shifts = np.arange(k - 1, -1, -1, dtype=np.uint64)
    low = ((words[:, None] >> shifts) & _ONE).astype(np.uint8)
    excess = quotients[quotients >= RICE_CAP] - np.uint64(RICE_CAP)
    return b"".join(
        (
            bytes((k,)),
            varint(len(unary_bytes)),
            unary_bytes,
            np.packbits(low).tobytes(),
            pack_varints(excess),
        )
    )


def _unpack_rice(count: int, read: Reader) -> Words:
    k = read.u8()
    if k > 56:
        raise read.fail("k up to 56", k)
    unary = np.unpackbits(np.frombuffer(read.take(read.varint()), np.uint8))
    ends = np.flatnonzero(unary)
    quotients = np.diff(ends, prepend=-1) - 1
    if len(ends) != count or (count and int(quotients.max()) > RICE_CAP):
        raise read.fail(f"{count} unary codes up to {RICE_CAP}", f"{len(ends)} or longer ones")
    low = np.unpackbits(np.frombuffer(read.take(-(-count * k // 8)), np.uint8))
    words = quotients.astype(np.uint64)
    long = np.flatnonzero(quotients == RICE_CAP)
    for index in long.tolist():
        words[index] += np.uint64(read.varint((1 << 64) - 1 - RICE_CAP))
    for column in low[: count * k].reshape(count, k).T:
        words = (words << np.uint64(1)) | column
    return words


def pack_planes(words: Words, width: int) -> bytes:
    """Is width | the most significant byte of each number, then the next byte of each, ..."""
    planes = words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]
    return bytes((width,)) + bytes(planes.T.tobytes())


def _unpack_planes(count: int, read: Reader) -> Words:
    width = read.u8()
    if not 1 <= width <= 8:
        raise read.fail("a width from 1 to 8", width)
    planes = np.frombuffer(read.take(width * count), np.uint8).reshape(width, count)
    words = np.zeros(count, np.uint64)
    for plane in planes:
        words = (words << np.uint64(8)) | plane
    return words


def _run_starts(words: Words) -> NDArray[np.intp]:
    return np.flatnonzero(np.concatenate(([True], words[1:] != words[:-1])))


def _runs_size(words: Words) -> int:
    starts = _run_starts(words)
    lengths = np.diff(starts, append=len(words)).astype(np.uint64)
    return len(varint(len(starts))) + _varints_size(words[starts]) + _varints_size(lengths - _ONE)


def pack_runs(words: Words) -> bytes:
    """How many runs | for each: the number | how often it is repeated (length - 1)."""
    starts = _run_starts(words)
    lengths = np.diff(starts, append=len(words))
    pairs = zip(words[starts].tolist(), lengths.tolist(), strict=True)
    return varint(len(starts)) + b"".join(varint(word) + varint(run - 1) for word, run in pairs)


def _unpack_runs(count: int, read: Reader) -> Words:
    runs = read.varint(min(count, read.left // 2))
    pairs = [(read.varint(), read.varint(count) + 1) for _ in range(runs)]
    if sum(length for _, length in pairs) != count:
        raise read.fail(f"runs of {count} numbers", sum(length for _, length in pairs))
    words = np.array([word for word, _ in pairs], np.uint64)
    return np.repeat(words, np.array([length for _, length in pairs], np.int64))
