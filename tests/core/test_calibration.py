from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.calibration import (
    MAX_REGIONS,
    Region,
    fits,
    from_regions,
    is_calibrated,
    origin,
    override,
    region_words,
    spacing_at,
    words,
)
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
def test_a_configured_roi_that_does_not_fit_leaves_no_scale_and_says_so(
    roi: tuple[int, int, int, int],
) -> None:
    found = override(from_regions([GOOD], SIZE), SIZE, roi=roi, spacing_mm=(0.1, 0.1))
    assert (found.roi, found.spacing_mm) == (roi, None)
    assert not fits(found.roi, SIZE)
    assert found.reason == f"roi {list(roi)} does not fit frames of 640x480 px"


# ── a scale holds only where it is valid ──────────────────────────────────────────────────────


def region(x0: int, y0: int, x1: int, y1: int, cm: float = 0.05, **fields: object) -> Region:
    return changed(x0=x0, y0=y0, x1=x1, y1=y1, delta_x=cm, delta_y=cm, **fields)


LEFT, RIGHT = region(0, 0, 299, 479, 0.05), region(300, 0, 639, 479, 0.02)
IN_LEFT, IN_RIGHT, ACROSS = (100, 100, 200, 150), (400, 100, 500, 150), (250, 100, 350, 150)
M_MODE = region(0, 240, 639, 479, 0.004, spatial_format=2, units_x=4)


def scale(regions: list[Region], box: tuple[float, ...]) -> float | None:
    held = spacing_at(from_regions(regions, SIZE), box)
    assert (held.spacing_mm is None) == bool(held.reason)
    return None if held.spacing_mm is None else round(held.spacing_mm[0], 6)


@pytest.mark.parametrize(
    ("regions", "box", "mm"),
    [
        ([LEFT, RIGHT], IN_LEFT, 0.5),
        ([LEFT, RIGHT], IN_RIGHT, 0.2),
        ([LEFT, RIGHT], ACROSS, None),
        ([LEFT, RIGHT], (200, 0, 300, 480), 0.5),  # up to the border of both, half-open
        ([LEFT, RIGHT], (200, 0, 300.1, 480), None),
        ([LEFT, RIGHT], (300, 0, 640, 480), 0.2),
        ([LEFT], IN_LEFT, 0.5),
        ([LEFT], IN_RIGHT, None),
        ([LEFT], ACROSS, None),
        ([LEFT, LEFT], IN_LEFT, 0.5),
        ([LEFT, region(300, 0, 639, 479, 0.05)], ACROSS, None),  # two pictures side by side
        ([region(0, 0, 299, 239), M_MODE], IN_LEFT, 0.5),
        ([region(0, 0, 299, 239), M_MODE], (100, 300, 200, 350), None),
        ([region(0, 0, 299, 299), M_MODE], (100, 230, 200, 250), None),
        ([LEFT, region(100, 100, 199, 199, data_type=2), RIGHT], IN_LEFT, 0.5),
        ([LEFT, region(100, 100, 199, 199, data_type=2), RIGHT], IN_RIGHT, 0.2),
        ([region(0, 0, 639, 479), region(100, 100, 299, 299, 0.01)], IN_LEFT, None),
        ([region(0, 0, 639, 479), region(100, 100, 299, 299, 0.01)], IN_RIGHT, 0.5),
        ([region(0, 0, 639, 479), region(200, 150, 200, 150, 0.01)], (190, 140, 210, 160), None),
        ([region(0, 0, 639, 479), region(299, 299, 100, 100, 0.01)], IN_LEFT, None),
        ([LEFT, region(10, 10, 640, 20)], IN_LEFT, 0.5),
        ([LEFT, region(10, 10, 640, 20)], (100, 15, 200, 150), None),
        ([LEFT, region(300, 0, 1279, 479)], IN_LEFT, None),
        ([LEFT, changed(y0=None)], IN_LEFT, None),
        ([LEFT] * MAX_REGIONS, IN_LEFT, 0.5),
        ([LEFT] * (MAX_REGIONS + 1), IN_LEFT, None),
    ],
)
def test_an_object_gets_the_scale_of_the_region_that_holds_it_or_none(
    regions: list[Region], box: tuple[float, ...], mm: float | None
) -> None:
    assert scale(regions, box) == mm


def test_each_direction_has_its_own_scale() -> None:
    other = changed(x0=100, y0=100, x1=299, y1=299, delta_x=0.05, delta_y=0.06)
    found = from_regions([changed(x0=0, y0=0, x1=639, y1=479, delta_y=-0.05), other], SIZE)
    assert spacing_at(found, IN_RIGHT).spacing_mm == pytest.approx((0.5, 0.5))
    assert "other scales overlap" in spacing_at(found, IN_LEFT).reason


def test_a_crop_without_one_scale_says_so_and_still_knows_those_of_its_regions() -> None:
    found = from_regions([region(0, 0, 639, 479), region(100, 100, 299, 299, 0.01)], SIZE)
    assert (found.roi, found.spacing_mm, found.spacing_from) == ((0, 0, 640, 480), None, "")
    assert (is_calibrated(found), origin(found)) == (True, "dicom")
    assert words(found).startswith("by region, judged per object: ")
    alone = from_regions([LEFT, RIGHT], SIZE)
    assert alone.roi == (300, 0, 340, 480)
    assert alone.spacing_mm == pytest.approx((0.2, 0.2))


def test_a_configured_roi_over_two_regions_measures_in_each() -> None:
    found = override(
        from_regions([LEFT, RIGHT], SIZE), SIZE, roi=(50, 0, 550, 480), spacing_mm=None
    )
    assert (found.roi, found.spacing_mm) == ((50, 0, 550, 480), None)
    assert spacing_at(found, IN_LEFT).spacing_mm == pytest.approx((0.5, 0.5))
    assert spacing_at(found, IN_RIGHT).spacing_mm == pytest.approx((0.2, 0.2))
    assert spacing_at(found, ACROSS).spacing_mm is None
    left = override(from_regions([LEFT, RIGHT], SIZE), SIZE, roi=(50, 0, 250, 480), spacing_mm=None)
    assert left.spacing_mm == pytest.approx((0.5, 0.5))
    assert left.reason == ""


def test_the_operators_spacing_holds_everywhere() -> None:
    found = from_regions([LEFT, M_MODE], SIZE)
    found = override(found, SIZE, roi=None, spacing_mm=(0.1, 0.2))
    assert spacing_at(found, (0, 0, 640, 480)).spacing_mm == (0.1, 0.2)
    assert all("not used" in told[1] or "no milli" in told[0] for _, told in region_words(found))


def test_each_region_is_told_with_what_it_is_used_for() -> None:
    regions = [LEFT, M_MODE, region(100, 100, 199, 199, 0.01), changed(x0=1, x1=1)]
    told = region_words(from_regions(regions, SIZE))
    assert [name for name, _ in told] == [f"region {number} of 4" for number in (1, 2, 3, 4)]
    first, second, third, last = (one for _, one in told)
    assert first == [
        "2D tissue, 300 x 480 at 0, 0: 0.5 x 0.5 mm per px",
        "what a model gets",
        "none where region 2, 3, 4 overlaps",
    ]
    assert second[0] == "M-mode tissue, 640 x 240 at 0, 240: no millimetres"
    assert second[1].startswith("spatial format 2")
    assert third[1:] == ["none where region 1 overlaps"]
    assert "span no area" in last[1]


PLACES = st.integers(-2, 22)
PICTURES = st.lists(
    st.builds(
        Region,
        spatial_format=st.sampled_from([1, 1, 1, 1, 2, None]),
        data_type=st.sampled_from([1, 1, 2, 3]),
        units_x=st.just(3),
        units_y=st.sampled_from([3, 3, 3, 4]),
        x0=PLACES,
        y0=PLACES,
        x1=PLACES,
        y1=PLACES,
        delta_x=st.sampled_from([0.05, 0.02]),
        delta_y=st.sampled_from([0.05, 0.02, 0.0]),
    ),
    min_size=1,
    max_size=4,
)


@given(
    PICTURES,
    st.tuples(st.integers(0, 19), st.integers(0, 19), st.integers(1, 20), st.integers(1, 20)),
    st.none() | st.just((3, 4, 10, 9)),
)
def test_a_millimetre_is_told_only_where_every_pixel_has_one_and_the_same_scale(
    regions: list[Region], place: tuple[int, int, int, int], roi: tuple[int, int, int, int] | None
) -> None:
    """Pixel by pixel: the slow and obvious way to the same answer."""
    size = (20, 20)
    x0, y0, w, h = place
    x1, y1 = min(20, x0 + w), min(20, y0 + h)
    found = override(from_regions(regions, size), size, roi=roi, spacing_mm=None)
    held = spacing_at(found, (x0, y0, x1, y1)).spacing_mm
    if held is None:
        return
    assert all((one.x0 or 0) <= 20 and (one.x1 or 0) <= 20 for one in regions)
    whole = 0
    for one in regions:
        corners = [int(c) for c in (one.x0, one.y0, one.x1, one.y1) if c is not None]
        columns = range(min(corners[0::2]), max(corners[0::2]) + 1)
        rows = range(min(corners[1::2]), max(corners[1::2]) + 1)
        inside = [
            (x, y) for x in range(x0, x1) for y in range(y0, y1) if x in columns and y in rows
        ]
        if not inside:
            continue
        assert (one.spatial_format, one.units_y) == (1, 3)
        assert one.data_type in (1, 2)
        assert held == pytest.approx((10 * (one.delta_x or 0), 10 * (one.delta_y or 0)))
        whole += len(inside) == (x1 - x0) * (y1 - y0)
    assert whole
