"""Columns of integers: predict, subtract, pack. The writer tries, the first byte says what won.

    block = mode [lag] [start] [slope] [centres] [offset] packed residuals

Everything is arithmetic modulo 2**64 in two's complement, so nothing overflows and every column of
64-bit integers comes back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from operator import sub
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire import few, packing
from edge_agent.core.wire.blocks import (
    DELTA,
    DELTA2,
    HAS_CENTRES,
    HAS_OFFSET,
    HIGHEST,
    LAG,
    LOWEST,
    MIN_CENTRED_LAG,
    PLAIN,
    UNSIGNED,
    Transform,
)
from edge_agent.core.wire.cursor import Reader, signed, unzigzag, varint, wrap
from edge_agent.core.wire.packing import Packing, Words

Ints = NDArray[np.int64]

SMALL: Final = 12  # below this many numbers, plain loops are faster than numpy
SAMPLE: Final = 4096  # so many numbers say how all of them are best foretold
_ONE = np.uint64(1)


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
    left = list(values)
    for column in (left, *others):
        if not (set(map(type, column)) <= {int, bool} and _fit(column)):
            ints_of(column)  # says which
    for other in others:
        left = list(map(sub, left, other))
    return left if _fit(left) else list(map(wrap, left))


def _fit(values: Sequence[int]) -> bool:
    return not values or (min(values) >= LOWEST and max(values) <= HIGHEST)


class Trial(NamedTuple):
    """One way to foretell a column, not packed yet.

    extra: its bytes between mode and centres. middle: of the residuals, or nearly.
    """

    transform: int
    extra: bytes
    residuals: Ints
    middle: int
    centres: Ints | None = None


def encode(values: Ints | Sequence[int], lags: Sequence[int] = ()) -> bytes:
    """The shortest block that was found. lags: periods worth a try, such as points per contour."""
    if len(values) < few.FEW:
        return few.encode(values.tolist() if isinstance(values, np.ndarray) else values, lags)
    numbers: Ints = np.asarray(values, np.int64)
    lags = [lag for lag in lags if 2 <= lag <= min(len(values), SAMPLE) // 2]
    trials = list(_trials(numbers[:SAMPLE], lags))
    promises = [_promise(trial) for trial in trials]
    best = promises.index(min(promises))
    if len(values) > SAMPLE:
        return _finish(next(islice(_trials(numbers, lags), best, None)))
    return _finish(trials[best])


def _trials(values: Ints, lags: Sequence[int]) -> Iterator[Trial]:
    yield Trial(PLAIN, b"", values, _middle(values))
    first = int(values[0])
    steps = np.empty_like(values)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    middle = _middle(steps[1:])
    steps[0] = middle
    yield Trial(DELTA, signed(wrap(first - middle)), steps, middle)
    slope = int(steps[1])
    bends = np.zeros_like(values)
    np.subtract(steps[2:], steps[1:-1], out=bends[2:])
    yield Trial(DELTA2, signed(wrap(first - slope)) + signed(slope), bends, _middle(bends))
    for lag in lags:
        residuals = steps.copy()
        residuals[0] = 0
        np.subtract(values[lag:], values[:-lag], out=residuals[lag:])
        trial = Trial(LAG, varint(lag) + signed(first), residuals, _middle(residuals))
        yield trial
        if lag >= MIN_CENTRED_LAG:
            yield _centred(trial, lag)


def _centred(trial: Trial, lag: int) -> Trial:
    """What all numbers of a period have in common is said once: a contour that moves as one."""
    residuals = trial.residuals
    whole = len(residuals) // lag * lag
    periods = residuals[:whole].reshape(-1, lag).copy()
    periods.partition(lag // 2, axis=1)
    common = periods[:, lag // 2]
    if whole < len(residuals):
        common = np.append(common, _middle(residuals[whole:]))
    rest = residuals - np.repeat(common, lag)[: len(residuals)]
    return Trial(LAG, trial.extra, rest, _middle(rest), common)


def _middle(values: Ints) -> int:
    ordered = values.copy()
    ordered.partition(len(values) // 2)
    return int(ordered[len(values) // 2])


def _promise(trial: Trial) -> float:
    """About how many bits these will take, around their middle."""
    spread = np.abs((trial.residuals - trial.middle).astype(np.float64))
    spread += 1.0
    bits = float(np.add.reduce(np.log(spread))) / _LN2
    if trial.centres is None:
        return bits
    return bits + _promise(Trial(PLAIN, b"", trial.centres, _middle(trial.centres)))


_LN2: Final = math.log(2)


def _finish(trial: Trial) -> bytes:
    """From the smallest upwards, or zigzag around the middle: whichever makes smaller numbers."""
    residuals, offset, flag = trial.residuals, trial.middle, 0
    words = _zigzag(residuals - offset)
    low = int(residuals.min())
    above = (residuals - low).view(np.uint64)
    if float(above.mean()) <= float(words.mean()):
        words, offset, flag = above, low, UNSIGNED
    how = packing.plan(words)
    flag |= (HAS_OFFSET if offset else 0) | (0 if trial.centres is None else HAS_CENTRES)
    head = bytes((trial.transform | how.packing << 2 | flag,)) + trial.extra
    centres = b"" if trial.centres is None else encode(trial.centres)
    return head + centres + (signed(offset) if offset else b"") + packing.pack(words, how)


def _zigzag(values: Ints) -> Words:
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def _unzigzag(words: Words) -> Ints:
    found: Ints = ((words >> _ONE) ^ (~(words & _ONE) + _ONE)).view(np.int64)
    return found


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
