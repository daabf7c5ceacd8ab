"""Geometry between a frame and a model's input, suppression of double boxes, and quantising.

Coordinates are edges, not pixel centres: pixel i covers [i, i + 1). Everything here is a pure
function of numbers; resizing of pixels lives in the backends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rect = tuple[int, int, int, int]

MAX_CANDIDATES = 1000  # boxes that enter suppression, best first


class Grid(NamedTuple):
    """An output raster over the frame: frame px = scale * raster px + offset.

    window: [x0, y0, x1, y1] raster px that shows the region; outside of it is padding. A raster
    pixel at its edge may show both. bounds: [x0, y0, x1, y1] frame px of the region.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    window: Rect
    bounds: Rect


class Fit(msgspec.Struct, frozen=True):
    """How a region of the frame becomes the input.

    source: [x, y, w, h] px of the frame that is really used. target: [x, y, w, h] px of the input
    that it fills; the rest of the input is padding. size: [w, h] px of the input.
    """

    source: Rect
    target: Rect
    size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Frame px per input px, x and y."""
        return self.source[2] / self.target[2], self.source[3] / self.target[3]

    def to_frame(self, points: Floats) -> Floats:
        """[..., 2] input px to px of the whole frame."""
        origin, corner = np.asarray(self.target[:2]), np.asarray(self.source[:2])
        moved: Floats = (points - origin) * np.asarray(self.scale) + corner
        return moved

    def to_input(self, points: Floats) -> Floats:
        """[..., 2] px of the whole frame to input px."""
        origin, corner = np.asarray(self.target[:2]), np.asarray(self.source[:2])
        moved: Floats = (points - corner) / np.asarray(self.scale) + origin
        return moved

    def box_to_frame(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """x0 y0 x1 y1 in input px to frame px, clipped to the source rectangle."""
        x, y, width, height = self.source
        left, top = self.target[:2]
        scale_x, scale_y = self.scale
        x0, y0, x1, y1 = box
        return (
            min(max((x0 - left) * scale_x + x, x), x + width),
            min(max((y0 - top) * scale_y + y, y), y + height),
            min(max((x1 - left) * scale_x + x, x), x + width),
            min(max((y1 - top) * scale_y + y, y), y + height),
        )

    def grid(self, width: int, height: int) -> Grid:
        """The place of an output raster of that size, which covers the whole input."""
        step = self.size[0] / width, self.size[1] / height  # input px per raster px
        scale = self.scale
        axes = [_axis(self.source[i], self.target[i], scale[i], step[i]) for i in (0, 1)]
        raster = width, height
        low = [self.target[i] * raster[i] // self.size[i] for i in (0, 1)]
        high = [-(-sum(self.target[i::2]) * raster[i] // self.size[i]) for i in (0, 1)]
        x, y, wide, tall = self.source
        return Grid(
            scale=(axes[0][0], axes[1][0]),
            offset=(axes[0][1], axes[1][1]),
            window=(low[0], low[1], high[0], high[1]),
            bounds=(x, y, x + wide, y + tall),
        )


def _axis(source: int, target: int, scale: float, step: float) -> tuple[float, float]:
    return step * scale, source - target * scale


def fit_region(
    kind: Literal["stretch", "letterbox", "crop"],
    region: Rect,
    size: tuple[int, int],
    place: Literal["centre", "top_left"] = "centre",
) -> Fit:
    """Fits the region [x, y, w, h] px of a frame into an input of `size` [w, h] px.

    stretch fills the input with the region; letterbox keeps its aspect and pads, on both sides or,
    with place top_left, right or below alone; crop keeps the aspect of the input and takes the
    middle of the region.
    """
    x, y, width, height = region
    to_width, to_height = size
    if min(width, height, to_width, to_height) < 1:
        raise ValueError(f"fit region {region} into {size}: empty")
    if kind == "letterbox":
        scale = min(to_width / width, to_height / height)
        used = (
            min(to_width, max(1, round(width * scale))),
            min(to_height, max(1, round(height * scale))),
        )
        corner = ((to_width - used[0]) // 2, (to_height - used[1]) // 2)
        if place == "top_left":
            corner = (0, 0)
        return Fit(region, (*corner, *used), size)
    if kind == "crop":
        taken = (
            max(1, min(width, round(height * to_width / to_height))),
            max(1, min(height, round(width * to_height / to_width))),
        )
        corner = (x + (width - taken[0]) // 2, y + (height - taken[1]) // 2)
        return Fit((*corner, *taken), (0, 0, *size), size)
    return Fit(region, (0, 0, *size), size)


def overlaps(these: Floats, those: Floats) -> Floats:
    """Intersection over union of boxes [..., 4] with others that broadcast; 0 where both are empty.

    One box [4] with [N, 4] gives [N]; [M, 1, 4] with [N, 4] gives [M, N].
    """
    sides = np.minimum(these[..., 2:], those[..., 2:]) - np.maximum(these[..., :2], those[..., :2])
    shared = _product(sides)
    union = _product(these[..., 2:] - these[..., :2]) - shared
    union = union + _product(those[..., 2:] - those[..., :2])
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def overlap(this: Sequence[float], that: Sequence[float]) -> float:
    """Of two boxes. For a few of them an array costs more than it saves."""
    width = min(this[2], that[2]) - max(this[0], that[0])
    height = min(this[3], that[3]) - max(this[1], that[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    union = (this[2] - this[0]) * (this[3] - this[1]) - shared
    union += (that[2] - that[0]) * (that[3] - that[1])
    return shared / union if union > 0 else 0.0


def _product(sides: Floats) -> Floats:
    inside = np.maximum(sides, 0)
    area: Floats = inside[..., 0] * inside[..., 1]
    return area


def best_first(scores: Floats, limit: int) -> NDArray[np.intp]:
    """Indices of the `limit` highest scores, best first; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")[:limit]


def suppress(
    boxes: Floats,
    scores: Floats,
    classes: NDArray[np.integer[Any]],
    *,
    iou: float,
    keep: int,
) -> tuple[NDArray[np.intp], bool]:
    """Greedy non-maximum suppression within each class.

    Returns the indices kept, best first, at most `keep`, and whether others had to be left out.
    At most `MAX_CANDIDATES` boxes are looked at.
    """
    order = best_first(scores, MAX_CANDIDATES)
    cut = len(scores) > MAX_CANDIDATES
    kept: list[int] = []
    while order.size and len(kept) < keep:
        first, rest = order[0], order[1:]
        kept.append(int(first))
        double = (classes[rest] == classes[first]) & (overlaps(boxes[first], boxes[rest]) > iou)
        order = rest[~double]
    return np.asarray(kept, dtype=np.intp), cut or order.size > 0


def quantise_px(value: float) -> float:
    """To 0.1 px."""
    return round(float(value), 1) + 0.0  # + 0.0: no minus zero in a record


def quantise_score(value: float) -> float:
    """To 1e-4, within [0, 1]."""
    return round(min(max(float(value), 0.0), 1.0), 4)
