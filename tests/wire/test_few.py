"""A few numbers are written in plain loops, many by numpy: one reading of both."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.wire import arrays, columns, encoding, few, foretelling
from edge_agent.core.wire.cursor import Reader
from tests.wire import made, second_bytes, second_columns

LENGTHS = (
    1, 2, few.TINY - 1, few.TINY, few.FEW - 1, few.FEW, few.FEW + 1,
    arrays.SAMPLE, arrays.SAMPLE + 1,
)  # fmt: skip
LAGS = st.lists(st.integers(2, 40), max_size=2)
STEPS = st.sampled_from([1, 300, 1 << 20, 1 << 45, 1 << 62])


def read_back(block: bytes, count: int) -> list[int]:
    """By both decoders, to the last byte."""
    read = Reader(block, "block")
    values: list[int] = arrays.decode(count, read).tolist()
    read.end()
    assert second_columns.block(count, second_bytes.Bytes(block)) == values
    return values


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(LENGTHS), LAGS, STEPS, st.integers(0, 1 << 32))
def test_numbers_come_back_on_either_side_of_every_bound(
    count: int, lags: list[int], step: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    noise = chance.integers(-step, step, count)
    rare = np.where(chance.random(count) < 0.1, noise, 0)
    for values in (noise, rare, np.cumsum(noise), np.cumsum(rare), np.sort(noise)):
        assert read_back(arrays.encode(values, lags), count) == values.tolist()
        assert arrays.encode(values.tolist(), lags) == arrays.encode(values, lags)


@settings(max_examples=100, deadline=None)
@given(st.lists(made.INT64, min_size=few.TINY, max_size=2 * few.FEW), LAGS)
def test_numbers_as_far_apart_as_can_be_come_back(values: list[int], lags: list[int]) -> None:
    assert read_back(arrays.encode(values, lags), len(values)) == values


def exactly(values: Iterable[Any]) -> list[Any]:
    """With the bits of doubles in their place."""
    return [struct.pack("<d", v) if isinstance(v, float) else v for v in values]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(made.FLOATS, min_size=1, max_size=4)
    | st.lists(made.INTS | st.none() | st.booleans(), min_size=1, max_size=4)
    | st.lists(made.WORDS | st.text(), min_size=1, max_size=4),
    st.sampled_from([1, 3, 15, 40]),
)
def test_a_column_comes_back_however_often_it_is_repeated(values: list[Any], times: int) -> None:
    values = values * times
    coding, payload = encoding.encode(values)
    read = Reader(payload, "column")
    assert exactly(columns.decode(coding, len(values), read)) == exactly(values)
    read.end()


def test_zeros_of_either_sign_in_one_column_are_not_taken_for_one_value() -> None:
    for values in ([0.0, -0.0], [-0.0, 0.0, -0.0], [-0.0] * 3, [0.5, -0.0] * 40):
        coding, payload = encoding.encode(values)
        assert exactly(columns.decode(coding, len(values), Reader(payload, ""))) == exactly(values)


TENTHS = st.integers(-30_000, 30_000).map(lambda n: n / 10)
ROWS = st.lists(
    st.tuples(
        st.tuples(*[TENTHS] * 4) | st.lists(TENTHS | made.FLOATS, max_size=5).map(tuple),
        st.none() | st.tuples(*[TENTHS | made.FLOATS] * 4),
        st.sampled_from(["mm", "px", "px2"]),
        st.none() | st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
        TENTHS,
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.filterwarnings("error")
@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_what_is_left_of_a_few_measures_is_what_is_left_of_many(rows: list[Any]) -> None:
    points, boxes, units, spacings, values = (list(column) for column in zip(*rows, strict=True))
    parts = {"value": values, "points": points, "unit": units, "spacing": spacings}
    times = foretelling.FEW_ROWS
    many = {name: column * times for name, column in parts.items()}
    for one, all_of_them in (
        (foretelling.relative(points, boxes), foretelling.relative(points * times, boxes * times)),
        (foretelling.shorten(parts, None), foretelling.shorten(many, None)),
    ):
        assert (one is None) == (all_of_them is None)
        for short, long in zip(one or (), all_of_them or (), strict=True):
            assert list(short) * times == list(long)
