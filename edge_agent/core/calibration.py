"""Where the anatomy is and how large a pixel is: by the rule, or not at all.

A wrong millimetre is worse than none. So a spacing is taken only from an ultrasound region that is
2D, of tissue or colour flow, in centimetres, and that fits its image. It holds inside that region
and nowhere else, and not where another region lies that has another scale or none: which of the
two pictures is seen there is not in the header (its flags tell a priority, not a shape). A clip
that was scaled after its header was written has regions that overrun it: it has no scale at all.
What the operator configured goes before, and holds for the whole frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from edge_agent.core.frames import Calibration, ScaleRegion

# PS3.3 C.8.5.5.1
FORMAT_2D = 1
TISSUE, COLOUR_FLOW = 1, 2
CENTIMETRE = 3
MM_PER_CM = 10.0
SMALLEST_MM, LARGEST_MM = 1e-4, 10.0  # per px; nothing that scans a patient lies outside

MAX_REGIONS = 64  # of a file; with more, not all are known
SAME = 1e-4  # relative: two scales that differ by less are one
FORMATS = {1: "2D", 2: "M-mode", 3: "spectral", 4: "waveform", 5: "graphics"}
DATA_TYPES = {
    1: "tissue",
    2: "colour flow",
    3: "PW Doppler",
    4: "CW Doppler",
    10: "ECG",
    13: "gray bar",
    14: "colour bar",
}
LEAVES = "it leaves the calibrated region"
OUTSIDE = "it lies in no region"
OVERLAP = "regions of other scales overlap"

Roi = tuple[int, int, int, int]
Spacing = tuple[float, float]


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """An ultrasound region as its header has it; None where the header has nothing usable.

    x0, y0, x1, y1: px, both corners included. delta_x, delta_y: physical units per px.
    """

    spatial_format: int | None = None
    data_type: int | None = None
    units_x: int | None = None
    units_y: int | None = None
    x0: int | None = None
    y0: int | None = None
    x1: int | None = None
    y1: int | None = None
    delta_x: float | None = None
    delta_y: float | None = None


class Held(NamedTuple):
    """spacing_mm: [dx, dy] mm per px; None, and the reason in words, where there is none."""

    spacing_mm: Spacing | None
    reason: str = ""


def from_regions(regions: Sequence[Region], size: tuple[int, int]) -> Calibration:
    """The scale of each region; the model gets the largest usable one, tissue before colour flow.

    regions: of the header, in its order, and one more than MAX_REGIONS where it has more.
    size: [width, height] px.
    """
    if not regions:
        return Calibration(reason="the file describes no ultrasound region")
    if len(regions) > MAX_REGIONS:
        return Calibration(reason=f"the file describes more than {MAX_REGIONS} ultrasound regions")
    scales = tuple(_scale(region, size) for region in regions)
    usable = [
        (regions[index].data_type == TISSUE, area[2] * area[3], -index, area)
        for index, (area, spacing_mm) in enumerate((one.area, one.spacing_mm) for one in scales)
        if spacing_mm is not None and area is not None
    ]
    doubt = _doubt(regions, size)
    if doubt:
        scales = tuple(
            msgspec.structs.replace(one, spacing_mm=None, reason=one.reason or doubt)
            for one in scales
        )
    if not usable:
        more = " (the others: no better)" if scales[1:] else ""
        reason = f"region 1 of {len(scales)}: {scales[0].reason}{more}"
        return Calibration(reason=reason, regions=scales)
    roi = max(usable, key=lambda candidate: candidate[:3])[3]
    return _settled(Calibration(roi=roi, reason=doubt, regions=scales))


def spacing_at(calibration: Calibration, box: Sequence[float]) -> Held:
    """The spacing that holds for everything in box, [x0, y0, x1, y1] px of the frame, half-open."""
    if not calibration.regions or calibration.spacing_from == "config":
        return Held(calibration.spacing_mm, calibration.reason)
    met = [one for one in calibration.regions if _meets(one.area, box)]
    spacing_mm = next(
        (one.spacing_mm for one in met if one.spacing_mm and _holds(one.area, box)), None
    )
    if spacing_mm is None:
        return Held(None, LEAVES if met else OUTSIDE)
    if not all(_agrees(one.spacing_mm, spacing_mm) for one in met):
        return Held(None, OVERLAP)
    return Held(spacing_mm)


def _settled(found: Calibration) -> Calibration:
    """With the spacing that holds all over its roi, or the reason why none does."""
    if found.roi is None or found.spacing_from == "config":
        return found
    x, y, w, h = found.roi
    spacing_mm, reason = spacing_at(found, (x, y, x + w, y + h))
    if spacing_mm is not None:
        origin = found.spacing_from or "dicom"
        return msgspec.structs.replace(found, spacing_mm=spacing_mm, spacing_from=origin, reason="")
    if any(one.spacing_mm for one in found.regions):
        reason = f"judged per object: {reason}"
    return msgspec.structs.replace(
        found, spacing_mm=None, spacing_from="", reason=found.reason or reason
    )


def origin(calibration: Calibration) -> str:
    """Who says what a spacing of this picture is: `config` or `dicom`; "" where nobody does."""
    return calibration.spacing_from or ("dicom" if is_calibrated(calibration) else "")


def is_calibrated(calibration: Calibration) -> bool:
    """Whether a millimetre can be told anywhere in what a model gets."""
    if calibration.spacing_mm is not None:
        return True
    roi = calibration.roi
    box = None if roi is None else (roi[0], roi[1], roi[0] + roi[2], roi[1] + roi[3])
    return any(
        one.spacing_mm is not None and (box is None or _meets(one.area, box))
        for one in calibration.regions
    )


def words(calibration: Calibration) -> str:
    """In one line, for people."""
    spacing = calibration.spacing_mm
    if spacing is None:
        known = "by region, " if is_calibrated(calibration) else "none: "
        return f"{known}{calibration.reason or 'nobody knows the size of a pixel'}"
    told = f"{_size(spacing)} (from {calibration.spacing_from})"
    if roi := calibration.roi:
        told += f", region {roi[2]} x {roi[3]} at {roi[0]}, {roi[1]}"
    return told


def region_words(calibration: Calibration) -> list[tuple[str, list[str]]]:
    """What each region of the file is and what it is used for: its name, and lines for people."""
    regions = calibration.regions
    return [
        (f"region {number} of {len(regions)}", _region_words(calibration, number - 1))
        for number in range(1, len(regions) + 1)
    ]


def _region_words(calibration: Calibration, index: int) -> list[str]:
    regions = calibration.regions
    one = regions[index]
    x, y, w, h = one.area or (0, 0, 0, 0)
    told = f"{one.what}, {w} x {h} at {x}, {y}: " if w and h else f"{one.what}: "
    if one.spacing_mm is None:
        return [f"{told}no millimetres", one.reason]
    told += _size(one.spacing_mm)
    if calibration.spacing_from == "config":
        return [told, "not used: source.spacing_mm goes before"]
    box = (x, y, x + w, y + h)
    rivals = [
        str(number)
        for number, other in enumerate(regions, start=1)
        if not _agrees(other.spacing_mm, one.spacing_mm) and _meets(other.area, box)
    ]
    lines = [told]
    if one.area == calibration.roi:
        lines.append("what a model gets")
    if rivals:
        lines.append(f"none where region {', '.join(rivals)} overlaps")
    return lines


def _size(spacing_mm: Spacing) -> str:
    return f"{spacing_mm[0]:.4g} x {spacing_mm[1]:.4g} mm per px"


def _scale(region: Region, size: tuple[int, int]) -> ScaleRegion:
    outcome = _judge(region, size)
    area = _clipped(region, size)
    if isinstance(outcome, str):
        return ScaleRegion(area=area, what=_what(region), reason=outcome)
    return ScaleRegion(area=area, what=_what(region), spacing_mm=outcome)


def _what(region: Region) -> str:
    kind = FORMATS.get(region.spatial_format or 0, "of no known format")
    return f"{kind} {DATA_TYPES.get(region.data_type or 0, 'data')}"


def _doubt(regions: Sequence[Region], size: tuple[int, int]) -> str:
    """Why no region's scale can be trusted: one is somewhere, or the picture was scaled; or ""."""
    for number, region in enumerate(regions, start=1):
        x0, y0, x1, y1 = region.x0, region.y0, region.x1, region.y1
        name = f"region {number} of {len(regions)}"
        if x0 is None or y0 is None or x1 is None or y1 is None:
            return f"{name} has no place and may lie anywhere"
        # corner plus one is how some write the last pixel; more than that is another picture
        if max(x0, x1) > size[0] or max(y0, y1) > size[1]:
            return f"{name} is larger than its image: scaled or cut after its header was written"
    return ""


def _clipped(region: Region, size: tuple[int, int]) -> Roi | None:
    """What it covers of its image, between its corners in any order; None: nobody knows."""
    x0, y0, x1, y1 = region.x0, region.y0, region.x1, region.y1
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return None
    left, right = max(0, min(x0, x1)), min(size[0] - 1, max(x0, x1))
    top, bottom = max(0, min(y0, y1)), min(size[1] - 1, max(y0, y1))
    if right < left or bottom < top:
        return (0, 0, 0, 0)
    return left, top, right - left + 1, bottom - top + 1


def _agrees(one: Spacing | None, other: Spacing | None) -> bool:
    """Equal but for what vendors round: less than the digits that a measure has."""
    if one is None or other is None:
        return False
    return all(math.isclose(a, b, rel_tol=SAME) for a, b in zip(one, other, strict=True))


def _meets(area: Roi | None, box: Sequence[float]) -> bool:
    """Whether they share more than a border; what has no place meets everything."""
    if area is None:
        return True
    (x, y, w, h), (x0, y0, x1, y1) = area, box
    return w > 0 and h > 0 and _shares(x, x + w, x0, x1) and _shares(y, y + h, y0, y1)


def _shares(low: float, high: float, start: float, end: float) -> bool:
    """A span without length counts as the pixel that it is in."""
    return (low < max(end, start) and start < high) or low <= start == end < high


def _holds(area: Roi | None, box: Sequence[float]) -> bool:
    if area is None:
        return False
    x, y, w, h = area
    return x <= box[0] and y <= box[1] and box[2] <= x + w and box[3] <= y + h


def _judge(region: Region, size: tuple[int, int]) -> Spacing | str:
    """The spacing inside this region, or why there is none."""
    if region.spatial_format != FORMAT_2D:
        return f"spatial format {_said(region.spatial_format)}, not 2D (1)"
    if region.data_type not in (TISSUE, COLOUR_FLOW):
        return f"data type {_said(region.data_type)}, not tissue (1) or colour flow (2)"
    if (region.units_x, region.units_y) != (CENTIMETRE, CENTIMETRE):
        units = f"{_said(region.units_x)} and {_said(region.units_y)}"
        return f"physical units {units}, not centimetres (3) in both directions"
    misplaced = _misplaced(region, size)
    if misplaced:
        return misplaced
    spacing = _mm(region.delta_x), _mm(region.delta_y)
    if spacing[0] is None or spacing[1] is None:
        return (
            f"a pixel of {_said(region.delta_x)} x {_said(region.delta_y)} cm is not plausible "
            f"({SMALLEST_MM:g} to {LARGEST_MM:g} mm)"
        )
    return spacing[0], spacing[1]


def _misplaced(region: Region, size: tuple[int, int]) -> str:
    x0, y0, x1, y1 = region.x0, region.y0, region.x1, region.y1
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return "its corners are missing"
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        return f"its corners ({x0}, {y0}) and ({x1}, {y1}) span no area"
    if x1 >= size[0] or y1 >= size[1]:
        return f"it reaches to ({x1}, {y1}), outside its image of {size[0]} x {size[1]} px"
    return ""


def _mm(delta_cm: float | None) -> float | None:
    """Millimetres per px; a negative delta only says which way an axis points."""
    if delta_cm is None or not math.isfinite(delta_cm):
        return None
    size_mm = abs(delta_cm) * MM_PER_CM
    return size_mm if SMALLEST_MM <= size_mm <= LARGEST_MM else None


def _said(value: float | None) -> str:
    return "missing" if value is None else f"{value:g}"


def override(
    found: Calibration, size: tuple[int, int], *, roi: Roi | None, spacing_mm: Spacing | None
) -> Calibration:
    """What the operator configured goes before what the source says.

    A spacing of a DICOM region holds only inside it, wherever the configured roi is. A roi that
    does not fit the image stays, with the reason: whoever runs a model looks (`fits`).
    """
    if roi is not None and not fits(roi, size):
        return Calibration(roi=roi, reason=misfit(roi, size))
    if roi is not None:
        found = _settled(msgspec.structs.replace(found, roi=roi))
    if spacing_mm is not None:
        found = msgspec.structs.replace(
            found, spacing_mm=spacing_mm, spacing_from="config", reason=""
        )
    return found


def fits(roi: Roi | None, size: tuple[int, int]) -> bool:
    """Whether a frame of [width, height] px has this region; it has the whole of itself (None)."""
    if roi is None:
        return True
    x, y, w, h = roi
    return x >= 0 and y >= 0 and w >= 1 and h >= 1 and x + w <= size[0] and y + h <= size[1]


def misfit(roi: Roi, size: tuple[int, int], before: tuple[int, int] | None = None) -> str:
    """What is said of one that does not fit. before: a size that it was seen to fit."""
    words = f"roi {list(roi)} does not fit frames of {size[0]}x{size[1]} px"
    return f"{words}; it was checked with {before[0]}x{before[1]}" if before else words
