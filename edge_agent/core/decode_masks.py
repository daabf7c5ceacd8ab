"""Areas and points out of rasters: `mask_sigmoid`, `mask_softmax`, `mask_argmax`, `heatmaps`.

A mask stays at the model's own resolution; what it outlines is scaled, never the mask.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import Outputs, label_keys, name_of, sigmoid, take
from edge_agent.core.errors import BadFrame
from edge_agent.core.manifest import MAX_LABELS, HeadSpec


class Plane(NamedTuple):
    """One label's mask. mask: [H, W] uint8 of 0 and 1.

    values: [H, W] logits or probabilities of the label, None where the model gives classes only.
    """

    label: str
    mask: NDArray[np.uint8]
    values: NDArray[Any] | None = None
    logits: bool = False

    def score(self, window: tuple[slice, slice], inside: NDArray[np.bool_]) -> float:
        """Mean probability over the chosen pixels of a window; 1 where the model gives none."""
        if self.values is None:
            return 1.0
        chosen = self.values[window][inside]
        return float((sigmoid(chosen) if self.logits else chosen).mean(dtype=np.float64))


def decode_masks(head: HeadSpec, outputs: Outputs, threshold: float) -> list[Plane]:
    """One binary mask for each label that is somewhere in the frame.

    Raises: BadFrame.
    """
    (array,) = take(head, outputs)
    if head.decoder == "mask_sigmoid":
        return _sigmoid_planes(head, array[0], threshold)
    if head.decoder == "mask_softmax":
        return _softmax_planes(head, array[0], threshold)
    return _class_planes(head, array.reshape(array.shape[-2:]))


def _sigmoid_planes(head: HeadSpec, logits: NDArray[Any], threshold: float) -> list[Plane]:
    """[K, H, W]: labels may overlap. Compares logits with the threshold's, so no exp is taken."""
    keys = label_keys(head)
    cut = logit(threshold)
    return [
        Plane(name_of(keys, index), (logits[index] >= cut).view(np.uint8), logits[index], True)
        for index in (sorted(keys) or range(len(logits)))
    ]


def _softmax_planes(head: HeadSpec, logits: NDArray[Any], threshold: float) -> list[Plane]:
    """[K, H, W]: each pixel is of its most probable class, where that one is probable enough."""
    values = logits.astype(np.float32, copy=False)
    winner = values.argmax(axis=0)
    top = values.max(axis=0)
    probability = 1.0 / np.exp(np.maximum(values - top, -80.0)).sum(axis=0)
    planes = []
    for index, label in _present(head, winner):
        mask = (winner == index) & (probability >= threshold)
        planes.append(Plane(label, mask.view(np.uint8), probability))
    return planes


def _class_planes(head: HeadSpec, classes: NDArray[Any]) -> list[Plane]:
    """[H, W] of class indices, integer or whole numbers."""
    lowest, highest = float(classes.min()), float(classes.max())
    limit = head.classes or MAX_LABELS
    if lowest < 0 or highest >= limit:
        raise BadFrame(
            f"decode frame: head {head.name}: expected classes 0 to {limit - 1}, "
            f"got {lowest:.6g} to {highest:.6g}"
        )
    if classes.dtype.kind == "f" and (classes != np.floor(classes)).any():
        raise BadFrame(
            f"decode frame: head {head.name}: expected whole classes, got fractions between "
            f"{lowest:.6g} and {highest:.6g}",
            hint="the model gives values of a mask: mask_sigmoid or mask_softmax reads them",
        )
    return [
        Plane(label, (classes == index).view(np.uint8)) for index, label in _present(head, classes)
    ]


def _present(head: HeadSpec, classes: NDArray[Any]) -> list[tuple[int, str]]:
    """Classes that occur and are named; 0 is the background unless a label says otherwise."""
    keys = label_keys(head)
    counts = np.bincount(classes.ravel().astype(np.intp, copy=False))
    return [
        (int(index), name_of(keys, int(index)))
        for index in np.flatnonzero(counts)
        if (index in keys if keys else index > 0)
    ]


def logit(probability: float) -> float:
    """The inverse of the sigmoid; infinite at 0 and 1."""
    if probability <= 0.0:
        return -math.inf
    return math.inf if probability >= 1.0 else math.log(probability / (1.0 - probability))


def decode_heatmaps(head: HeadSpec, outputs: Outputs) -> NDArray[np.float64]:
    """[1, K, H, W] keypoint heatmaps to [K, 3]: x, y in raster px (edges), score.

    K is in the order of the labels. Sub-pixel: a quarter pixel towards the higher neighbour.
    Raises: BadFrame.
    """
    (array,) = take(head, outputs)
    maps = array[0][[label.id for label in head.labels]] if head.labels else array[0]
    height, width = maps.shape[1:]
    peaks = maps.reshape(len(maps), -1).argmax(axis=1)
    points = np.empty((len(maps), 3))
    for row, (heat, peak) in enumerate(zip(maps, peaks, strict=True)):
        y, x = divmod(int(peak), width)
        points[row] = (
            x + 0.5 + _towards(heat[y], x, width),
            y + 0.5 + _towards(heat[:, x], y, height),
            float(heat[y, x]),
        )
    return points


def _towards(line: NDArray[Any], at: int, size: int) -> float:
    if not 0 < at < size - 1:
        return 0.0
    return 0.25 * float(np.sign(line[at + 1] - line[at - 1]))
