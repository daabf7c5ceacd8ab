"""The publisher's side: the shortest of copies, residuals, snapped steps, planes and zstd.

What the mode is follows from the packages: nothing but metadata or a head changed, and it is
copies and a small rest; all weights moved, and the rest is small beside the lanes; nothing is
alike, and it is the whole package in planes.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.modeldelta import lanes as arithmetic
from edge_agent.core.modeldelta.decoder import gathered
from edge_agent.core.modeldelta.form import (
    MAX_SPANS,
    Lane,
    Span,
    counted,
    primer_of,
    sealed,
    squeeze,
    squeeze_noise,
    write_header,
    write_spans,
)
from edge_agent.core.modeldelta.lanes import LANE_ITEMS, WIDTH, Form, Kind, Words
from edge_agent.core.modeldelta.match import Pair, pairs
from edge_agent.core.modeldelta.snapping import found_scale, steps_of

PLAIN_LEVEL: Final = 3  # of numbers without a base: some do repeat
DENSE_LEVEL: Final = 9  # the rest beside large lanes
SMALL_LEVEL: Final = 19
LARGE_LEVEL: Final = 17  # of what is beyond SMALL_BYTES
SMALL_BYTES: Final = 1 << 22
MIN_BLOCK_BYTES: Final = 2048
POOR: Final = 0.7  # of its size: a residual beyond is compared with the numbers themselves
POOR_DELTA: Final = 0.75  # of the package: compared with one that needs no base
NEARLY: Final = 1.01  # so much longer may that one be


NO_ENDS: Final = np.empty(0, np.intp)


class Load(NamedTuple):
    """A lane with its spans, `lane` in them yet to be numbered, and its bytes."""

    lane: Lane
    pieces: list[Span]
    body: bytes


def encode(base: bytes, new: bytes) -> bytes:
    """What makes `new` of `base`; of b"" for one that needs no base. Deterministic."""
    made = _against(base, new)
    if base and len(made) > POOR_DELTA * len(new):
        bare = _against(b"", new)
        return bare if len(bare) <= NEARLY * len(made) else made
    return made


def _against(base: bytes, new: bytes) -> bytes:
    groups: defaultdict[tuple[Kind, Form], list[tuple[Pair, float]]] = defaultdict(list)
    spans = []
    for pair in pairs(base, new)[: MAX_SPANS // 2]:
        if pair.kind is None:
            spans.append(Span(pair.at, pair.size, 0, pair.base_at))
            continue
        scale = found_scale(base, new, pair) if pair.base_at >= 0 else 0.0
        form = Form.SNAPPED if scale else Form.RESIDUAL if pair.base_at >= 0 else Form.PLAIN
        groups[pair.kind, form].append((pair, scale))
    loads = [
        _load(base, new, Lane(kind, form), cut)
        for (kind, form), found in groups.items()
        for cut in _cuts(found, LANE_ITEMS * WIDTH[kind])
    ]
    for number, load in enumerate(loads, start=1):
        spans += [Span(s.at, s.size, number, s.base_at) for s in load.pieces]
    spans.sort(key=lambda span: span.at)
    return _whole(base, new, spans, loads)


def _cuts(found: list[tuple[Pair, float]], most_bytes: int) -> list[list[tuple[Pair, float]]]:
    """Lanes of at most `most_bytes`: large tensors are cut, small ones share."""
    lanes: list[list[tuple[Pair, float]]] = [[]]
    free = most_bytes
    for pair, scale in found:
        done = 0
        while done < pair.size:
            if not free:
                lanes.append([])
                free = most_bytes
            size = min(free, pair.size - done)
            base_at = pair.base_at + done if pair.base_at >= 0 else -1
            lanes[-1].append((Pair(pair.at + done, size, base_at, pair.kind), scale))
            done += size
            free -= size
    return lanes


def _load(base: bytes, new: bytes, lane: Lane, cut: list[tuple[Pair, float]]) -> Load:
    pieces = [Span(pair.at, pair.size, 1, pair.base_at) for pair, _ in cut]
    after = arithmetic.words(lane.kind, _taken(new, pieces))
    if lane.form is Form.SNAPPED:
        body = _snapped(base, new, cut)
        if lane.kind is Kind.F32:
            return Load(lane, pieces, body)
        other = _residual(base, lane.kind, pieces, after)  # steps of a few last places
        if len(body) <= len(other):
            return Load(lane, pieces, body)
        return Load(Lane(lane.kind, Form.RESIDUAL), pieces, other)
    if lane.form is Form.RESIDUAL:
        body = _residual(base, lane.kind, pieces, after)
        if len(body) <= POOR * after.nbytes:
            return Load(lane, pieces, body)
        plain = _plain(lane.kind, after)
        if len(body) <= len(plain):
            return Load(lane, pieces, body)
    bare = [Span(span.at, span.size, 1, -1) for span in pieces]
    return Load(Lane(lane.kind, Form.PLAIN), bare, _plain(lane.kind, after))


def _plain(kind: Kind, after: Words) -> bytes:
    turned = arithmetic.turned(kind, after)
    return min(_planes(turned, NO_ENDS), _planes(turned, NO_ENDS, PLAIN_LEVEL), key=len)


def _residual(base: bytes, kind: Kind, pieces: list[Span], after: Words) -> bytes:
    before = arithmetic.words(kind, gathered(memoryview(base), pieces))
    added = arithmetic.residual(kind, before, after)
    places, ends = arithmetic.order(kind, before)
    if places is None:
        ends = np.cumsum([span.size // WIDTH[kind] for span in pieces])
        return _planes(added, ends)
    return _planes(added[places], ends)


def _snapped(base: bytes, new: bytes, cut: list[tuple[Pair, float]]) -> bytes:
    scales = np.array([scale for _, scale in cut], "<f4").tobytes()
    steps = np.concatenate([steps_of(base, new, pair, scale) for pair, scale in cut])
    return scales + _planes(arithmetic.zigzag(steps.view(np.uint8)), NO_ENDS)


def _planes(given: Words, ends: NDArray[np.intp], level: int = 0) -> bytes:
    """ends: where another distribution begins. level 0: of noise."""
    out = []
    for plane in arithmetic.planes(given):
        bits, packed = arithmetic.packed(plane)
        out.append(bytes((bits,)))
        if bits:
            borders = _borders(-(-ends * bits // 8), len(packed))
            frame = squeeze(packed, level) if level else squeeze_noise(packed, borders)
            out.append(counted(frame))
    return b"".join(out)


def _borders(ends: NDArray[np.intp], size: int) -> list[int]:
    """Of blocks that are all worth their Huffman table."""
    found = [0]
    for end in ends.tolist():
        if end - found[-1] >= MIN_BLOCK_BYTES and size - end >= MIN_BLOCK_BYTES:
            found.append(end)
    return found[1:]


def _whole(base: bytes, new: bytes, spans: list[Span], loads: list[Load]) -> bytes:
    rest = _outside(new, spans)
    primer = primer_of(memoryview(base), spans) if rest else b""
    large = len(rest) + len(primer) > SMALL_BYTES
    level = LARGE_LEVEL if large else DENSE_LEVEL if loads else SMALL_LEVEL
    frame = squeeze(rest, level, primer)
    needs_base = bool(primer) or any(span.base_at >= 0 for span in spans)
    return sealed(
        b"".join(
            (
                write_header(base, new, [load.lane for load in loads], needs_base=needs_base),
                write_spans(spans),
                bytes((bool(primer),)),
                counted(frame),
                *(load.body for load in loads),
            )
        )
    )


def _taken(package: bytes, pieces: list[Span]) -> bytes:
    whole = memoryview(package)
    return b"".join(whole[span.at : span.at + span.size] for span in pieces)


def _outside(new: bytes, spans: list[Span]) -> bytes:
    """What no span covers."""
    edges = [0, *(edge for span in spans for edge in (span.at, span.at + span.size)), len(new)]
    return b"".join(new[a:b] for a, b in list(pairwise(edges))[::2])
