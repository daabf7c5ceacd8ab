"""A block of few integers without arrays, which cost more to begin with than such numbers do.

The same bytes and the same bounds as `arrays.decode`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from typing import Final

from edge_agent.core.wire import arrays
from edge_agent.core.wire.blocks import (
    DELTA,
    DELTA2,
    HAS_CENTRES,
    HAS_OFFSET,
    HIGHEST,
    LAG,
    LOWEST,
    PLAIN,
    UNSIGNED,
)
from edge_agent.core.wire.cursor import MASK, Reader, wrap
from edge_agent.core.wire.packing import CONSTANT, MAX_RICE_K, PLANES, RICE, RICE_CAP, RUNS, VARINTS

FEW: Final = 96  # numbers


def numbers(count: int, read: Reader) -> list[int]:
    """As `arrays.decode`, of any count.

    Raises: WireError.
    """
    begun, mode = read.at, read.u8()
    if count >= FEW or mode & HAS_CENTRES:
        read.at = begun
        found: list[int] = arrays.decode(count, read).tolist()
        return found
    transform = mode & 3
    lag = arrays.lag_of(count, read) if transform == LAG else 0
    start = read.signed() if transform != PLAIN else 0
    slope = read.signed() if transform == DELTA2 else 0
    offset = read.signed() if mode & HAS_OFFSET else 0
    words = _unpack(mode >> 2 & 7, count, read)
    steps = words if mode & UNSIGNED else [(word >> 1) ^ -(word & 1) for word in words]
    if offset:
        steps = [step + offset for step in steps]
    if transform == LAG:
        steps = _unlag(steps, lag, start)
    if transform == DELTA2:
        steps = _sums(steps, slope)
    if transform in (DELTA, DELTA2):
        steps = _sums(steps, start)
    if steps and (min(steps) < LOWEST or max(steps) > HIGHEST):
        return list(map(wrap, steps))
    return steps


def _sums(steps: Sequence[int], start: int) -> list[int]:
    return list(accumulate(steps, initial=start))[1:]


def _unlag(steps: Sequence[int], lag: int, start: int) -> list[int]:
    found = _sums(steps[:lag], start)
    for at in range(lag, len(steps)):
        found.append(found[at - lag] + steps[at])
    return found


def _unpack(packing: int, count: int, read: Reader) -> list[int]:
    """Raises: WireError."""
    if packing == CONSTANT:
        return [0] * count
    if packing == VARINTS:
        return [read.varint() for _ in range(count)]
    if packing == RICE:
        return _unpack_rice(count, read)
    if packing == PLANES:
        return _unpack_planes(count, read)
    if packing == RUNS:
        return _unpack_runs(count, read)
    raise read.fail("a packing from 0 to 4", packing)


def _unpack_rice(count: int, read: Reader) -> list[int]:
    k = read.u8()
    if k > MAX_RICE_K:
        raise read.fail(f"k up to {MAX_RICE_K}", k)
    quotients = _unary(count, read.take(read.varint()), read)
    size = -(-count * k // 8)
    low, spare = int.from_bytes(read.take(size), "big"), 8 * size - count * k
    for at, quotient in enumerate(quotients):
        if quotient == RICE_CAP:
            quotients[at] += read.varint(MASK - RICE_CAP)
    if not k:
        return quotients
    shifts, mask = range(spare + (count - 1) * k, spare - 1, -k), (1 << k) - 1
    return [
        (quotient << k | low >> shift & mask) & MASK
        for quotient, shift in zip(quotients, shifts, strict=True)
    ]


def _unary(count: int, given: bytes, read: Reader) -> list[int]:
    bits = int.from_bytes(given, "big")
    ones = bits.bit_count()
    runs = f"{bits:0{8 * len(given)}b}".split("1")[:-1] if ones == count else []
    quotients = list(map(len, runs))
    if ones != count or max(quotients, default=0) > RICE_CAP:
        raise read.fail(f"{count} unary codes up to {RICE_CAP}", f"{ones} or longer ones")
    return quotients


def _unpack_planes(count: int, read: Reader) -> list[int]:
    width = read.u8()
    if not 1 <= width <= 8:
        raise read.fail("a width from 1 to 8", width)
    planes = read.take(width * count)
    return [int.from_bytes(planes[at::count], "big") for at in range(count)]


def _unpack_runs(count: int, read: Reader) -> list[int]:
    pairs = [(read.varint(), read.varint(count) + 1) for _ in range(read.varint(count))]
    if sum(length for _, length in pairs) != count:
        raise read.fail(f"runs of {count} numbers", sum(length for _, length in pairs))
    return _repeated(pairs)


def _repeated(pairs: Iterable[tuple[int, int]]) -> list[int]:
    return [word for pair in pairs for word in repeat(*pair)]
