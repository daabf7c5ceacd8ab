from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.frames import Measure
from edge_agent.core.measure import (
    Shape,
    axes,
    bounded,
    measure_area,
    measure_box,
    quantise_value,
)


def ellipse(a: float, b: float, turn: float = 0.0) -> Shape:
    """Half axes in px, turned by `turn` radians."""
    c, s = math.cos(turn), math.sin(turn)
    xx, yy = (a * c) ** 2 / 4 + (b * s) ** 2 / 4, (a * s) ** 2 / 4 + (b * c) ** 2 / 4
    return Shape(math.pi * a * b, (100.0, 50.0), (xx, yy, (a * a - b * b) / 4 * c * s))


def values(measures: list[Measure]) -> dict[str, tuple[float, str]]:
    return {m.name: (m.value, m.unit) for m in measures}


def test_without_spacing_everything_is_in_pixels() -> None:
    found = values(measure_area(1, ellipse(30, 20), None))
    assert found == {
        "area": (1885.0, "px2"),
        "equivalent_diameter": (48.99, "px"),
        "major_axis": (60.0, "px"),
        "minor_axis": (40.0, "px"),
    }


def test_with_spacing_everything_is_in_millimetres() -> None:
    found = values(measure_area(1, ellipse(30, 20), (0.5, 0.5)))
    assert found == {
        "area": (471.2, "mm2"),
        "equivalent_diameter": (24.49, "mm"),
        "major_axis": (30.0, "mm"),
        "minor_axis": (20.0, "mm"),
    }


def test_axes_are_those_of_the_body_not_of_the_picture() -> None:
    """Pixels twice as high as wide: what looks round is twice as tall."""
    major, minor = axes(ellipse(10, 10), (1.0, 2.0))
    assert (major.length, minor.length) == pytest.approx((40.0, 20.0))
    assert major.ends == pytest.approx((100, 40, 100, 60))


@given(a=st.floats(5, 100), b=st.floats(1, 5), turn=st.floats(-1.5, 1.5), dx=st.floats(0.05, 2))
def test_an_axis_is_as_long_as_its_ends_are_apart(
    a: float, b: float, turn: float, dx: float
) -> None:
    spacing = (dx, 1.0)
    for axis in axes(ellipse(a, b, turn), spacing):
        x0, y0, x1, y1 = axis.ends
        assert math.hypot((x1 - x0) * dx, y1 - y0) == pytest.approx(axis.length, rel=1e-6)
        assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((100, 50))


def test_a_box_is_measured_only_where_the_spacing_is_known() -> None:
    box = (10.0, 20.0, 30.0, 60.0)
    assert measure_box(4, box, None) == []
    found = measure_box(4, box, (0.25, 0.5))
    assert values(found) == {"width": (5.0, "mm"), "height": (20.0, "mm")}
    assert found[0].points == (10.0, 40.0, 30.0, 40.0)
    assert {measure.object for measure in found} == {4}


@given(a=st.floats(1, 500), b=st.floats(1, 500))
def test_no_millimetre_without_spacing(a: float, b: float) -> None:
    found = measure_area(1, ellipse(a, b), None) + measure_box(1, (0, 0, a, b), None)
    assert not [m for m in found if "mm" in m.unit]
    assert all(np.isfinite(m.value) and m.method for m in found)


def test_measures_of_whole_objects_are_left_out_at_the_bound() -> None:
    groups = [measure_area(i, ellipse(9, 8), None) for i in range(1, 20)]
    kept, cut = bounded(groups)
    assert (len(kept), cut) == (64, True)
    assert bounded(groups[:16]) == (kept, False)


def test_values_have_four_digits() -> None:
    assert quantise_value(123.456) == 123.5
    assert quantise_value(0.00123456) == 0.001235
    assert str(quantise_value(-0.0)) == "0.0"
