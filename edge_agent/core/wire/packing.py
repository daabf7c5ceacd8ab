"""Non-negative numbers to bytes and back: constant, varints, Rice, byte planes, runs.

Rice is what brings noise close to its entropy: the low k bits as they are, the rest in unary.
Every `unpack` is given how many numbers to expect, and checks before it allocates that the bytes
can hold them.
"""

from __future__ import annotations

import enum
from operator import sub
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire.cursor import Reader, varint, varints

Words = NDArray[np.uint64]

MAX_RICE_K: Final = 56
RICE_CAP: Final = 16  # a longer unary code ends here; a varint says by how much it was longer
_ONE = np.uint64(1)
# For each k the places of eight numbers of k bits side by side.
_EIGHTS: Final = [_ONE << (k * np.arange(7, -1, -1)).astype(np.uint64) for k in range(9)]


class Packing(enum.IntEnum):
    """How the numbers lie in the bytes."""

    CONSTANT = 0  # all are 0: nothing follows
    VARINTS = 1
    RICE = 2
    PLANES = 3
    RUNS = 4


# As plain integers: an enum's members are slow to look up where a column takes microseconds.
CONSTANT, VARINTS, RICE, PLANES, RUNS = map(int, Packing)


def shortest(words: Words, top: int, total: int) -> tuple[int, bytes]:
    """(packing, bytes) of the shortest, or nearly. top: the largest. total: all together."""
    if not top:
        return CONSTANT, b""
    size, k = _rice_plan(words, top, total)
    turns = np.flatnonzero(words[1:] != words[:-1])
    if 3 + 2 * len(turns) < size:  # no run takes less than two bytes
        packed = pack_runs(words, turns.tolist())
        if len(packed) < size:
            return RUNS, packed
    if size > len(words):  # neither of these takes less than a byte a number
        width = -(-top.bit_length() // 8)
        planes = 1 + width * len(words)
        sized = _varints_size(words, top)
        if sized <= min(size, planes):
            return VARINTS, varints(words.tolist())
        if planes < size:
            return PLANES, pack_planes(words, width)
    return RICE, pack_rice(words, k, top)


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


def _unpack_varints(count: int, read: Reader) -> Words:
    if count > read.left:
        raise read.fail(f"{count} varints", f"{read.left} bytes")
    return np.array([read.varint() for _ in range(count)], np.uint64)


def rice_start(mean: float) -> int:
    """The k that is best for numbers of this mean, or one beside it."""
    return min(56, int(mean * 0.69 + 1).bit_length() - 1)


def _rice_plan(words: Words, top: int, total: int) -> tuple[int, int]:
    """(bytes, k). How long the unary part is says on which side to look for a better k; further
    downwards for as long as that is shorter: one far number spoils the mean.
    """
    count = len(words)
    k = rice_start(total / count)
    size, units = _rice_size(words, k, top)
    if units > 1.4 * count and k < 56:
        return min((size, k), (_rice_size(words, k + 1, top)[0], k + 1))
    while k and units < 0.6 * count:
        less, units = _rice_size(words, k - 1, top)
        if less >= size:
            break
        size, k = less, k - 1
    return size, k


def _rice_size(words: Words, k: int, top: int) -> tuple[int, int]:
    """(bytes at this k, zeros in the unary part)."""
    quotients = words >> np.uint64(k)
    excess = 0
    if top >> k >= RICE_CAP:
        long = quotients[quotients >= RICE_CAP]
        excess = _varints_size(long - np.uint64(RICE_CAP))
        quotients = np.minimum(quotients, np.uint64(RICE_CAP))
    units = int(np.add.reduce(quotients))
    unary_bytes = (units + len(words) + 7) // 8
    low_bytes = (len(words) * k + 7) // 8
    return 1 + len(varint(unary_bytes)) + unary_bytes + low_bytes + excess, units


def pack_rice(words: Words, k: int, top: int) -> bytes:
    """Is k | length of unary | unary | low bits | excess. Bits fill bytes from the top."""
    quotients, excess = words >> np.uint64(k), b""
    if top >> k >= RICE_CAP:
        long = quotients[quotients >= RICE_CAP]
        excess = varints((long - np.uint64(RICE_CAP)).tolist())
        quotients = np.minimum(quotients, np.uint64(RICE_CAP))
    ends = (quotients.view(np.int64) + 1).cumsum()
    unary = np.zeros(int(ends[-1]), np.uint8)
    unary[ends - 1] = 1
    unary_bytes = np.packbits(unary).tobytes()
    size = varint(len(unary_bytes))
    return b"".join((bytes((k,)), size, unary_bytes, _low_bits(words, k), excess))


def _low_bits(words: Words, k: int) -> bytes:
    """The k lowest bits of each, the highest first."""
    if k <= 8:  # those of eight numbers are k bytes
        eights = np.zeros(-(-len(words) // 8) * 8, np.uint64)
        np.bitwise_and(words, np.uint64((1 << k) - 1), out=eights[: len(words)])
        joined = (eights.reshape(-1, 8) @ _EIGHTS[k]).astype(">u8")
        bits = joined.view(np.uint8).reshape(-1, 8)[:, 8 - k :]
        return bytes(bits.tobytes()[: (len(words) * k + 7) // 8])
    width = -(-k // 8)
    planes = words.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - width :]
    bits = np.unpackbits(planes, axis=1)[:, 8 * width - k :]
    return np.packbits(bits).tobytes()


def _unpack_rice(count: int, read: Reader) -> Words:
    k = read.u8()
    if k > MAX_RICE_K:
        raise read.fail(f"k up to {MAX_RICE_K}", k)
    unary = np.unpackbits(np.frombuffer(read.take(read.varint()), np.uint8))
    (ends,) = unary.view(np.bool_).nonzero()
    quotients = ends.copy()
    quotients[1:] -= ends[:-1] + 1
    longest = int(quotients.max(initial=0))
    if len(ends) != count or longest > RICE_CAP:
        raise read.fail(f"{count} unary codes up to {RICE_CAP}", f"{len(ends)} or longer ones")
    low = read.take(-(-count * k // 8))
    words: Words = quotients.astype(np.uint64)
    if longest == RICE_CAP:
        for index in np.flatnonzero(quotients == RICE_CAP).tolist():
            words[index] += np.uint64(read.varint((1 << 64) - 1 - RICE_CAP))
    if k:
        words <<= np.uint64(k)
        words |= _bits_of(low, k, count)
    return words


def _bits_of(given: bytes, k: int, count: int) -> Words:
    """Of each number its k bits out of the eight bytes that they begin in."""
    windows = np.ndarray((len(given) + 1,), ">u8", given + bytes(8), 0, (1,))
    at = np.arange(0, count * k, k)
    words: Words = windows[at >> 3].astype(np.uint64)
    words <<= (at & 7).view(np.uint64)
    words >>= np.uint64(64 - k)
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


def pack_runs(words: Words, turns: list[int]) -> bytes:
    """How many runs | for each: the number | how often it is repeated (length - 1).

    turns: the last row of each run but the last.
    """
    ends = [*turns, len(words) - 1]
    numbers = words[ends].tolist()
    lengths = map(sub, ends, (-1, *turns))
    return varint(len(ends)) + b"".join(
        [varint(word) + varint(length - 1) for word, length in zip(numbers, lengths, strict=True)]
    )


def _unpack_runs(count: int, read: Reader) -> Words:
    runs = read.varint(min(count, read.left // 2))
    pairs = [(read.varint(), read.varint(count) + 1) for _ in range(runs)]
    if sum(length for _, length in pairs) != count:
        raise read.fail(f"runs of {count} numbers", sum(length for _, length in pairs))
    words = np.array([word for word, _ in pairs], np.uint64)
    return np.repeat(words, np.array([length for _, length in pairs], np.int64))
