"""Snapped updates: the publisher moves each weight to a whole number of steps from the base.

new = base + scale * k, one scale for each tensor and k in 8 or 4 bits. That changes the model a
little, once, before it is tested and signed; after that it is exact for everyone, and its delta is
what k weighs. Whoever publishes it tests what came out, not what went in.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import Rejected
from edge_agent.core.modeldelta import lanes as arithmetic
from edge_agent.core.modeldelta.lanes import SNAPPABLE, WIDTH, Words
from edge_agent.core.modeldelta.match import Pair, matched

MIN_ITEMS: Final = 1024  # smaller tensors (biases, norms) weigh nothing and stay exact
STEPS: Final = {8: 127, 4: 7}
GRID: Final = 16  # scales in an octave: so few that the decoder's product is exact, and so that
# the encoder finds the one that was used
TRIED: Final = 3 * GRID  # for each number of bits
SAMPLED: Final = 4096
SMALLEST, LARGEST = 1e-30, 1e30  # steps that are normal single floats, and none that overflows
PROBED: Final = 64  # of the sample


def snap(base_onnx: bytes, new_onnx: bytes, bits: Literal[4, 8] = 8) -> bytes:
    """The new file with every large float tensor on whole steps from the base's.

    Raises: Rejected when no tensor of the two matches.
    """
    out = bytearray(new_onnx)
    snapped = 0
    for pair in matched(base_onnx, new_onnx):
        if pair.kind is None or not _is_snappable(pair):
            continue
        snapped += 1
        before, after = _bits(base_onnx, pair.base_at, pair), _bits(new_onnx, pair.at, pair)
        step = _step(before, after, pair)
        most = float(np.abs(step).max())
        if not SMALLEST < most < LARGEST:
            continue
        scale = _grid(most / STEPS[bits], 1)[0]
        moved = arithmetic.stepped(pair.kind, before, scale, _rounded(step, scale))
        out[pair.at : pair.at + pair.size] = moved.tobytes()
    if not snapped:
        raise Rejected(
            f"snap model: expected float tensors of {MIN_ITEMS} numbers that both files have, got "
            "none",
            hint="give the ONNX file that the new one was trained from",
        )
    return bytes(out)


def _is_snappable(pair: Pair) -> bool:
    return (
        pair.kind in SNAPPABLE and pair.base_at >= 0 and pair.size // WIDTH[pair.kind] >= MIN_ITEMS
    )


def _grid(least: float, count: int) -> list[float]:
    """The first scales of the grid that are not below `least`."""
    fraction, exponent = math.frexp(least)
    first = math.ceil(fraction * 2 * GRID) - GRID
    places = (divmod(first + step, GRID) for step in range(count))
    return [math.ldexp(GRID + place, exponent + octave) / (2 * GRID) for octave, place in places]


def _bits(package: bytes, at: int, pair: Pair) -> Words:
    assert pair.kind is not None
    return np.frombuffer(package, f"<u{WIDTH[pair.kind]}", pair.size // WIDTH[pair.kind], at)


def _step(before: Words, after: Words, pair: Pair) -> NDArray[np.float32]:
    """What was added to each number."""
    assert pair.kind is not None
    kind = SNAPPABLE[pair.kind]
    with np.errstate(all="ignore"):
        return after.view(kind).astype(np.float32) - before.view(kind).astype(np.float32)


def _rounded(step: NDArray[np.float32], scale: float | NDArray[np.float32]) -> NDArray[np.int8]:
    whole = np.rint(step / np.asarray(scale, np.float32))
    steps: NDArray[np.int8] = np.clip(whole, -128, 127).astype(np.int8)
    return steps


def found_scale(base: bytes, new: bytes, pair: Pair) -> float:
    """The scale whose whole steps lead from the base to exactly these bits; 0.0: there is none.

    Most tensors are refused by a few of their numbers.
    """
    if not _is_snappable(pair):
        return 0.0
    before, after = _bits(base, pair.base_at, pair), _bits(new, pair.at, pair)
    stride = -(-len(before) // SAMPLED)
    likely = _likely(before[::stride], after[::stride], pair)
    return next((scale for scale in likely if _leads(before, after, pair, scale)), 0.0)


def _likely(before: Words, after: Words, pair: Pair) -> list[float]:
    """Scales that a sample agrees with, the largest first; its largest step tells their range."""
    step = _step(before, after, pair)
    most = float(np.abs(step).max())
    if pair.kind is None or not SMALLEST < most < LARGEST:  # NaN is neither
        return []
    tried = sorted({s for limit in STEPS.values() for s in _grid(most / limit / 1.2, TRIED)})
    scales = np.array(tried[::-1], np.float32)
    steps = _rounded(step[:PROBED, np.newaxis], scales)
    moved = arithmetic.stepped(pair.kind, before[:PROBED, np.newaxis], scales, steps)
    leads = (moved == after[:PROBED, np.newaxis]).all(axis=0)
    return [scale for scale, lead in zip(tried[::-1], leads, strict=True) if lead]


def _leads(before: Words, after: Words, pair: Pair, scale: float) -> bool:
    assert pair.kind is not None
    step = _step(before, after, pair)
    if not np.isfinite(step).all():
        return False
    moved = arithmetic.stepped(pair.kind, before, scale, _rounded(step, scale))
    return np.array_equal(moved, after)


def steps_of(base: bytes, new: bytes, pair: Pair, scale: float) -> NDArray[np.int8]:
    """The whole steps of a tensor, or of a piece of one, whose scale was found."""
    before, after = _bits(base, pair.base_at, pair), _bits(new, pair.at, pair)
    return _rounded(_step(before, after, pair), scale)
