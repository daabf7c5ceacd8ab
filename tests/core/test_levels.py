from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.levels import Rule, needed, wider

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@pytest.mark.parametrize(
    ("high", "bits", "words"),
    [
        (0, 8, "uses 8 of 16 bits, shown as they are"),
        (200, 8, "uses 8 of 16 bits, shown as they are"),
        (1023, 10, "uses 10 of 16 bits, shown divided by 4"),
        (4095, 12, "uses 12 of 16 bits, shown divided by 16"),
        (4096, 13, "uses 13 of 16 bits, shown divided by 32"),
        (65535, 16, "uses 16 of 16 bits, shown divided by 256"),
        (1 << 20, 21, "uses 21 of 32 bits, shown divided by 8192"),
    ],
)
def test_whole_numbers_are_shown_by_their_bits(high: int, bits: int, words: str) -> None:
    values = np.array([[0, high]], np.int32)
    rule = needed(values)
    assert (rule, rule.words) == (Rule("whole", bits), words)
    assert rule.shown(values).tolist() == [[0, high >> (bits - 8)]]


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(0.0, 1.0, 0), (0.0, 0.0, 0), (-0.02, 1.04, 0), (0, 255, 8), (0, 4095.5, 12), (0, 65535, 16)],
)
def test_reals_are_of_one_or_of_whole_levels(low: float, high: float, bits: int) -> None:
    values = np.array([[low, high / 2, high]], np.float32)
    rule = needed(values)
    assert rule == Rule("real", bits)
    top = 255 if bits else round(255 * min(1.0, high))
    assert rule.shown(values)[0, 2] == top
    assert rule.shown(values)[0, 0] == 0


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-1, 5]], np.int16),
        np.array([[0.0, np.nan]]),
        np.array([[0.0, np.inf]]),
        np.array([[0.0, 1.7]]),
        np.array([[-900.0, 3000.0]]),
        np.array([[0.0, 1e30]]),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="values"):
        needed(values)


@given(SHAPES, st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1))
def test_a_rule_keeps_order_and_uses_half_of_the_levels_or_more(
    shape: tuple[int, int], low: int, high: int
) -> None:
    low, high = min(low, high), max(low, high)
    values = np.linspace(low, high, shape[0] * shape[1]).astype(np.uint16).reshape(shape)
    values.flat[-1] = high
    rule = needed(values)
    shown = rule.shown(values)
    assert shown.dtype == np.uint8
    assert shown.shape == shape
    order = np.argsort(values, axis=None, kind="stable")
    assert np.all(np.diff(shown.ravel()[order].astype(int)) >= 0)
    assert shown.max() >= min(high, 128)
    broad = wider(rule, Rule("whole", 16))
    assert np.array_equal(broad.shown(values), (values >> 8).astype(np.uint8))


def test_the_wider_of_two_rules_shows_both() -> None:
    narrow, broad = Rule("whole", 10), Rule("whole", 12)
    assert wider(None, narrow) == narrow
    assert wider(narrow, broad) == wider(broad, narrow) == broad
