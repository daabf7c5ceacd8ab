"""Measurements of findings: areas, diameters, axes, widths and heights.

A millimetre is computed only where the spacing of pixels is known; otherwise the same numbers are
given in px and px2. Technical figures of what a model outlined, no clinical statement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from edge_agent.core.frames import MAX_MEASURES, Measure
from edge_agent.core.vision import quantise_px

Spacing = tuple[float, float]
DIGITS = 4  # significant digits of a value: a thousandth is less than any pixel decides


class Shape(NamedTuple):
    """Moments of an area in frame px.

    area: px2. centre: x, y. spread: variances xx, yy and covariance xy, px2.
    """

    area: float
    centre: tuple[float, float]
    spread: tuple[float, float, float]


class Axis(NamedTuple):
    """length in the unit of the spacing; ends: x0, y0, x1, y1 in frame px."""

    length: float
    ends: tuple[float, float, float, float]


def axes(shape: Shape, spacing: Spacing) -> tuple[Axis, Axis]:
    """Major and minor axis of the ellipse that has the same second moments.

    spacing: length of a pixel in x and y; the axes are those of the real, not of the shown shape.
    """
    dx, dy = spacing
    xx, yy, xy = shape.spread
    xx, yy, xy = xx * dx * dx, yy * dy * dy, xy * dx * dy
    middle, half = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    angle = math.atan2(2 * xy, xx - yy) / 2
    found = []
    for variance, turn in ((middle + half, angle), (middle - half, angle + math.pi / 2)):
        radius = 2 * math.sqrt(max(variance, 0.0))
        reach = radius * math.cos(turn) / dx, radius * math.sin(turn) / dy
        x, y = shape.centre
        ends = (x - reach[0], y - reach[1], x + reach[0], y + reach[1])
        found.append(Axis(2 * radius, ends))
    return found[0], found[1]


def measure_area(identity: int, shape: Shape, spacing_mm: Spacing | None) -> list[Measure]:
    """Four figures of a segmented object: area, equivalent diameter, major and minor axis."""
    spacing, unit = (spacing_mm, "mm") if spacing_mm else ((1.0, 1.0), "px")
    area = shape.area * spacing[0] * spacing[1]
    major, minor = axes(shape, spacing)
    return [
        _measure("area", area, f"{unit}2", identity, method="pixel-count"),
        _measure(
            "equivalent_diameter",
            2 * math.sqrt(area / math.pi),
            unit,
            identity,
            method="circle-of-equal-area",
        ),
        *(
            _measure(name, axis.length, unit, identity, points=axis.ends, method="second-moments")
            for name, axis in (("major_axis", major), ("minor_axis", minor))
        ),
    ]


def measure_box(
    identity: int, box: tuple[float, float, float, float], spacing_mm: Spacing | None
) -> list[Measure]:
    """Width and height of a detected box, in mm; nothing where the spacing is unknown."""
    if spacing_mm is None:
        return []
    x0, y0, x1, y1 = box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    across, down = (x0, y, x1, y), (x, y0, x, y1)
    return [
        _measure(
            "width", (x1 - x0) * spacing_mm[0], "mm", identity, points=across, method="bounding-box"
        ),
        _measure(
            "height", (y1 - y0) * spacing_mm[1], "mm", identity, points=down, method="bounding-box"
        ),
    ]


def bounded(groups: Sequence[Sequence[Measure]]) -> tuple[tuple[Measure, ...], bool]:
    """All measures of the first objects, at most `MAX_MEASURES`; and whether some had to go."""
    kept: list[Measure] = []
    for group in groups:
        if len(kept) + len(group) > MAX_MEASURES:
            return tuple(kept), True
        kept.extend(group)
    return tuple(kept), False


def quantise_value(value: float) -> float:
    """To four significant digits."""
    return float(f"{value:.{DIGITS}g}") + 0.0


def _measure(
    name: str,
    value: float,
    unit: str,
    identity: int,
    *,
    points: Sequence[float] = (),
    method: str,
) -> Measure:
    return Measure(
        name=name,
        value=quantise_value(value),
        unit=unit,
        object=identity,
        points=tuple(quantise_px(number) for number in points),
        method=method,
    )
