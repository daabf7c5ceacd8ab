"""Numbers of many tensors as one lane: what they became, less what they were, in byte planes.

Bits of floats become integers that rise with the value, so that neighbours differ by little. Then
the numbers are put in the order of the exponents that they had: a step of the optimiser is as
large everywhere, so in units of the last place it depends on the exponent alone, and each block of
zstd meets one distribution. The order costs nothing, for both sides have the base.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Word = np.unsignedinteger[Any]
Words = NDArray[Word]  # of 1, 2, 4 or 8 bytes, little-endian

LANE_ITEMS: Final = 1 << 18  # numbers in one lane: what a device holds beside base and result


class Kind(enum.IntEnum):
    """What the numbers of a lane are."""

    I8 = 1
    I16 = 2
    I32 = 3
    I64 = 4
    F16 = 5
    BF16 = 6
    F32 = 7
    F64 = 8


class Form(enum.IntEnum):
    """How a lane is written."""

    PLAIN = 0  # the numbers themselves
    RESIDUAL = 1  # less the base
    SNAPPED = 2  # whole steps of one scale a span, added to the base


WIDTH: Final = {
    Kind.I8: 1, Kind.I16: 2, Kind.I32: 4, Kind.I64: 8,
    Kind.F16: 2, Kind.BF16: 2, Kind.F32: 4, Kind.F64: 8,
}  # fmt: skip
_MANTISSA_BITS: Final = {Kind.F16: 10, Kind.BF16: 7, Kind.F32: 23, Kind.F64: 52}
PACKINGS: Final = (0, 1, 2, 4, 8)  # bits that a number of a plane may have
SNAPPABLE: Final = {Kind.F32: "<f4", Kind.F16: "<f2"}


def words(kind: Kind, given: bytes | memoryview | Words) -> Words:
    """The bytes as unsigned integers."""
    numbers: Words = np.frombuffer(given, f"<u{WIDTH[kind]}")
    return numbers


def rising(kind: Kind, bits: Words) -> Words:
    """Bits of floats to integers in the order of their values; whole numbers as they are."""
    if kind not in _MANTISSA_BITS:
        return bits
    return bits ^ (_sign(bits) | _top(bits))


def fallen(kind: Kind, ranks: Words) -> Words:
    """The inverse of `rising`."""
    if kind not in _MANTISSA_BITS:
        return ranks
    return ranks ^ (~_sign(ranks) | _top(ranks))


def _as(given: Words, value: int) -> Word:
    """A number of the width of these."""
    word: Word = given.dtype.type(value)
    return word


def _top(given: Words) -> Word:
    return _as(given, 1 << (8 * given.itemsize - 1))


def _sign(given: Words) -> Words:
    """All ones where the top bit is set."""
    return ~((given >> _as(given, 8 * given.itemsize - 1)) - _as(given, 1))


def zigzag(steps: Words) -> Words:
    """0, -1, 1, -2 ... to 0, 1, 2, 3 ..."""
    return (steps << _as(steps, 1)) ^ _sign(steps)


def unzigzag(given: Words) -> Words:
    one = _as(given, 1)
    return (given >> one) ^ (~(given & one) + one)


def order(kind: Kind, base: Words) -> tuple[NDArray[np.intp] | None, NDArray[np.intp]]:
    """(the places sorted by exponent, None for as they are; where each exponent ends)."""
    if kind not in _MANTISSA_BITS:
        return None, np.empty(0, np.intp)
    without_sign = base & ~_top(base)
    exponents = (without_sign >> _as(base, _MANTISSA_BITS[kind])).astype(np.uint8)
    counts = np.bincount(exponents, minlength=256)
    return np.argsort(exponents, kind="stable"), np.cumsum(counts)[counts > 0]


def residual(kind: Kind, base: Words, new: Words) -> Words:
    """What is added, as numbers near zero."""
    return zigzag(rising(kind, new) - rising(kind, base))


def risen(kind: Kind, base: Words, added: Words) -> Words:
    """The inverse of `residual`."""
    return fallen(kind, rising(kind, base) + unzigzag(added))


def turned(kind: Kind, bits: Words) -> Words:
    """For numbers without a base: the sign goes to the end, so that a plane is all exponent."""
    if kind not in _MANTISSA_BITS:
        return bits
    one, most = _as(bits, 1), _as(bits, 8 * bits.itemsize - 1)
    return (bits << one) | (bits >> most)


def unturned(kind: Kind, given: Words) -> Words:
    if kind not in _MANTISSA_BITS:
        return given
    one, most = _as(given, 1), _as(given, 8 * given.itemsize - 1)
    return (given >> one) | (given << most)


def planes(given: Words) -> list[NDArray[np.uint8]]:
    """The least significant byte of each number, then the next byte of each."""
    table = np.ascontiguousarray(given).view(np.uint8).reshape(-1, given.itemsize)
    return [np.ascontiguousarray(table[:, place]) for place in range(given.itemsize)]


def packed(plane: NDArray[np.uint8]) -> tuple[int, bytes]:
    """(bits a number, 0 to 8; so many of them in a byte, the first one lowest). Small numbers share
    bytes, for a Huffman code has no symbol below one bit.
    """
    most = int(plane.max(initial=0))
    bits = next(bits for bits in PACKINGS if most < 1 << bits)
    if bits in (0, 8):
        return bits, plane.tobytes() if bits else b""
    share = 8 // bits
    rows = np.pad(plane, (0, -len(plane) % share)).reshape(-1, share)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return bits, np.bitwise_or.reduce(rows << shifts, axis=1).tobytes()


def packed_size(bits: int, count: int) -> int:
    return -(-count * bits // 8)


def unpacked(bits: int, count: int, given: bytes) -> NDArray[np.uint8]:
    """The inverse of `packed`; `given` is as long as `packed_size` says."""
    if not bits:
        return np.zeros(count, np.uint8)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    rows = np.frombuffer(given, np.uint8)[:, np.newaxis] >> shifts
    numbers: NDArray[np.uint8] = (rows & np.uint8((1 << bits) - 1)).reshape(-1)[:count]
    return numbers


def joined(width: int, count: int, given: Sequence[NDArray[np.uint8]]) -> Words:
    """The inverse of `planes`."""
    table = np.empty((count, width), np.uint8)
    for place, plane in enumerate(given):
        table[:, place] = plane
    return table.reshape(-1).view(f"<u{width}")


def stepped(
    kind: Kind, base: Words, scale: float | NDArray[np.float32], steps: NDArray[np.int8]
) -> Words:
    """The base and so many steps of `scale`: in single floats, each operation rounded once, so that
    every machine comes to the same bits. `scale` has few bits: its product with a step is exact.
    """
    with np.errstate(all="ignore"):
        floats = base.view(SNAPPABLE[kind]).astype(np.float32)
        moved = floats + np.asarray(scale, np.float32) * steps.astype(np.float32)
        bits: Words = moved.astype(SNAPPABLE[kind]).view(base.dtype)
    return bits
