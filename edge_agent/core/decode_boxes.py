"""Boxes out of detectors: `boxes`, `detr`, `nms` and the family of `yolo`.

All give the same: boxes in input pixels with score and class, best first, at most `MAX_OBJECTS`.
Numbers are checked where they are read: every score, and what belongs to the candidates.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import (
    STRIDES,
    STRIDES_P6,
    Outputs,
    cells,
    columns_of,
    corners_of,
    features_first,
    grid_fault,
    label_keys,
    refuse_improbable,
    refuse_non_finite,
    rows_of,
    sigmoid,
    take_unchecked,
    whole_classes,
)
from edge_agent.core.errors import BadFrame
from edge_agent.core.frames import MAX_OBJECTS
from edge_agent.core.manifest import HeadSpec
from edge_agent.core.vision import Floats, best_first, overlap, suppress

# A set is free of doubles by itself: suppression would only remove real neighbours.
SETS = ("detr", "yolo_e2e", "nms")
MOST_LOG = 7.0  # of a side in cells: 1096 cells of at least 8 px are wider than any input
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
    """Reads the outputs of a head that gives boxes; `size` is [w, h] px of the input.

    Raises: BadFrame.
    """
    arrays = take_unchecked(head, outputs)
    if head.decoder == "boxes":
        found = _boxes(head, arrays, threshold)
    elif head.decoder == "yolo":
        found = _yolo(head, arrays[0], threshold)
    elif head.decoder in {"yolo_objectness", "yolox"}:
        found = _objectness(head, arrays[0], size, threshold)
    elif head.decoder == "detr":
        found = _detr(head, arrays, size, threshold)
    else:
        found = _rows(head, arrays[0], threshold)
    if head.box_unit == "relative":
        found = found._replace(boxes=found.boxes * np.asarray((*size, *size), dtype=np.float32))
    if len(found.scores) <= FEW:
        return _best_of_few(head, found)
    return _best(head, _named(head, found))


def _boxes(head: HeadSpec, arrays: list[NDArray[Any]], threshold: float) -> Candidates:
    """[1, N, 4] x0 y0 x1 y1 or as `columns` says, [1, N] scores, [1, N] classes."""
    boxes, scores, classes = (array[0] for array in arrays)
    refuse_non_finite(head.outputs[1], scores)
    over = np.flatnonzero(scores >= threshold)
    corners, chosen = corners_of(head, boxes[over]), classes[over]
    refuse_non_finite(head.outputs[0], corners)
    refuse_improbable(head, head.outputs[1], scores[over])
    return Candidates(
        corners.astype(np.float32, copy=False),
        scores[over].astype(np.float32, copy=False),
        whole_classes(head, head.outputs[2], chosen),
    )


def _yolo(head: HeadSpec, array: NDArray[Any], threshold: float) -> Candidates:
    """[1, 4 + C, N] or [1, N, 4 + C]: centre, size in input px, class scores already 0..1."""
    rows = _features(head, array)
    best = rows[4:].max(axis=0)  # nan goes through
    refuse_non_finite(head.outputs[0], best)
    over = np.flatnonzero(best >= threshold)
    refuse_improbable(head, head.outputs[0], best[over])
    chosen = rows[:, over].astype(np.float32, copy=False)
    refuse_non_finite(head.outputs[0], chosen)
    return Candidates(
        _corners(chosen[:4].T), best[over].astype(np.float32), chosen[4:].argmax(axis=0)
    )


def _features(head: HeadSpec, array: NDArray[Any]) -> NDArray[Any]:
    """[F, N], whichever of the two comes first."""
    rows: NDArray[Any] = array[0] if features_first(head, array.shape) else array[0].T
    return rows


def _objectness(
    head: HeadSpec, array: NDArray[Any], size: tuple[int, int], threshold: float
) -> Candidates:
    """[1, N, 5 + C] or [1, 5 + C, N]: centre, size, objectness, class scores already 0..1.

    Of `yolox` centre and size are in cells of its grids, else in px of the input.
    """
    name = head.outputs[0]
    rows = _features(head, array)
    refuse_non_finite(name, rows[4])
    over = np.flatnonzero(rows[4] >= threshold)  # no class score takes it above its objectness
    chosen = rows[:, over].astype(np.float32, copy=False)
    refuse_non_finite(name, chosen)
    refuse_improbable(head, name, chosen[4:])
    scores = chosen[4] * chosen[5:].max(axis=0)
    sure = scores >= threshold
    chosen, scores = chosen[:, sure], scores[sure]
    places = chosen[:4].T
    if head.decoder == "yolox":
        places = _from_grids(head, places, over[sure], rows.shape[1], size)
    return Candidates(_corners(places), scores, chosen[5:].argmax(axis=0))


def _from_grids(
    head: HeadSpec,
    places: Floats,
    indices: NDArray[np.intp],
    count: int,
    size: tuple[int, int],
) -> Floats:
    """[N, 4] offsets in a cell and logarithms of sizes in cells, to px of the input.

    indices: of these rows, among all `count`. Raises: BadFrame.
    """
    fault = grid_fault(head, count, size)
    if fault:
        raise BadFrame(f"decode frame: {fault}")
    corners, strides = _grids(size, count)
    if places.size and float(places[:, 2:].max()) > MOST_LOG:
        raise BadFrame(
            f"decode frame: output {head.outputs[0]}: decoder yolox of head {head.name} expects "
            f"logarithms of sizes in cells, got {float(places[:, 2:].max()):.4g}",
            hint="where the graph gives boxes in px already, its decoder is yolo_objectness",
        )
    step = strides[indices, None]
    centres, sides = (places[:, :2] + corners[indices]) * step, np.exp(places[:, 2:]) * step
    return np.concatenate((centres, sides), axis=1)


@lru_cache(maxsize=16)
def _grids(size: tuple[int, int], count: int) -> tuple[Floats, Floats]:
    """Column and row of each cell [N, 2], and its stride in px [N], in the order of a `yolox`."""
    steps = STRIDES if count == cells(size, STRIDES) else STRIDES_P6
    corners, strides = [], []
    for step in steps:
        wide, high = size[0] // step, size[1] // step
        index = np.arange(wide * high)
        corners.append(np.stack((index % wide, index // wide), axis=1))
        strides.append(np.full(wide * high, step))
    return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _rows(head: HeadSpec, array: NDArray[Any], threshold: float) -> Candidates:
    """`yolo_e2e` and `nms`: rows of corners in px, score and class, suppressed by the model.

    Rows below the threshold are filling, whatever else they hold; so are those of no picture.
    """
    name, columns = head.outputs[0], columns_of(head)
    table = rows_of(head, array)
    scores = table[:, columns.index("score")]
    refuse_non_finite(name, scores)
    chosen = table[scores >= threshold].astype(np.float32, copy=False)
    refuse_non_finite(name, chosen)
    if "batch" in columns:
        pictures = chosen[:, columns.index("batch")]
        if (pictures > 0).any():
            raise BadFrame(
                f"decode frame: output {name}: decoder {head.decoder} of head {head.name} expects "
                f"rows of picture 0, got {float(pictures.max()):.6g}",
                hint="export the model for a batch of 1, or correct columns under [[heads]]",
            )
        chosen = chosen[pictures == 0]
    values = {one: chosen[:, index] for index, one in enumerate(columns)}
    refuse_improbable(head, name, values["score"])
    return Candidates(
        np.stack([values[one] for one in ("x0", "y0", "x1", "y1")], axis=1),
        values["score"],
        whole_classes(head, name, values["class"]),
    )


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
        if head.decoder in SETS or not any(
            classes[other] == classes[index] and overlap(boxes[other], box) > head.nms_iou
            for other in kept
        ):
            kept.append(index)
    if kept == list(range(len(scores))):
        return found
    return Candidates(found.boxes[kept], found.scores[kept], found.classes[kept])


def _best(head: HeadSpec, found: Candidates) -> Candidates:
    """Without doubles."""
    if head.decoder in SETS:
        order, cut = best_first(found.scores, MAX_OBJECTS), len(found.scores) > MAX_OBJECTS
    else:
        order, cut = suppress(*found[:3], iou=head.nms_iou, keep=MAX_OBJECTS)
    return Candidates(found.boxes[order], found.scores[order], found.classes[order], cut)
