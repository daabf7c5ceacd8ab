"""A few integers as a block, in plain loops: of some dozens numpy's calls cost more than they save.

The same blocks as in `arrays`, and nearly the same choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import ne, sub
from typing import Final, NamedTuple

from edge_agent.core.wire.blocks import DELTA, DELTA2, HAS_OFFSET, LAG, PLAIN, UNSIGNED
from edge_agent.core.wire.cursor import signed, varint, varints, wrap, zigzag
from edge_agent.core.wire.packing import CONSTANT, RICE, RICE_CAP, RUNS, VARINTS, rice_start

FEW: Final = 64  # below this many numbers, plain loops are faster than numpy
TINY: Final = 12  # below this many, plain or delta as varints are as short as anything
WIDE_BITS: Final = 60  # of numbers further apart, differences of differences have more than 64 bits
BEYOND_BITS: Final = 8  # at least, of a number whose unary code ends early
_UNARY: Final = [*("0" * zeros + "1" for zeros in range(RICE_CAP + 1))]


class Trial(NamedTuple):
    """One way to foretell. extra: the bytes between mode and offset."""

    transform: int
    extra: bytes
    residuals: list[int]


def encode(values: Sequence[int], lags: Sequence[int] = ()) -> bytes:
    """Fewer than `FEW` integers of 64 bits. lags: periods worth a try."""
    if not values:
        return b"\x00"
    low, high = min(values), max(values)
    if low == high:
        return bytes((HAS_OFFSET,)) + signed(low) if low else b"\x00"
    if len(values) < TINY or (high - low) >> WIDE_BITS:
        return _tiny(values, wide=bool((high - low) >> WIDE_BITS))
    plain, delta, bends, *periodic = _trials(values, lags)
    found = [(_promise(trial), trial) for trial in (plain, delta, *periodic)]
    if found[1][0] < found[0][0]:  # what has no trend has no bends
        found.append((_promise(bends), bends))
    (_, middle), trial = min(found, key=lambda pair: pair[0][0])
    return _finish(trial, middle)


def _tiny(values: Sequence[int], *, wide: bool) -> bytes:
    """Plain or delta, varints or nothing."""
    steps = list(map(sub, values[1:], values))
    if wide:
        steps = list(map(wrap, steps))
    if steps[0] == steps[-1] and steps.count(steps[0]) == len(steps):
        mode = bytes((DELTA | HAS_OFFSET,))
        return mode + signed(wrap(values[0] - steps[0])) + signed(steps[0])
    plain = bytes((VARINTS << 2,)) + varints(list(map(zigzag, values)))
    mode = bytes((DELTA | VARINTS << 2,))
    delta = mode + signed(values[0]) + varints([0, *map(zigzag, steps)])
    return plain if len(plain) <= len(delta) else delta


def _trials(values: Sequence[int], lags: Sequence[int]) -> Iterator[Trial]:
    yield Trial(PLAIN, b"", list(values))
    steps = list(map(sub, values[1:], values))
    middle = sorted(steps)[len(steps) // 2]
    yield Trial(DELTA, signed(wrap(values[0] - middle)), [middle, *steps])
    extra = signed(wrap(values[0] - steps[0])) + signed(steps[0])
    yield Trial(DELTA2, extra, [0, 0, *map(sub, steps[1:], steps)])
    for lag in lags:
        if 2 <= lag <= len(values) // 2:
            extra = varint(lag) + signed(values[0])
            yield Trial(LAG, extra, [0, *steps[: lag - 1], *map(sub, values[lag:], values)])


def _promise(trial: Trial) -> tuple[int, int]:
    """(about how many bits it will take, the middle of its residuals)."""
    residuals = trial.residuals
    middle = sorted(residuals)[len(residuals) // 2]
    bits = sum([abs(value - middle).bit_length() for value in residuals])
    return bits, middle


def _finish(trial: Trial, middle: int) -> bytes:
    """From the smallest upwards, or zigzag around the middle: whichever makes smaller numbers."""
    residuals = trial.residuals
    words = [v - middle << 1 if v >= middle else (middle - v << 1) - 1 for v in residuals]
    low, offset, flag = min(residuals), middle, 0
    if sum(residuals) - low * len(residuals) <= sum(words):
        words, offset, flag = [value - low for value in residuals], low, UNSIGNED
    packing, packed = _pack(words)
    flag |= HAS_OFFSET if offset else 0
    head = bytes((trial.transform | packing << 2 | flag,)) + trial.extra
    return head + (signed(offset) if offset else b"") + packed


def _pack(words: list[int]) -> tuple[int, bytes]:
    """(packing, bytes): the shortest."""
    top = max(words)
    if not top:
        return CONSTANT, b""
    starts = [0, *(i for i, differs in enumerate(map(ne, words[1:], words), 1) if differs)]
    options = [(RICE, _rice(words)), (VARINTS, varints(words))]
    if 1 + 2 * len(starts) < len(options[0][1]):  # no run takes less than two bytes
        options.append((RUNS, _runs(words, starts)))
    return min(options, key=lambda option: len(option[1]))


def _runs(words: list[int], starts: list[int]) -> bytes:
    pairs = [(words[a], b - a - 1) for a, b in pairwise([*starts, len(words)])]
    return varint(len(starts)) + varints([number for pair in pairs for number in pair])


def _rice(words: list[int]) -> bytes:
    k = _best_k(words)
    quotients = [word >> k for word in words]
    excess = b""
    if max(quotients) >= RICE_CAP:
        excess = b"".join([varint(q - RICE_CAP) for q in quotients if q >= RICE_CAP])
        quotients = [min(q, RICE_CAP) for q in quotients]
    unary = _bits("".join([_UNARY[q] for q in quotients]))
    mask, low = (1 << k) - 1, 0
    for word in words:
        low = low << k | word & mask
    low_bits = len(words) * k
    low_bytes = (low << -low_bits % 8).to_bytes(-(-low_bits // 8), "big")
    return bytes((k,)) + varint(len(unary)) + unary + low_bytes + excess


def _bits(text: str) -> bytes:
    """Digits 0 and 1 as bits, from the top of each byte."""
    return (int(text, 2) << -len(text) % 8).to_bytes(-(-len(text) // 8), "big")


def _best_k(words: list[int]) -> int:
    """Upwards or downwards for as long as that is shorter: one far number spoils the mean."""
    k, count = rice_start(sum(words) / len(words)), len(words)
    units = _units(words, k)
    if units > count and k < 56 and units - _units(words, k + 1) > count:
        return k + 1
    while k and (less := _units(words, k - 1)) - units < count:
        k, units = k - 1, less
    return k


def _units(words: list[int], k: int) -> int:
    """Zeros in the unary part, and what stands for those that are beyond it."""
    quotients = [word >> k for word in words]
    if max(quotients) < RICE_CAP:
        return sum(quotients)
    return sum([q if q < RICE_CAP else RICE_CAP + BEYOND_BITS for q in quotients])
