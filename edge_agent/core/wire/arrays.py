"""Columns of integers: predict, subtract, pack. The writer tries, the first byte says what won.

    block = mode [lag] [start] [slope] [centres] [offset] packed residuals

Everything is arithmetic modulo 2**64 in two's complement, so nothing overflows and every column of
64-bit integers comes back exactly.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import packing
from edge_agent.core.wire.cursor import Reader, signed, unzigzag, varint, wrap, zigzag
from edge_agent.core.wire.packing import Packing, Words

Ints = NDArray[np.int64]

SMALL: Final = 12  # below this many numbers, plain loops are faster than numpy and as short
HAS_OFFSET: Final = 0x20
UNSIGNED: Final = 0x40
HAS_CENTRES: Final = 0x80
MIN_CENTRED_LAG: Final = 8
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
_ONE, _TOP = np.uint64(1), np.uint64(63)


def ints_of(values: Sequence[int]) -> Ints:
    """Raises ValueError for what is no integer of 64 bits with sign."""
    if set(map(type, values)) <= {int, bool}:
        with suppress(OverflowError):
            return np.array(values, np.int64)
    raise ValueError(f"expected 64-bit integers, got {[v for v in values if not _fits(v)][:3]}")


def _fits(value: object) -> bool:
    return isinstance(value, int) and LOWEST <= value <= HIGHEST


def less(values: Sequence[int], *others: Sequence[int]) -> list[int]:
    """Row by row the value less the others, modulo 2**64. Raises ValueError as `ints_of`."""
    left = ints_of(values)
    for other in others:
        left = left - ints_of(other)
    found: list[int] = left.tolist()
    return found


class Transform(enum.IntEnum):
    """What a number is compared with."""

    PLAIN = 0  # nothing
    DELTA = 1  # the one before
    DELTA2 = 2  # the one before plus the step before
    LAG = 3  # the one `lag` before


class Trial(NamedTuple):
    """One way to predict a column, not packed yet. extra: its bytes between mode and offset."""

    transform: Transform
    extra: bytes
    residuals: Ints
    flag: int = 0


def encode(values: Ints, lags: Sequence[int] = ()) -> bytes:
    """The shortest block that was found. lags: periods worth a try, such as points per contour."""
    if len(values) < SMALL:
        return encode_few(values.tolist())
    with np.errstate(over="ignore"):
        trials = [(_promise(trial.residuals), trial) for trial in _trials(values, lags)]
        return _finish(min(trials, key=lambda pair: pair[0])[1])


def _trials(values: Ints, lags: Sequence[int]) -> Iterator[Trial]:
    yield Trial(Transform.PLAIN, b"", values)
    steps = values[1:] - values[:-1]
    middle = _middle(steps)
    start = wrap(int(values[0]) - middle)
    yield Trial(Transform.DELTA, signed(start), _behind((middle,), steps))
    first = int(steps[0])
    bends = _behind((0, 0), steps[1:] - steps[:-1])
    yield Trial(Transform.DELTA2, signed(wrap(int(values[0]) - first)) + signed(first), bends)
    for lag in lags:
        if 2 <= lag <= len(values) // 2:
            seed = _behind((0,), values[1:lag] - values[: lag - 1])
            rest = values[lag:] - values[:-lag]
            extra = varint(lag) + signed(int(values[0]))
            yield Trial(Transform.LAG, extra, np.concatenate([seed, rest]))
            if lag >= MIN_CENTRED_LAG:
                yield _centred(extra, np.concatenate([seed, rest]), lag)


def _behind(head: tuple[int, ...], rest: Ints) -> Ints:
    return np.concatenate((np.array(head, np.int64), rest))


def _centred(extra: bytes, residuals: Ints, lag: int) -> Trial:
    """What all numbers of a period have in common is said once: a contour that moves as one."""
    whole = len(residuals) // lag * lag
    common = np.partition(residuals[:whole].reshape(-1, lag), lag // 2, axis=1)[:, lag // 2]
    if whole < len(residuals):
        common = np.append(common, _middle(residuals[whole:]))
    rest = residuals - np.repeat(common, lag)[: len(residuals)]
    return Trial(Transform.LAG, extra + encode(common), rest, HAS_CENTRES)


def _middle(values: Ints) -> int:
    return int(np.partition(values, len(values) // 2)[len(values) // 2])


def _promise(residuals: Ints) -> float:
    """About how many bits these will take, around their middle."""
    spread = np.abs((residuals - _middle(residuals)).astype(np.float64))
    return float(np.log2(spread + 1.0).sum())


def _finish(trial: Trial) -> bytes:
    """The better of: distance from the smallest, and zigzag around the middle."""
    residuals = trial.residuals
    low, middle = int(residuals.min()), _middle(residuals)
    above = (residuals - np.int64(low)).view(np.uint64)
    around = _zigzag(residuals - np.int64(middle))
    options = []
    for words, offset, flag in ((above, low, UNSIGNED), (around, middle, 0)):
        how = packing.plan(words)
        mode = trial.transform | trial.flag | how.packing << 2 | flag | HAS_OFFSET * bool(offset)
        head = bytes((mode,)) + trial.extra + (signed(offset) if offset else b"")
        options.append((len(head) + how.size, head, words, how))
    _, head, words, how = min(options, key=lambda option: option[0])
    return head + packing.pack(words, how)


def _zigzag(values: Ints) -> Words:
    words = values.view(np.uint64)
    found: Words = (words << _ONE) ^ (values >> np.int64(63)).view(np.uint64)
    return found


def _unzigzag(words: Words) -> Ints:
    found: Ints = ((words >> _ONE) ^ (~(words & _ONE) + _ONE)).view(np.int64)
    return found


def encode_few(values: list[int]) -> bytes:
    """Fewer than `SMALL`: plain or delta, varints or nothing: what a few numbers need."""
    if not values:
        return bytes((Transform.PLAIN,))
    if min(values) == max(values):
        return _constant(values[0])
    plain = bytes((Packing.VARINTS << 2,)) + b"".join(map(signed, values))
    steps = [wrap(b - a) for a, b in pairwise(values)]
    if min(steps) == max(steps):
        mode = Transform.DELTA | HAS_OFFSET
        return bytes((mode,)) + signed(wrap(values[0] - steps[0])) + signed(steps[0])
    words = [0, *map(zigzag, steps)]
    mode = Transform.DELTA | Packing.VARINTS << 2
    delta = bytes((mode,)) + signed(values[0]) + b"".join(map(varint, words))
    return min(plain, delta, key=len)


def _constant(value: int) -> bytes:
    return bytes((HAS_OFFSET,)) + signed(value) if value else bytes((Transform.PLAIN,))


def decode(count: int, read: Reader) -> Ints:
    """A block of `count` numbers. The caller bounds the count.

    Raises: WireError.
    """
    mode = read.u8()
    transform = mode & 3
    if mode & HAS_CENTRES and transform != Transform.LAG:
        raise read.fail("centres with a lag only", mode)
    lag = read.varint(max(count, 1)) if transform == Transform.LAG else 0
    start = read.signed() if transform != Transform.PLAIN else 0
    slope = read.signed() if transform == Transform.DELTA2 else 0
    if transform == Transform.LAG and lag < 1:
        raise read.fail("a lag from 1", lag)
    centres = _centres(count, lag, read) if mode & HAS_CENTRES else None
    offset = np.int64(read.signed() if mode & HAS_OFFSET else 0)
    words = packing.unpack(mode >> 2 & 7, count, read)
    with np.errstate(over="ignore"):
        residuals: Ints = (words.view(np.int64) if mode & UNSIGNED else _unzigzag(words)) + offset
        if centres is not None:
            residuals = residuals + centres
        if transform == Transform.DELTA2:
            residuals = np.cumsum(residuals) + np.int64(slope)
        if transform == Transform.LAG:
            return _unlag(residuals, lag, start)
        if transform != Transform.PLAIN:
            residuals = np.cumsum(residuals) + np.int64(start)
    return residuals


def numbers(count: int, read: Reader) -> list[int]:
    """As `decode`; a few, of the plain kinds, without arrays.

    Raises: WireError.
    """
    begun, mode = read.at, read.u8()
    transform, how = mode & 3, mode >> 2 & 7
    few = count < SMALL and transform <= Transform.DELTA and how <= Packing.VARINTS
    if not few or mode & HAS_CENTRES:
        read.at = begun
        found: list[int] = decode(count, read).tolist()
        return found
    at = read.signed() if transform else 0
    offset = read.signed() if mode & HAS_OFFSET else 0
    words = [read.varint() for _ in range(count)] if how else [0] * count
    few_found = []
    for word in words:
        step = (word if mode & UNSIGNED else unzigzag(word)) + offset
        at = wrap(at + step if transform else step)
        few_found.append(at)
    return few_found


def _centres(count: int, lag: int, read: Reader) -> Ints:
    """For each number its period's centre. The inner block has none: this ends."""
    if lag < MIN_CENTRED_LAG:
        raise read.fail(f"centres for a lag from {MIN_CENTRED_LAG}", lag)
    found: Ints = np.repeat(decode(-(-count // lag), read), lag)[:count]
    return found


def _unlag(residuals: Ints, lag: int, start: int) -> Ints:
    residuals = residuals.copy()
    residuals[:lag] = np.cumsum(residuals[:lag]) + np.int64(start)
    padded = np.zeros((-(-len(residuals) // lag), lag), np.int64)
    padded.ravel()[: len(residuals)] = residuals
    found: Ints = np.cumsum(padded, axis=0).ravel()[: len(residuals)]
    return found
