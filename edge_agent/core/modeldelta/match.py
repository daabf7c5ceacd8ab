"""Which bytes of the new package were where in the base, and which numbers became which.

The outcome is a list of spans in the order of the new package. What no span covers is the rest. A
span of equal bytes grows to both sides as far as the bytes stay equal, so that a package with
another head is three spans, not a hundred.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.modeldelta.lanes import Kind
from edge_agent.core.modeldelta.tensors import Member, Tensor, members, tensors

Bytes = NDArray[np.uint8]

MIN_COPY_BYTES: Final = 32  # a shorter one is found by zstd in the rest, for less
COMPARED_BYTES: Final = 1 << 16  # at once


class Pair(NamedTuple):
    """`size` bytes of the new package at `at`. base_at: what they were, -1: nothing.

    kind None: equal bytes.
    """

    at: int
    size: int
    base_at: int
    kind: Kind | None


def pairs(base: bytes, new: bytes) -> list[Pair]:
    """Disjoint and in order of the new package."""
    there, here = np.frombuffer(base, np.uint8), np.frombuffer(new, np.uint8)
    seeds = [
        pair._replace(kind=None) if _is_equal(there, here, pair) else pair
        for pair in matched(base, new)
    ]
    seeds += _ends(members(base), members(new))
    seeds.sort(key=lambda pair: (pair.at, pair.at + pair.size))
    grown = _grown(there, here, seeds)
    return [pair for pair in grown if pair.kind or pair.size >= MIN_COPY_BYTES]


def matched(base: bytes, new: bytes) -> Iterator[Pair]:
    """Every tensor of `new`: by file, name and size; what is left by kind and shape, in order."""
    before, after = tensors(base, members(base)), tensors(new, members(new))
    named = {(t.member, t.name, t.kind, t.size): t for t in reversed(before)}
    partner: dict[int, Tensor] = {}
    for tensor in after:
        mate = named.pop((tensor.member, tensor.name, tensor.kind, tensor.size), None)
        if mate:
            partner[tensor.at] = mate
    taken = {mate.at for mate in partner.values()}
    shaped = defaultdict(list)
    for tensor in reversed(before):
        if tensor.at not in taken:
            shaped[tensor.kind, tensor.dims].append(tensor)
    for tensor in after:
        left = shaped[tensor.kind, tensor.dims]
        mate = partner.get(tensor.at) or (left.pop() if left else None)
        yield Pair(tensor.at, tensor.size, mate.at if mate else -1, tensor.kind)


def _ends(before: Iterable[Member], after: Iterable[Member]) -> list[Pair]:
    """Both ends of each file that both packages have: equal bytes may grow from there."""
    named = {file.name: file for file in before}
    mates = [(named[file.name], file) for file in after if file.name in named]
    starts = [Pair(new.start, 0, old.start, None) for old, new in mates]
    return starts + [Pair(new.end, 0, old.end, None) for old, new in mates]


def _grown(there: Bytes, here: Bytes, seeds: list[Pair]) -> list[Pair]:
    """Equal bytes to both sides, never into a neighbour; two that meet become one."""
    kept: list[Pair] = []
    for seed, ceiling in zip(seeds, _ceilings(seeds, len(here)), strict=True):
        floor = kept[-1].at + kept[-1].size if kept else 0
        if seed.at < floor:  # the one before grew over it
            continue
        if seed.kind is not None:
            kept.append(seed)
            continue
        grown = _grow(there, here, seed, floor, ceiling)
        if kept and _is_one(kept[-1], grown):
            kept[-1] = kept[-1]._replace(size=kept[-1].size + grown.size)
        else:
            kept.append(grown)
    return kept


def _ceilings(seeds: list[Pair], end: int) -> list[int]:
    """Where the next seed of some size begins, for each."""
    found = []
    for seed in reversed(seeds):
        found.append(end)
        end = seed.at if seed.size else end
    return found[::-1]


def _grow(there: Bytes, here: Bytes, seed: Pair, floor: int, ceiling: int) -> Pair:
    back = _tail(there[: seed.base_at], here[floor : seed.at])
    there_end, here_end = seed.base_at + seed.size, seed.at + seed.size
    ahead = _head(there[there_end:], here[here_end:ceiling])
    return Pair(seed.at - back, seed.size + back + ahead, seed.base_at - back, None)


def _is_one(left: Pair, right: Pair) -> bool:
    meets = left.at + left.size == right.at and left.base_at + left.size == right.base_at
    return meets and left.kind is None and right.kind is None


def _is_equal(there: Bytes, here: Bytes, pair: Pair) -> bool:
    if pair.base_at < 0:
        return False
    before = there[pair.base_at : pair.base_at + pair.size]
    return _head(before, here[pair.at : pair.at + pair.size]) == pair.size


def _head(left: Bytes, right: Bytes) -> int:
    """How many bytes are equal from the start."""
    most = min(len(left), len(right))
    for at in range(0, most, COMPARED_BYTES):
        cut = slice(at, min(most, at + COMPARED_BYTES))
        differs = left[cut] != right[cut]
        if differs.any():
            return at + int(differs.argmax())
    return most


def _tail(left: Bytes, right: Bytes) -> int:
    """How many bytes are equal from the end."""
    return _head(left[::-1], right[::-1])
