"""What every decoder shares: the shapes it reads, finite numbers, names of classes; and `probs`.

Decoders are pure: a mapping of arrays by output name in, candidates in input pixels out. Shapes are
checked when a model is loaded, as far as they are static, and again on each frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import BadFrame, NotFinite, Rejected
from edge_agent.core.frames import MAX_LABELS_PER_HEAD
from edge_agent.core.manifest import HeadSpec
from edge_agent.core.vision import best_first, quantise_score

Outputs = Mapping[str, NDArray[Any]]
Shape = Sequence[int | None]  # None: not known before the run

# A mark is a size, or a letter that stands for the same size everywhere in the head. C holds a
# place for each class that a label names; F is C and the four numbers of a box.
_LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "boxes": (("1 N 4", "1 N", "1 N"),),
    "yolo": (("1 F N",), ("1 N F",)),
    "detr": (("1 Q C", "1 Q 4"),),
    "mask_sigmoid": (("1 C H W",),),
    "mask_softmax": (("1 C H W",),),
    "mask_argmax": (("1 H W",), ("1 1 H W",)),
    "probs": (("1 C",),),
    "heatmaps": (("1 C H W",),),
}


def classes_named(head: HeadSpec) -> int:
    """The number of classes that the outputs must at least have."""
    return max((label.id for label in head.labels), default=0) + 1


def label_keys(head: HeadSpec) -> dict[int, str]:
    """Class index to the key in records. Empty: the manifest names none, `name_of` counts them."""
    return {label.id: label.key for label in head.labels}


def name_of(keys: Mapping[int, str], index: int) -> str:
    """The key of a class; a head without labels numbers its classes."""
    return keys[index] if keys else str(index)


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
    least = classes_named(head)
    if _fits_decoder(head.decoder, given, least):
        return ""
    wanted = " or ".join(", ".join(f"[{shape}]" for shape in layout) for layout in layouts)
    return (
        f"decoder {head.decoder} of head {head.name}: expected {wanted} with C >= {least}, "
        f"got {', '.join(str(list(shape)) for shape in given)}"
    )


@lru_cache(maxsize=1024)
def _fits_decoder(decoder: str, shapes: tuple[tuple[int | None, ...], ...], least: int) -> bool:
    """Asked again for each frame, of the same few shapes."""
    return any(_fits(layout, shapes, least) for layout in _LAYOUTS[decoder])


def _fits(layout: tuple[str, ...], shapes: Sequence[Shape], least: int) -> bool:
    sizes: dict[str, int] = {}
    for text, shape in zip(layout, shapes, strict=True):
        marks = text.split()
        if len(marks) != len(shape):
            return False
        for mark, size in zip(marks, shape, strict=True):
            if size is not None and not _fits_size(mark, size, sizes, least):
                return False
    return True


def _fits_size(mark: str, size: int, sizes: dict[str, int], least: int) -> bool:
    if mark.isdigit():
        return size == int(mark)
    if mark in "CF":
        return size >= least + (4 if mark == "F" else 0)
    return sizes.setdefault(mark, size) == size


def check_shapes(head: HeadSpec, shapes: Mapping[str, Shape]) -> None:
    """Compares the outputs of a loaded model with what the head's decoder reads.

    Raises: Rejected.
    """
    fault = shape_fault(head, shapes)
    if fault:
        raise Rejected(fault, hint="correct [[heads]] in the manifest or export the model again")


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
    order = best_first(scores, scores.size)
    found = [
        (name_of(keys, int(index)), quantise_score(scores[index]))
        for index in order[scores[order] >= threshold]
        if not keys or int(index) in keys
    ]
    return found[:MAX_LABELS_PER_HEAD]
