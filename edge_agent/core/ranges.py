"""Sets of sequence numbers as sorted, disjoint, inclusive ranges `(a, b)`; neighbours are merged.

Small by nature: what is acknowledged or void in a log is a few ranges, whatever their width.
"""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]
Ranges = tuple[Range, ...]


def union(*sets: Iterable[Range]) -> Ranges:
    """All numbers of any; the input need be neither sorted nor disjoint."""
    merged: list[Range] = []
    for a, b in sorted(one for each in sets for one in each if one[0] <= one[1]):
        if merged and a <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(b, merged[-1][1]))
        else:
            merged.append((a, b))
    return tuple(merged)


def subtract(whole: Ranges, away: Ranges) -> Ranges:
    """The numbers of `whole` that are not in `away`; both sorted and disjoint."""
    left: list[Range] = []
    start = 0  # the first of `away` that may still matter
    for a, b in whole:
        low = a
        while start < len(away) and away[start][1] < low:
            start += 1
        for c, d in away[start:]:
            if c > b:
                break
            if c > low:
                left.append((low, c - 1))
            low = max(low, d + 1)
        if low <= b:
            left.append((low, b))
    return tuple(left)


def intersect(one: Ranges, other: Ranges) -> Ranges:
    return subtract(one, subtract(one, other))


def clip(ranges: Iterable[Range], low: int, high: int) -> Ranges:
    """What lies within [low, high]."""
    return tuple((max(a, low), min(b, high)) for a, b in ranges if b >= low and a <= high)


def count(ranges: Iterable[Range]) -> int:
    return sum(b - a + 1 for a, b in ranges)


def lowest(ranges: Ranges, limit: int) -> Ranges:
    """The lowest `limit` numbers."""
    taken: list[Range] = []
    for a, b in ranges:
        if limit <= 0:
            break
        taken.append((a, min(b, a + limit - 1)))
        limit -= b - a + 1
    return tuple(taken)


def holds(ranges: Iterable[Range], number: int) -> bool:
    return any(a <= number <= b for a, b in ranges)


def of(numbers: Iterable[int]) -> Ranges:
    """Ranges of single numbers."""
    return union((n, n) for n in numbers)
