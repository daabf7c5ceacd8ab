"""Columns of integers: predict, subtract, pack. The writer tries, the first byte says what won.

    block = mode [lag] [start] [slope] [centres] [offset] packed residuals

Everything is arithmetic modulo 2**64 in two's complement, so nothing overflows and every column of
64-bit integers comes back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
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
from edge_agent.core.wire.cursor import MASK, Reader, signed, varint, wrap
from edge_agent.core.wire.packing import Words

Ints = NDArray[np.int64]

SUMMED_BITS: Final = 40  # so large numbers may be added up, as many as a table has rows
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


class Way(NamedTuple):
    """How to foretell a column. centred: what all numbers of a period share is said once."""

    transform: int
    lag: int = 0
    centred: bool = False


class Trial(NamedTuple):
    """What is left to say of a column, the middle of that, and of each period if it has one."""

    residuals: Ints
    middle: int
    centres: Ints | None


_WAYS: Final = (Way(PLAIN), Way(DELTA), Way(DELTA2))


def encode(values: Ints | Sequence[int], lags: Sequence[int] = ()) -> bytes:
    """The shortest block that was found. lags: periods worth a try, such as points per contour."""
    if len(values) < few.FEW:
        return few.encode(values.tolist() if isinstance(values, np.ndarray) else values, lags)
    numbers: Ints = np.asarray(values, np.int64)
    head = numbers[:SAMPLE]
    ways = [*_WAYS, *_periodic(len(head), lags)]
    trials, centres = _trials(head, ways)
    middles = _middles(trials)
    promises = _promises(trials, middles)
    for index, common in centres.items():
        promises[index] += _promises(common[None], _middles(common[None]))[0]
    best = int(promises.argmin())
    middle = int(middles[best])
    if len(numbers) > len(head):
        ways = [ways[best]]
        trials, centres = _trials(numbers, ways)
        best, middle = 0, int(_middles(trials)[0])
    return _finish(numbers, ways[best], Trial(trials[best], middle, centres.get(best)))


def _periodic(count: int, lags: Sequence[int]) -> Iterator[Way]:
    for lag in lags:
        if 2 <= lag <= count // 2:
            yield Way(LAG, lag)
            if lag >= MIN_CENTRED_LAG:
                yield Way(LAG, lag, centred=True)


def _trials(values: Ints, ways: Sequence[Way]) -> tuple[Ints, dict[int, Ints]]:
    """(a row of residuals for each way, the centres of those that have some).

    What only the first numbers need is not in it: `_start`.
    """
    trials = np.empty((len(ways), len(values)), np.int64)
    steps = np.empty_like(values)
    np.subtract(values[1:], values[:-1], out=steps[1:])
    steps[0] = steps[1]
    centres = {}
    for index, (way, row) in enumerate(zip(ways, trials, strict=True)):
        if way.transform == LAG:
            row[: way.lag] = steps[: way.lag]
            row[0] = 0
            np.subtract(values[way.lag :], values[: -way.lag], out=row[way.lag :])
            if way.centred:
                centres[index] = _centres_of(row, way.lag)
                np.subtract(row, np.repeat(centres[index], way.lag)[: len(row)], out=row)
        elif way.transform == DELTA2:
            row[:2] = 0
            np.subtract(steps[2:], steps[1:-1], out=row[2:])
        else:
            row[:] = steps if way.transform == DELTA else values
    return trials, centres


def _centres_of(residuals: Ints, lag: int) -> Ints:
    """The middle of each period: a contour that moves as one."""
    whole = len(residuals) // lag * lag
    common = _middles(residuals[:whole].reshape(-1, lag))
    if whole == len(residuals):
        return common
    return np.append(common, _middles(residuals[None, whole:]))


def _middles(rows: Ints) -> Ints:
    """Of each row."""
    ordered, middle = rows.copy(), rows.shape[1] // 2
    ordered.partition(middle, axis=1)
    found: Ints = ordered[:, middle]
    return found


def _promises(rows: Ints, middles: Ints) -> NDArray[np.float64]:
    """For each row about how much it will take around its middle; in bits x ln 2."""
    spread = (rows - middles[:, None]).astype(np.float64)
    np.abs(spread, out=spread)
    spread += 1.0
    found: NDArray[np.float64] = np.add.reduce(np.log(spread, out=spread), axis=1)
    return found


def _finish(values: Ints, way: Way, trial: Trial) -> bytes:
    """From the smallest upwards, or zigzag around the middle: whichever makes smaller numbers."""
    residuals, offset, flag = trial.residuals, trial.middle, 0
    start = _start(values, way, offset)
    if way.transform == DELTA:
        residuals[0] = offset
    low, high = int(np.minimum.reduce(residuals)), int(np.maximum.reduce(residuals))
    words = _zigzag(residuals - offset)
    total = int(np.add.reduce(words))
    top = max(2 * (high - offset), 2 * (offset - low) - 1)
    rising = int(np.add.reduce(residuals)) - low * len(residuals) & MASK
    if top >> SUMMED_BITS:
        top, total = int(np.maximum.reduce(words)), int(words.sum(dtype=np.float64))
    elif rising <= total:
        words, offset, flag = (residuals - low).view(np.uint64), low, UNSIGNED
        top, total = high - low, rising
    how, packed = packing.shortest(words, top, total)
    flag |= (HAS_OFFSET if offset else 0) | (HAS_CENTRES if way.centred else 0)
    head = bytes((way.transform | how << 2 | flag,)) + start
    shared = b"" if trial.centres is None else encode(trial.centres)
    return head + shared + (signed(offset) if offset else b"") + packed


def _start(values: Ints, way: Way, middle: int) -> bytes:
    """What stands between mode and centres."""
    first = int(values[0])
    if way.transform == DELTA:
        return signed(wrap(first - middle))
    if way.transform == DELTA2:
        slope = wrap(int(values[1]) - first)
        return signed(wrap(first - slope)) + signed(slope)
    return varint(way.lag) + signed(first) if way.lag else b""


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
    lag = lag_of(count, read) if transform == Transform.LAG else 0
    start = read.signed() if transform != Transform.PLAIN else 0
    slope = read.signed() if transform == Transform.DELTA2 else 0
    centres = _centres(count, lag, read) if mode & HAS_CENTRES else None
    offset = read.signed() if mode & HAS_OFFSET else 0
    words = packing.unpack(mode >> 2 & 7, count, read)
    residuals: Ints = words.view(np.int64) if mode & UNSIGNED else _unzigzag(words)
    if offset:
        residuals += np.int64(offset)
    if centres is not None:
        residuals += centres
    if transform == Transform.LAG:
        return _unlag(residuals, lag, start)
    if transform == Transform.DELTA2:
        residuals = _sums(residuals, slope)
    return residuals if transform == Transform.PLAIN else _sums(residuals, start)


def _sums(steps: Ints, start: int) -> Ints:
    """Changes its steps."""
    if len(steps):
        steps[:1] += np.int64(start)
    found: Ints = steps.cumsum()
    return found


def lag_of(count: int, read: Reader) -> int:
    """Raises: WireError."""
    lag = read.varint(max(count, 1))
    if lag < 1:
        raise read.fail("a lag from 1", lag)
    return lag


def _centres(count: int, lag: int, read: Reader) -> Ints:
    """For each number its period's centre. The inner block has none: this ends."""
    if lag < MIN_CENTRED_LAG:
        raise read.fail(f"centres for a lag from {MIN_CENTRED_LAG}", lag)
    found: Ints = np.repeat(decode(-(-count // lag), read), lag)[:count]
    return found


def _unlag(residuals: Ints, lag: int, start: int) -> Ints:
    residuals[:lag] = _sums(residuals[:lag], start)
    padded = np.zeros((-(-len(residuals) // lag), lag), np.int64)
    padded.ravel()[: len(residuals)] = residuals
    found: Ints = padded.cumsum(axis=0).ravel()[: len(residuals)]
    return found
