"""What every decoder shares: the shapes it reads, finite numbers, names of classes; and `probs`.

Decoders are pure: a mapping of arrays by output name in, candidates in input pixels out. Shapes are
checked when a model is loaded, as far as they are static, and again on each frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadFrame, NotFinite, Rejected
from edge_agent.core.frames import MAX_LABELS_PER_HEAD
from edge_agent.core.manifest import MAX_LABELS, Column, HeadSpec
from edge_agent.core.vision import best_first, quantise_score

Outputs = Mapping[str, NDArray[Any]]
Shape = Sequence[int | None]  # None: not known before the run

# A mark is a size, or a letter that stands for the same size everywhere in the head. C holds a
# place for each class that a label names, or as many as the manifest says; F is C and the four
# numbers of a box; G is F and objectness; K is a row of an exported suppression.
_LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "boxes": (("1 N 4", "1 N", "1 N"),),
    "yolo": (("1 F N",), ("1 N F",)),
    "yolo_objectness": (("1 N G",), ("1 G N",)),
    "yolox": (("1 N G",), ("1 G N",)),
    "yolo_e2e": (("1 N 6",), ("1 6 N",)),
    "nms": (("N K",), ("1 N K",), ("1 1 N K",)),
    "detr": (("1 Q C", "1 Q 4"),),
    "mask_sigmoid": (("1 C H W",),),
    "mask_softmax": (("1 C H W",),),
    "mask_argmax": (("1 H W",), ("1 1 H W",)),
    "probs": (("1 C",),),
    "heatmaps": (("1 C H W",),),
}


# Beside the classes, in each row of a detector that has one column per class.
BESIDE = {"yolo": 4, "yolo_objectness": 5, "yolox": 5}
COLUMNS: tuple[Column, ...] = ("batch", "x0", "y0", "x1", "y1", "class", "score")  # of `nms`
CORNERS: tuple[Column, ...] = ("x0", "y0", "x1", "y1")  # of `boxes`
END_TO_END: tuple[Column, ...] = ("x0", "y0", "x1", "y1", "score", "class")
STRIDES = (8, 16, 32)  # px of the input per cell, of the grids of a `yolox`
STRIDES_P6 = (8, 16, 32, 64)
SLACK = 0.01  # of a probability: half precision and quantised nets round to just above 1


def classes_named(head: HeadSpec) -> int:
    """The number of classes that the outputs must at least have; exactly, where it is declared."""
    return head.classes or max((label.id for label in head.labels), default=0) + 1


def columns_of(head: HeadSpec) -> tuple[Column, ...]:
    """The order of the numbers in a row of a `yolo_e2e` or `nms` head."""
    return END_TO_END if head.decoder == "yolo_e2e" else head.columns or COLUMNS


def corners_of(head: HeadSpec, boxes: NDArray[Any]) -> NDArray[Any]:
    """[N, 4] of a `boxes` head in the order of its manifest, as x0 y0 x1 y1."""
    if not head.columns or head.columns == CORNERS:
        return boxes
    return boxes[:, [head.columns.index(one) for one in CORNERS]]


def cells(size: tuple[int, int], strides: Sequence[int]) -> int:
    """How many cells the grids of an input of [w, h] px have."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in strides)


def features_first(head: HeadSpec, shape: Sequence[int]) -> bool:
    """Of [1, F, N] or [1, N, F]: the axis that fits the labels exactly is F, else the shorter."""
    if head.decoder == "yolo_e2e":
        return shape[2] != len(END_TO_END)
    exact = BESIDE[head.decoder] + classes_named(head)
    if (shape[1] == exact) != (shape[2] == exact):
        return shape[1] == exact
    return shape[2] < exact or exact <= shape[1] <= shape[2]


def label_keys(head: HeadSpec) -> dict[int, str]:
    """Class index to the key in records. Empty: the manifest names none, `name_of` counts them."""
    return {label.id: label.key for label in head.labels}


def name_of(keys: Mapping[int, str], index: int) -> str:
    """The key of a class; a head without labels numbers its classes."""
    return keys[index] if keys else str(index)


def rows_of(head: HeadSpec, array: NDArray[Any]) -> NDArray[Any]:
    """[N, K] of a `yolo_e2e` or `nms` head, whichever axis comes first; no copy."""
    table: NDArray[Any] = array.reshape(array.shape[-2:])
    if head.decoder == "yolo_e2e" and features_first(head, array.shape):
        table = table.T
    return table


def shape_fault(head: HeadSpec, shapes: Mapping[str, Shape]) -> str:
    """What is wrong with the outputs of a head, in words; "" when they fit its decoder."""
    layouts = _LAYOUTS[head.decoder]
    if len(head.outputs) != len(layouts[0]):
        return (
            f"decoder {head.decoder} of head {head.name}: expected {len(layouts[0])} outputs, "
            f"got {list(head.outputs)}"
        )
    missing = [name for name in head.outputs if name not in shapes]
    if missing:
        return f"head {head.name}: expected outputs {missing}, got {sorted(shapes)}"
    given = tuple(tuple(shapes[name]) for name in head.outputs)
    sizes = _Sizes(classes_named(head), head.classes is not None, len(columns_of(head)))
    if _fits_decoder(head.decoder, given, sizes):
        return ""
    wanted = " or ".join(", ".join(f"[{shape}]" for shape in layout) for layout in layouts)
    return (
        f"decoder {head.decoder} of head {head.name}: expected {wanted}{_told(wanted, sizes)}, "
        f"got {', '.join(str(list(shape)) for shape in given)}"
    )


class _Sizes(NamedTuple):
    """classes: so many, exactly so many or at least. columns: of a row of `nms`."""

    classes: int
    exact: bool
    columns: int


def _told(wanted: str, sizes: _Sizes) -> str:
    """What the letters of a layout stand for."""
    more = {"F": "F = 4 + C, ", "G": "G = 5 + C, "}
    words = next((text for mark, text in more.items() if f" {mark}" in wanted), "")
    if words or " C" in wanted:
        return f" with {words}C {'=' if sizes.exact else '>='} {sizes.classes}"
    return f" with K = {sizes.columns}" if " K" in wanted else ""


@lru_cache(maxsize=1024)
def _fits_decoder(decoder: str, shapes: tuple[tuple[int | None, ...], ...], known: _Sizes) -> bool:
    """Asked again for each frame, of the same few shapes."""
    return any(_fits(layout, shapes, known) for layout in _LAYOUTS[decoder])


def _fits(layout: tuple[str, ...], shapes: Sequence[Shape], known: _Sizes) -> bool:
    sizes: dict[str, int] = {}
    for text, shape in zip(layout, shapes, strict=True):
        marks = text.split()
        if len(marks) != len(shape):
            return False
        for mark, size in zip(marks, shape, strict=True):
            if size is not None and not _fits_size(mark, size, sizes, known):
                return False
    return True


def _fits_size(mark: str, size: int, sizes: dict[str, int], known: _Sizes) -> bool:
    if mark.isdigit():
        return size == int(mark)
    if mark == "K":
        return size == known.columns
    if mark in "CFG":
        least = known.classes + {"C": 0, "F": 4, "G": 5}[mark]
        return size == least if known.exact else size >= least
    return sizes.setdefault(mark, size) == size


def check_shapes(
    head: HeadSpec, shapes: Mapping[str, Shape], size: tuple[int, int] | None = None
) -> None:
    """Compares the outputs of a loaded model with what the head's decoder reads.

    size: [w, h] px of the input, from which a `yolox` has its grids.

    Raises: Rejected.
    """
    fault = shape_fault(head, shapes)
    if not fault and head.decoder == "yolox" and size is not None:
        shape = [one or 0 for one in shapes[head.outputs[0]]]
        rows = shape[2] if features_first(head, shape) else shape[1]
        fault = grid_fault(head, rows, size) if all(shape) else ""
    if fault:
        raise Rejected(fault, hint="correct [[heads]] in the manifest or export the model again")


def grid_fault(head: HeadSpec, rows: int, size: tuple[int, int]) -> str:
    """What is wrong with the number of rows of a `yolox`, in words; "" when it is that of grids."""
    counts = [cells(size, strides) for strides in (STRIDES, STRIDES_P6)]
    if rows in counts:
        return ""
    return (
        f"decoder yolox of head {head.name}: expected N = {counts[0]} (strides 8, 16, 32) or "
        f"{counts[1]} (and 64) rows for an input of {size[0]}x{size[1]} px, got {rows}"
    )


def take(head: HeadSpec, outputs: Outputs) -> list[NDArray[Any]]:
    """The head's arrays in the order of the manifest: shapes checked, numbers finite.

    Raises: BadFrame.
    """
    arrays = take_unchecked(head, outputs)
    for name, array in zip(head.outputs, arrays, strict=True):
        refuse_non_finite(name, array)
    return arrays


def take_unchecked(head: HeadSpec, outputs: Outputs) -> list[NDArray[Any]]:
    """As `take`; the numbers are the caller's to check before they become a finding.

    Raises: BadFrame.
    """
    fault = shape_fault(
        head, {name: outputs[name].shape for name in head.outputs if name in outputs}
    )
    if fault:
        raise BadFrame(f"decode frame: {fault}")
    return [outputs[name] for name in head.outputs]


def refuse_non_finite(name: str, array: NDArray[Any]) -> None:
    """Raises: NotFinite."""
    if array.dtype.kind != "f" or not array.size:
        return
    # nan goes through both; a sum takes three times as long, and may itself overflow
    if math.isfinite(np.maximum.reduce(array, axis=None)) and math.isfinite(
        np.minimum.reduce(array, axis=None)
    ):
        return
    wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
    raise NotFinite(
        f"decode frame: output {name}: expected finite numbers, got {wrong} of {array.size} "
        "nan or inf",
        hint="check the model: it divides by zero or overflows on such a frame",
    )


def refuse_improbable(head: HeadSpec, name: str, scores: NDArray[Any]) -> None:
    """Scores above 1 are no probabilities: logits, px, or a model that went wrong.

    Raises: BadFrame.
    """
    # nan goes through: it is refused for what it is
    if scores.size and float(np.maximum.reduce(scores, axis=None)) > 1.0 + SLACK:
        raise BadFrame(
            f"decode frame: output {name}: decoder {head.decoder} of head {head.name} expects "
            f"scores of 0 to 1, got {float(scores.max()):.4g}",
            hint="check the model with its golden samples: edge-agent models verify",
        )


def whole_classes(head: HeadSpec, name: str, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Class indices as such: finite, whole, from 0, below the number of classes of the model.

    Raises: BadFrame.
    """
    refuse_non_finite(name, classes)
    strict = head.classes is not None or (head.decoder != "boxes" and bool(head.labels))
    limit = classes_named(head) if strict else MAX_LABELS
    wrong = (classes < 0) | (classes >= limit) | (np.floor(classes) != classes)
    if wrong.any():
        raise BadFrame(
            f"decode frame: output {name}: decoder {head.decoder} of head {head.name} expects "
            f"whole classes of 0 to {limit - 1}, got {float(classes[wrong][0]):.6g}",
            hint="declare classes under [[heads]] if it has more than its labels; else check model",
        )
    indices: NDArray[np.int64] = classes.astype(np.int64, copy=False)
    return indices


def sigmoid(logits: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Of any size of logit, without overflow."""
    clipped = np.clip(logits.astype(np.float32, copy=False), -80.0, 80.0)
    return 1.0 / (1.0 + np.exp(-clipped))


def decode_probs(head: HeadSpec, outputs: Outputs, threshold: float) -> list[tuple[str, float]]:
    """[1, C] probabilities to (label, score) at or above the threshold, best first, <= 20.

    Raises: BadFrame.
    """
    (array,) = take(head, outputs)
    keys = label_keys(head)
    scores = array[0].astype(np.float32)
    refuse_improbable(head, head.outputs[0], scores)
    order = best_first(scores, scores.size)
    found = [
        (name_of(keys, int(index)), quantise_score(scores[index]))
        for index in order[scores[order] >= threshold]
        if not keys or int(index) in keys
    ]
    return found[:MAX_LABELS_PER_HEAD]
