"""Fields: rows of one moment are kept, combs of the other go, and nothing else changes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.fields import COMB, deinterlaced

Picture = np.ndarray[Any, np.dtype[np.uint8]]
ORDERS = ("top", "bottom")


def plainly(woven: Picture, first: str) -> Picture:
    """The rule, row by row."""
    rows = woven.reshape(len(woven), -1).astype(int)
    start = 0 if first == "top" else 1
    kept, other = rows[start::2], rows[1 - start :: 2]
    out, teeth, between = rows.copy(), np.zeros(other.shape, int), np.zeros(other.shape, int)
    for number in range(len(other)):
        above = kept[np.clip(number - start, 0, len(kept) - 1)]
        below = kept[np.clip(number - start + 1, 0, len(kept) - 1)]
        low, high = np.minimum(above, below), np.maximum(above, below)
        between[number] = low + (high - low) // 2
        sticks_out = (other[number] > high + COMB).astype(int)
        teeth[number] = sticks_out - (other[number] < low - COMB)
    for number in range(len(other)):
        near = [teeth[n] for n in (number - 1, number + 1) if 0 <= n < len(other)]
        combed = (teeth[number] != 0) & np.any([teeth[number] == row for row in near], axis=0)
        out[2 * number + 1 - start] = np.where(combed, between[number], other[number])
    return np.asarray(out.reshape(woven.shape), np.uint8)


@given(
    height=st.integers(4, 70),
    channels=st.sampled_from([None, 3]),
    first=st.sampled_from(ORDERS),
    seed=st.integers(0, 999),
    depth=st.sampled_from([2, 24, 255]),
)
def test_any_picture_is_as_the_rule_says(
    height: int, channels: int | None, first: Literal["top", "bottom"], seed: int, depth: int
) -> None:
    shape = (height, 7) if channels is None else (height, 7, channels)
    woven = np.random.default_rng(seed).integers(0, depth, shape, np.uint8, endpoint=True)
    before = woven.copy()
    found = deinterlaced(woven, first)
    assert np.array_equal(found, plainly(woven, first))
    assert np.array_equal(woven, before)
    assert not np.shares_memory(found, woven)


@pytest.mark.parametrize("first", ORDERS)
def test_what_moved_has_no_comb_and_what_stood_still_its_thin_line(
    first: Literal["top", "bottom"],
) -> None:
    moved = np.zeros((40, 60), np.uint8)
    moved[0::2, 10:20] = 200
    moved[1::2, 30:40] = 200
    whole = deinterlaced(moved, first)
    assert len({tuple(row) for row in whole.tolist()}) == 1, "every row shows one moment"
    still = np.full((40, 60), 20, np.uint8)
    still[17] = 240
    assert np.array_equal(deinterlaced(still, first), still)
