"""Doubles that were rounded to some decimal place, as integers and exponents: exactly, or not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.wire.cursor import Reader

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

PLACES: Final = range(-6, 10)  # decimal places that the writer tries
MAX_PLACES: Final = 22  # 10**22 is the highest power of ten that a double holds exactly
FEW: Final = 32  # below, reading each number's text is faster than trying all places at once
SAMPLE: Final = 8  # so many values say how many places to try first
EXACT: Final = 1 << 53


def decimals_of(values: Doubles, groups: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
    """(places, digits, odd): value = digits / 10**places for every row that is not odd.

    places is the same within a group. groups: from 0.
    """
    shared = _shared(values, groups)
    if shared is not None:
        return *shared, np.zeros(len(values), np.bool_)
    most = _most_places(values, groups)
    places: Ints = most[groups]
    digits = _digits(values, places)
    odd = ~_same(doubles_at(places, digits), values)
    digits[odd] = 0
    return places, digits, odd


def _shared(values: Doubles, groups: Ints) -> tuple[Ints, Ints] | None:
    """(places, digits) when every group needs as many places as the first values do."""
    places = max(map(_places_of, values[:SAMPLE].tolist()))
    if places <= 0:
        return None
    with np.errstate(all="ignore"):
        scaled = np.rint(values * TENS[places]) + 0.0
        if not (_same(scaled / TENS[places], values) & (np.abs(scaled) < EXACT)).all():
            return None
    digits = scaled.astype(np.int64)
    needed = np.zeros(int(groups.max()) + 1, np.bool_)
    needed[groups[digits % 10 != 0]] = True
    return (np.full(len(values), places), digits) if needed.all() else None


def _most_places(values: Doubles, groups: Ints) -> Ints:
    """Of each group as many as its numbers need; zero and what is no short decimal needs none."""
    most = np.full(int(groups.max()) + 1, PLACES.start, np.int64)
    if len(values) < FEW:
        np.maximum.at(most, groups, np.array(list(map(_places_of, values.tolist())), np.int64))
        return most
    left = np.flatnonzero(values)
    whole = left
    for places in range(PLACES.stop):  # a number that needs fewer has these too
        fits = _fit(values[left], places)
        most[groups[left[fits]]] = places
        if places == 0:
            whole = left[fits]
        left = left[~fits]
        if not len(left):
            break
    whole = whole[most[groups[whole]] == 0]  # others in their group need more
    most[groups[whole]] = PLACES.start
    for places in range(PLACES.start, 1):
        if not len(whole):
            break
        fits = _fit(values[whole], places)
        most[groups[whole[fits]]] = places
        whole = whole[~fits]
    return most


def _fit(values: Doubles, places: int) -> NDArray[np.bool_]:
    """Which of them have so many places, or fewer."""
    power = TENS[abs(places)]
    with np.errstate(all="ignore"):
        digits = np.rint(values * power if places >= 0 else values / power) + 0.0
        back = digits / power if places >= 0 else digits * power
        fits: NDArray[np.bool_] = _same(back, values) & (np.abs(digits) < EXACT)
    return fits


def _places_of(value: float) -> int:
    """By the shortest text that means this double."""
    text = repr(float(value))
    whole, _, part = text.partition(".")
    if part != "0" and part.isdigit():
        return len(part) if len(part) < PLACES.stop else PLACES.start
    if not value or not math.isfinite(value):
        return PLACES.start
    if "e" in text:
        places = -int(Decimal(text).normalize().as_tuple().exponent)
    else:
        places = len(whole.rstrip("0")) - len(whole)
    return max(places, PLACES.start) if places < PLACES.stop else PLACES.start


def few_decimals(
    values: Sequence[float], groups: Sequence[int] | None = None
) -> tuple[list[int], list[int]] | None:
    """(places, digits) as `decimals_of`; None when a value is odd. groups: None is one group."""
    if groups is None:
        places = [max(map(_places_of, values))] * len(values)
    else:
        most: dict[int, int] = {}
        for value, group in zip(values, groups, strict=True):
            most[group] = max(most.get(group, PLACES.start), _places_of(value))
        places = [most[group] for group in groups]
    digits = [_digits_of(value, power) for value, power in zip(values, places, strict=True)]
    whole = [digit for digit in digits if digit is not None]
    return (places, whole) if len(whole) == len(digits) else None


def _digits_of(value: float, places: int) -> int | None:
    """At so many places; None when that is not this value."""
    power = POWERS[abs(places)]
    scaled = value * power if places >= 0 else value / power
    if not -EXACT < scaled < EXACT:
        return None
    digits = round(scaled)
    if (digits / power if places >= 0 else digits * power) != value:
        return None
    return digits if value or math.copysign(1.0, value) > 0 else None


def decimal_of(value: float) -> tuple[int, int] | None:
    """(places, digits) of one value, None when it is no short decimal."""
    places = _places_of(value)
    digits = _digits_of(value, places)
    return None if digits is None else (places, digits)


def _digits(values: Doubles, places: Ints) -> Ints:
    with np.errstate(all="ignore"):
        scaled = np.where(
            places >= 0, values * _power(places), values / _power(np.negative(places))
        )
        scaled = np.rint(scaled)
        return np.where(np.abs(scaled) < EXACT, scaled, 0.0).astype(np.int64)


def doubles_at(places: Ints, digits: Ints) -> Doubles:
    """One correctly rounded operation each: the same double everywhere."""
    plain = digits.astype(np.float64)
    return np.where(places >= 0, plain / _power(places), plain * _power(np.negative(places)))


def doubles_of(places: Ints, digits: Ints, read: Reader) -> Doubles:
    """`doubles_at` for numbers from outside.

    Raises: WireError.
    """
    if not (_within(places, MAX_PLACES) and _within(digits, EXACT - 1)):
        raise read.fail(f"at most {MAX_PLACES} places and digits below 2**53", "more")
    return doubles_at(places, digits)


def _within(values: Ints, most: int) -> bool:
    return not len(values) or bool(values.min() >= -most and values.max() <= most)


def double_of(places: int, digits: int, read: Reader) -> float:
    """Of one number from outside.

    Raises: WireError.
    """
    if abs(places) > MAX_PLACES or abs(digits) >= EXACT:
        raise read.fail(f"at most {MAX_PLACES} places and digits below 2**53", "more")
    return digits / 10.0**places if places >= 0 else digits * 10.0**-places


def few_doubles(places: int, digits: Sequence[int], read: Reader) -> list[float]:
    """As `doubles_of`, all with these places.

    Raises: WireError.
    """
    if abs(places) > MAX_PLACES or min(digits) <= -EXACT or max(digits) >= EXACT:
        raise read.fail(f"at most {MAX_PLACES} places and digits below 2**53", "more")
    power = 10.0 ** abs(places)
    return [n / power for n in digits] if places >= 0 else [n * power for n in digits]


def _power(places: Ints) -> Doubles:
    return TENS[np.minimum(np.maximum(places, 0), MAX_PLACES)]


POWERS: Final = [float(10**places) for places in range(MAX_PLACES + 1)]
TENS = np.array(POWERS)


def _same(some: Doubles, others: Doubles) -> NDArray[np.bool_]:
    """Bit by bit: minus zero is not zero, and a NaN is itself."""
    same: NDArray[np.bool_] = some.view(np.int64) == others.view(np.int64)
    return same
