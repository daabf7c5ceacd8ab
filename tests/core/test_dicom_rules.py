from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.dicom_rules import (
    Window,
    pseudonym,
    range_levels,
    stored_range,
    stored_values,
    window_levels,
)
from edge_agent.core.order import spread

UID = "1.2.840.114340.3.8251017118051.1.20160503.120850.2171"


def test_a_pseudonym_is_stable_and_another_under_another_key() -> None:
    one = pseudonym(UID, b"k" * 32)
    assert one == pseudonym(UID + "\0", b"k" * 32), "padding is not part of a UID"
    assert len(one) == 16
    assert int(one, 16) >= 0
    assert one != pseudonym(UID, b"j" * 32)
    assert one != pseudonym(UID + ".1", b"k" * 32)
    assert pseudonym(UID, b"k" * 100) != pseudonym(UID, b"k" * 101), "no byte of a key is dropped"
    assert pseudonym("", b"k" * 32) == ""


def test_a_pseudonym_without_a_real_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 bytes"):
        pseudonym(UID, b"short")


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("is_signed", [False, True])
def test_each_bit_pattern_stands_for_its_value(bits: int, is_signed: bool) -> None:
    values = stored_values(bits, is_signed=is_signed)
    low, high = stored_range(bits, is_signed=is_signed)
    assert (values.min(), values.max(), len(values)) == (low, high, 1 << bits)
    patterns = np.array([0, 1, (1 << bits) - 1])
    assert list(values[patterns]) == [0, 1, -1 if is_signed else (1 << bits) - 1]


def test_the_window_of_the_standard_maps_its_edges_to_black_and_white() -> None:
    values = stored_values(16, is_signed=True)
    levels = window_levels(values, Window(center=40, width=400))
    at = {int(value): int(level) for value, level in zip(values, levels, strict=True)}
    assert (at[-160], at[-161], at[239], at[240]) == (0, 0, 255, 255)
    assert at[40] in (127, 128)


def test_the_rescale_goes_before_the_window() -> None:
    values = stored_values(16, is_signed=False)
    plain = window_levels(values, Window(center=100, width=50))
    shifted = window_levels(values, Window(center=100, width=50, slope=1.0, intercept=-1000.0))
    assert np.array_equal(shifted[1000:2000], plain[:1000])


@given(
    st.floats(-1e6, 1e6),
    st.floats(1.0, 1e6),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.booleans(),
)
def test_every_usable_window_rises_and_stays_in_range(
    center: float, width: float, function: str, is_signed: bool
) -> None:
    window = Window(center=center, width=width, function=function)
    assert window.is_usable
    values = stored_values(16, is_signed=is_signed)
    levels = window_levels(values, window)[np.argsort(values)].astype(int)
    assert levels.dtype.kind == "i"
    assert (np.diff(levels) >= 0).all()


@pytest.mark.parametrize(
    "window",
    [
        Window(center=0, width=0.5),
        Window(center=math.nan, width=10),
        Window(center=0, width=math.inf),
        Window(center=0, width=10, slope=0),
        Window(center=0, width=0, function="SIGMOID"),
    ],
)
def test_a_window_that_shows_nothing_is_not_usable(window: Window) -> None:
    assert not window.is_usable


def test_a_flat_range_does_not_divide_by_zero() -> None:
    assert set(range_levels(stored_values(8, is_signed=False), 7.0, 7.0)) == {0, 255}


@given(st.integers(1, 5000), st.integers(2, 40))
def test_samples_are_spread_from_the_first_to_the_last(total: int, most: int) -> None:
    some = list(spread(total, most))
    assert len(some) == min(total, most)
    assert (some[0], some[-1]) == (0, total - 1)
    assert some == sorted(set(some))


@pytest.mark.parametrize("total", [1, 2, 100])
def test_one_of_many_is_the_first(total: int) -> None:
    """It divided by zero."""
    assert list(spread(total, 1)) == [0]
