"""Where the anatomy is and how large a pixel is: by the rule, or not at all.

A wrong millimetre is worse than none. So a spacing is taken only from an ultrasound region that is
2D, of tissue or colour flow, in centimetres, and that fits its image (a clip that was scaled after
its header was written has regions that overrun it). Everything else is uncalibrated: the whole
image, no spacing, and the reason in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edge_agent.core.errors import ConfigError
from edge_agent.core.frames import Calibration

# PS3.3 C.8.5.5.1
FORMAT_2D = 1
TISSUE, COLOUR_FLOW = 1, 2
CENTIMETRE = 3
MM_PER_CM = 10.0
SMALLEST_MM, LARGEST_MM = 1e-4, 10.0  # per px; nothing that scans a patient lies outside

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


def from_regions(regions: Sequence[Region], size: tuple[int, int]) -> Calibration:
    """The largest usable region, tissue before colour flow. size: [width, height] px."""
    if not regions:
        return Calibration(reason="the file describes no ultrasound region")
    refused: list[str] = []
    usable: list[tuple[bool, int, int, Calibration]] = []
    for number, region in enumerate(regions, start=1):
        outcome = _judge(region, size)
        if isinstance(outcome, str):
            refused.append(f"region {number} of {len(regions)}: {outcome}")
            continue
        roi = outcome.roi or (0, 0, 0, 0)
        usable.append((region.data_type == TISSUE, roi[2] * roi[3], -number, outcome))
    if not usable:
        return Calibration(reason=refused[0] + (" (the others: no better)" if refused[1:] else ""))
    return max(usable, key=lambda candidate: candidate[:3])[3]


def _judge(region: Region, size: tuple[int, int]) -> Calibration | str:
    """The calibration by this region, or why there is none."""
    if region.spatial_format != FORMAT_2D:
        return f"spatial format {_said(region.spatial_format)}, not 2D (1)"
    if region.data_type not in (TISSUE, COLOUR_FLOW):
        return f"data type {_said(region.data_type)}, not tissue (1) or colour flow (2)"
    if (region.units_x, region.units_y) != (CENTIMETRE, CENTIMETRE):
        units = f"{_said(region.units_x)} and {_said(region.units_y)}"
        return f"physical units {units}, not centimetres (3) in both directions"
    roi = _roi(region, size)
    if isinstance(roi, str):
        return roi
    spacing = _mm(region.delta_x), _mm(region.delta_y)
    if spacing[0] is None or spacing[1] is None:
        return (
            f"a pixel of {_said(region.delta_x)} x {_said(region.delta_y)} cm is not plausible "
            f"({SMALLEST_MM:g} to {LARGEST_MM:g} mm)"
        )
    return Calibration(roi=roi, spacing_mm=(spacing[0], spacing[1]), spacing_from="dicom")


def _roi(region: Region, size: tuple[int, int]) -> Roi | str:
    x0, y0, x1, y1 = region.x0, region.y0, region.x1, region.y1
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return "its corners are missing"
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        return f"its corners ({x0}, {y0}) and ({x1}, {y1}) span no area"
    if x1 >= size[0] or y1 >= size[1]:
        return f"it reaches to ({x1}, {y1}), outside its image of {size[0]} x {size[1]} px"
    return x0, y0, x1 - x0 + 1, y1 - y0 + 1


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

    A spacing of a DICOM region holds only inside it: a configured roi that leaves it drops it.
    Raises: ConfigError when the roi does not fit the image.
    """
    if roi is not None:
        check_roi(roi, size)
        if found.spacing_mm is not None and not _within(roi, found.roi):
            found = Calibration(reason="the configured roi leaves the calibrated region")
        found = msgspec.structs.replace(found, roi=roi)
    if spacing_mm is not None:
        found = msgspec.structs.replace(
            found, spacing_mm=spacing_mm, spacing_from="config", reason=""
        )
    return found


def check_roi(roi: Roi, size: tuple[int, int]) -> None:
    """Raises: ConfigError."""
    x, y, w, h = roi
    if x < 0 or y < 0 or w < 1 or h < 1 or x + w > size[0] or y + h > size[1]:
        raise ConfigError(
            "source.roi",
            f"[{x}, {y}, {w}, {h}] does not fit the frame of {size[0]} x {size[1]} px",
            hint="give roi = [x, y, width, height] inside the frame, or leave it out",
        )


def _within(inner: Roi, outer: Roi | None) -> bool:
    if outer is None:
        return True
    return (
        inner[0] >= outer[0]
        and inner[1] >= outer[1]
        and inner[0] + inner[2] <= outer[0] + outer[2]
        and inner[1] + inner[3] <= outer[1] + outer[3]
    )
