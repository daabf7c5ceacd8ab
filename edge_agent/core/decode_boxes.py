"""Boxes out of detectors: `boxes`, `yolo`, `detr`.

All give the same: boxes in input pixels with score and class, best first, at most `MAX_OBJECTS`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import Outputs, classes_named, label_keys, sigmoid, take
from edge_agent.core.frames import MAX_OBJECTS
from edge_agent.core.manifest import HeadSpec
from edge_agent.core.vision import Floats, best_first, suppress


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
    arrays = take(head, outputs)
    if head.decoder == "boxes":
        found = _boxes(arrays, threshold)
    elif head.decoder == "yolo":
        found = _yolo(head, arrays[0], threshold)
    else:
        found = _detr(arrays, size, threshold)
    return _best(head, _named(head, found))


def _boxes(arrays: list[NDArray[Any]], threshold: float) -> Candidates:
    """[1, N, 4] x0 y0 x1 y1, [1, N] scores, [1, N] classes."""
    boxes, scores, classes = (array[0] for array in arrays)
    over = np.flatnonzero(scores >= threshold)
    return Candidates(
        boxes[over].astype(np.float32),
        scores[over].astype(np.float32),
        classes[over].astype(np.int64),
    )


def _yolo(head: HeadSpec, array: NDArray[Any], threshold: float) -> Candidates:
    """[1, 4 + C, N] or [1, N, 4 + C]: centre, size in input px, class scores already 0..1."""
    rows = array[0] if _features_first(head, array.shape) else array[0].T
    best = rows[4:].max(axis=0)
    over = np.flatnonzero(best >= threshold)
    chosen = rows[:, over].astype(np.float32)
    return Candidates(
        _corners(chosen[:4].T), best[over].astype(np.float32), chosen[4:].argmax(axis=0)
    )


def _features_first(head: HeadSpec, shape: tuple[int, ...]) -> bool:
    """The axis of 4 + C is the one that fits the labels exactly, else the shorter one."""
    exact = 4 + classes_named(head)
    if (shape[1] == exact) != (shape[2] == exact):
        return shape[1] == exact
    return shape[2] < exact or exact <= shape[1] <= shape[2]


def _detr(arrays: list[NDArray[Any]], size: tuple[int, int], threshold: float) -> Candidates:
    """[1, Q, C] logits (sigmoid), [1, Q, 4] centre and size, normalised 0..1."""
    logits, boxes = (array[0] for array in arrays)
    scores = sigmoid(logits.max(axis=1))
    over = np.flatnonzero(scores >= threshold)
    scale = np.asarray((*size, *size), dtype=np.float32)
    return Candidates(
        _corners(boxes[over].astype(np.float32) * scale),
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


def _best(head: HeadSpec, found: Candidates) -> Candidates:
    """Without doubles. A detr predicts a set: suppression would only remove real neighbours."""
    if head.decoder == "detr":
        order, cut = best_first(found.scores, MAX_OBJECTS), len(found.scores) > MAX_OBJECTS
    else:
        order, cut = suppress(*found[:3], iou=head.nms_iou, keep=MAX_OBJECTS)
    return Candidates(found.boxes[order], found.scores[order], found.classes[order], cut)
