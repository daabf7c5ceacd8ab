from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.calibration import Region, from_regions, override
from edge_agent.core.errors import ConfigError
from edge_agent.core.frames import Calibration

SIZE = (640, 480)
GOOD = Region(
    spatial_format=1,
    data_type=1,
    units_x=3,
    units_y=3,
    x0=10,
    y0=20,
    x1=609,
    y1=459,
    delta_x=0.05,
    delta_y=0.04,
)


def changed(**fields: object) -> Region:
    return msgspec.structs.replace(GOOD, **fields)


def test_a_region_by_the_rule_gives_crop_and_spacing() -> None:
    found = from_regions([GOOD], SIZE)
    assert found.roi == (10, 20, 600, 440)
    assert found.spacing_mm == pytest.approx((0.5, 0.4))
    assert (found.spacing_from, found.reason) == ("dicom", "")


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (changed(spatial_format=2), "spatial format 2, not 2D"),
        (changed(spatial_format=None), "spatial format missing"),
        (changed(data_type=3), "data type 3, not tissue"),
        (changed(units_x=4), "physical units 4 and 3, not centimetres"),
        (changed(units_y=None), "physical units 3 and missing"),
        (changed(x1=640), r"reaches to \(640, 459\), outside its image of 640 x 480"),
        (changed(y1=480), "outside its image"),
        (changed(x0=-1), "span no area"),
        (changed(x0=609), "span no area"),
        (changed(y0=None), "corners are missing"),
        (changed(delta_x=0.0), "not plausible"),
        (changed(delta_y=None), "not plausible"),
        (changed(delta_x=math.inf), "not plausible"),
        (changed(delta_x=5.0), "not plausible"),
    ],
)
def test_any_other_region_gives_the_whole_image_no_millimetre_and_a_reason(
    region: Region, reason: str
) -> None:
    found = from_regions([region], SIZE)
    assert (found.roi, found.spacing_mm, found.spacing_from) == (None, None, "")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found.reason)


def test_no_region_at_all_is_said() -> None:
    assert "no ultrasound region" in from_regions([], SIZE).reason


def test_colour_flow_counts_and_a_negative_delta_only_turns_an_axis() -> None:
    assert from_regions([changed(data_type=2, delta_y=-0.04)], SIZE).spacing_mm == pytest.approx(
        (0.5, 0.4)
    )


def test_the_largest_fitting_tissue_is_taken() -> None:
    small = changed(x0=0, y0=0, x1=99, y1=99, delta_x=0.01, delta_y=0.01)
    flow = changed(data_type=2, x0=0, y0=0, x1=639, y1=479)
    overrun = changed(x1=5000, y1=5000)
    assert from_regions([overrun, small, flow, GOOD], SIZE).roi == (10, 20, 600, 440)
    assert from_regions([overrun, flow], SIZE).roi == (0, 0, 640, 480)


NUMBERS = st.none() | st.integers(-10, 2000)
DELTAS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
REGIONS = st.builds(
    Region,
    spatial_format=st.sampled_from([None, 0, 1, 2]),
    data_type=st.sampled_from([None, 1, 2, 3]),
    units_x=st.sampled_from([None, 3, 4]),
    units_y=st.sampled_from([None, 3, 4]),
    x0=NUMBERS,
    y0=NUMBERS,
    x1=NUMBERS,
    y1=NUMBERS,
    delta_x=DELTAS,
    delta_y=DELTAS,
)


@given(st.lists(REGIONS | st.just(GOOD), max_size=5), st.tuples(*[st.integers(1, 1500)] * 2))
def test_a_spacing_comes_only_with_a_crop_inside_the_image(
    regions: list[Region], size: tuple[int, int]
) -> None:
    found = from_regions(regions, size)
    if found.spacing_mm is None:
        assert found.roi is None
        assert found.reason
        return
    assert all(math.isfinite(mm) and 0 < mm <= 10 for mm in found.spacing_mm)
    assert found.roi is not None
    x, y, w, h = found.roi
    assert x >= 0
    assert y >= 0
    assert w > 0
    assert h > 0
    assert x + w <= size[0]
    assert y + h <= size[1]


def test_the_operators_word_goes_first() -> None:
    none = Calibration(reason="a video says nothing of its scale")
    both = override(none, SIZE, roi=(0, 0, 640, 480), spacing_mm=(0.1, 0.2))
    assert (both.roi, both.spacing_mm, both.spacing_from) == (
        (0, 0, 640, 480),
        (0.1, 0.2),
        "config",
    )
    assert both.reason == ""
    assert override(none, SIZE, roi=None, spacing_mm=None) == none


def test_a_spacing_of_the_file_holds_only_inside_its_region() -> None:
    found = from_regions([GOOD], SIZE)
    inside = override(found, SIZE, roi=(20, 30, 100, 100), spacing_mm=None)
    assert (inside.roi, inside.spacing_from) == ((20, 30, 100, 100), "dicom")
    outside = override(found, SIZE, roi=(0, 0, 100, 100), spacing_mm=None)
    assert (outside.roi, outside.spacing_mm, outside.spacing_from) == ((0, 0, 100, 100), None, "")
    assert "leaves the calibrated region" in outside.reason


@pytest.mark.parametrize("roi", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 641, 5), (600, 0, 41, 5)])
def test_a_configured_roi_that_does_not_fit_is_the_operators_to_mend(
    roi: tuple[int, int, int, int],
) -> None:
    with pytest.raises(ConfigError, match=r"source\.roi.*640 x 480 px.*roi = "):
        override(Calibration(), SIZE, roi=roi, spacing_mm=None)
