"""Boxes out of detectors: `boxes`, `yolo`, `detr`.

All give the same: boxes in input pixels with score and class, best first, at most `MAX_OBJECTS`.
Numbers are checked where they are read: every score, and what belongs to the candidates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import (
    Outputs,
    classes_named,
    label_keys,
    refuse_non_finite,
    sigmoid,
    take_unchecked,
)
from edge_agent.core.frames import MAX_OBJECTS
from edge_agent.core.manifest import HeadSpec
from edge_agent.core.vision import Floats, best_first, overlap, suppress

FEW = 24  # up to so many candidates are compared one by one: arrays would take longer


class Candidates(NamedTuple):
    """boxes: [N, 4] float32, x0 y0 x1 y1 in input px. scores: [N] float32. classes: [N] int64.

    truncated: there were more than `MAX_OBJECTS`.
    """

    boxes: Floats
    scores: Floats
    classes: NDArray[np.int64]
    truncated: bool = False


def decode_boxes(
    head: HeadSpec, outputs: Outputs, *, size: tuple[int, int], threshold: float
) -> Candidates:
    """Reads the outputs of a `boxes`, `yolo` or `detr` head; `size` is [w, h] px of the input.

    Raises: BadFrame.
    """
    arrays = take_unchecked(head, outputs)
    if head.decoder == "boxes":
        found = _boxes(head, arrays, threshold)
    elif head.decoder == "yolo":
        found = _yolo(head, arrays[0], threshold)
    else:
        found = _detr(head, arrays, size, threshold)
    if len(found.scores) <= FEW:
        return _best_of_few(head, found)
    return _best(head, _named(head, found))


def _boxes(head: HeadSpec, arrays: list[NDArray[Any]], threshold: float) -> Candidates:
    """[1, N, 4] x0 y0 x1 y1, [1, N] scores, [1, N] classes."""
    boxes, scores, classes = (array[0] for array in arrays)
    refuse_non_finite(head.outputs[1], scores)
    over = np.flatnonzero(scores >= threshold)
    corners, chosen = boxes[over], classes[over]
    refuse_non_finite(head.outputs[0], corners)
    refuse_non_finite(head.outputs[2], chosen)
    return Candidates(
        corners.astype(np.float32, copy=False),
        scores[over].astype(np.float32, copy=False),
        chosen.astype(np.int64, copy=False),
    )


def _yolo(head: HeadSpec, array: NDArray[Any], threshold: float) -> Candidates:
    """[1, 4 + C, N] or [1, N, 4 + C]: centre, size in input px, class scores already 0..1."""
    rows = array[0] if _features_first(head, array.shape) else array[0].T
    best = rows[4:].max(axis=0)  # nan goes through
    refuse_non_finite(head.outputs[0], best)
    over = np.flatnonzero(best >= threshold)
    chosen = rows[:, over].astype(np.float32, copy=False)
    refuse_non_finite(head.outputs[0], chosen)
    return Candidates(
        _corners(chosen[:4].T), best[over].astype(np.float32), chosen[4:].argmax(axis=0)
    )


def _features_first(head: HeadSpec, shape: tuple[int, ...]) -> bool:
    """The axis of 4 + C is the one that fits the labels exactly, else the shorter one."""
    exact = 4 + classes_named(head)
    if (shape[1] == exact) != (shape[2] == exact):
        return shape[1] == exact
    return shape[2] < exact or exact <= shape[1] <= shape[2]


def _detr(
    head: HeadSpec, arrays: list[NDArray[Any]], size: tuple[int, int], threshold: float
) -> Candidates:
    """[1, Q, C] logits (sigmoid), [1, Q, 4] centre and size, normalised 0..1."""
    logits, boxes = (array[0] for array in arrays)
    best = logits.max(axis=1)  # nan goes through
    refuse_non_finite(head.outputs[0], best)
    scores = sigmoid(best)
    over = np.flatnonzero(scores >= threshold)
    chosen = boxes[over].astype(np.float32, copy=False)
    refuse_non_finite(head.outputs[1], chosen)
    return Candidates(
        _corners(chosen * np.asarray((*size, *size), dtype=np.float32)),
        scores[over],
        logits[over].argmax(axis=1),
    )


def _corners(centred: Floats) -> Floats:
    """[N, 4] cx cy w h to x0 y0 x1 y1."""
    half = centred[:, 2:] / 2
    return np.concatenate((centred[:, :2] - half, centred[:, :2] + half), axis=1)


def _named(head: HeadSpec, found: Candidates) -> Candidates:
    """Without the classes that the manifest does not name, and without empty boxes."""
    keep = (found.boxes[:, 2:] > found.boxes[:, :2]).all(axis=1)
    keys = label_keys(head)
    if keys:
        keep &= np.isin(found.classes, list(keys))
    return Candidates(found.boxes[keep], found.scores[keep], found.classes[keep])


def _best_of_few(head: HeadSpec, found: Candidates) -> Candidates:
    """As `_named` and `_best` together."""
    boxes, classes, scores = found.boxes.tolist(), found.classes.tolist(), found.scores.tolist()
    keys = label_keys(head)
    kept: list[int] = []
    for index in sorted(range(len(scores)), key=lambda i: -scores[i]):
        x0, y0, x1, y1 = box = boxes[index]
        if not (x1 > x0 and y1 > y0) or (keys and classes[index] not in keys):
            continue
        if head.decoder == "detr" or not any(
            classes[other] == classes[index] and overlap(boxes[other], box) > head.nms_iou
            for other in kept
        ):
            kept.append(index)
    if kept == list(range(len(scores))):
        return found
    return Candidates(found.boxes[kept], found.scores[kept], found.classes[kept])


def _best(head: HeadSpec, found: Candidates) -> Candidates:
    """Without doubles. A detr predicts a set: suppression would only remove real neighbours."""
    if head.decoder == "detr":
        order, cut = best_first(found.scores, MAX_OBJECTS), len(found.scores) > MAX_OBJECTS
    else:
        order, cut = suppress(*found[:3], iou=head.nms_iou, keep=MAX_OBJECTS)
    return Candidates(found.boxes[order], found.scores[order], found.classes[order], cut)
