"""Which decoder would read these outputs? A guess of shapes, numbers and hints. Pure.

It is for a person to check: what is not told by them stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from tools.hot_tier.packing import ways_out
from tools.hot_tier.packing.certainty import SURE, Beside
from tools.hot_tier.packing.metadata import Hints

STRIDES: Final = (8, 16, 32)
FEW_ROWS: Final = 1000  # of an end-to-end model, after its own suppression
MOST_PIXELS: Final = 0.5
SMALL: Final = 2.0  # boxes up to this are parts of the picture

NO_BOXES: Final = (
    "its masks, points or angles are no boxes alone, and no decoder reads them; export the "
    "detection model"
)
COUNTED: Final = "classes are those seen on the frames; there may be more"
WHICH_MAPS: Final = (
    "mask_softmax where each pixel has one class, of which 0 is taken for the background; "
    "mask_sigmoid where classes may overlap; heatmaps where each map is a keypoint"
)


class Out(msgspec.Struct, frozen=True, kw_only=True):
    """One output. values: of frames, where they were run: [frames, ...]. whole: an integer type."""

    name: str
    shape: tuple[int, ...]
    whole: bool = False
    values: NDArray[np.float32] | None = None

    def within(self, low: float, high: float) -> bool | None:
        """None: not known."""
        if self.values is None or not self.values.size:
            return None
        return bool(self.values.min() >= low and self.values.max() <= high)


class Guess(msgspec.Struct, frozen=True, kw_only=True):
    """decoder: "" where none is known. classes: 0 where they cannot be counted.

    notes: what the person should know or check. more: further keys of the head.
    """

    task: str = ""
    decoder: str = ""
    outputs: tuple[str, ...] = ()
    classes: int = 0
    first: int = 0
    notes: tuple[str, ...] = ()
    more: dict[str, str | list[str]] = {}


Rule = Callable[[Sequence[Out], tuple[int, int], Hints], Guess | None]


def guess(outs: Sequence[Out], size: tuple[int, int], hints: Hints) -> Guess:
    """size: [w, h] px of the input."""
    for rule in _RULES:
        found = rule(outs, size, hints)
        if found is not None:
            return found
    return Guess(
        outputs=tuple(one.name for one in outs),
        notes=("no decoder is known for outputs of these shapes",),
    )


def cells(size: tuple[int, int]) -> int:
    """Of the grids of a detector without anchors."""
    return sum((size[0] // stride) * (size[1] // stride) for stride in STRIDES)


def _three(outs: Sequence[Out], _size: tuple[int, int], _hints: Hints) -> Guess | None:
    """Boxes, scores and classes of an exported suppression."""
    if any(len(one.shape) == 2 and one.shape[1] == 4 for one in outs):
        outs = [_batched(one) for one in outs]  # as torchvision gives them
    boxes = [one for one in outs if len(one.shape) == 3 and one.shape[0] == 1 and one.shape[2] == 4]
    for box in boxes:
        flat = [one for one in outs if one.shape == box.shape[:2]]
        if len(flat) != 2:
            continue
        sure = sorted(flat, key=_like_scores, reverse=True)
        notes = ["check which of the two is scores and which is classes", COUNTED]
        more: dict[str, str | list[str]] = {}
        if box.within(0, SMALL):
            more["box_unit"] = "relative"
            notes.append("boxes look like parts of the picture")
        names = (box.name, sure[0].name, sure[1].name)
        if ways_out.of_tensorflow(names):
            more["columns"] = ["y0", "x0", "y1", "x1"]
            notes.append("named as TensorFlow names y0 x0 y1 x1, classes from 1: check both")
        return Guess(
            task="detection",
            decoder="boxes",
            notes=tuple(notes),
            outputs=names,
            classes=_count(sure[1]),
            first=1 if "columns" in more else 0,
            more=more,
        )
    return None


def _batched(one: Out) -> Out:
    """With a batch of 1 in front."""
    return msgspec.structs.replace(one, shape=(1, *one.shape))


def _like_scores(one: Out) -> int:
    word = one.name.lower()
    points = 2 * any(part in word for part in ("score", "conf", "prob"))
    points -= 2 * any(part in word for part in ("class", "label", "cls"))
    points -= 3 * one.whole
    if one.values is not None and one.values.size:
        points -= bool((one.values == np.round(one.values)).all())
    return points


def _count(one: Out) -> int:
    return int(one.values.max()) + 1 if one.values is not None and one.values.size else 0


def _detr(outs: Sequence[Out], _size: tuple[int, int], _hints: Hints) -> Guess | None:
    """Logits and boxes of queries."""
    for box in outs:
        if len(box.shape) != 3 or box.shape[2] != 4:
            continue
        logits = [
            one
            for one in outs
            if one is not box and len(one.shape) == 3 and one.shape[:2] == box.shape[:2]
        ]
        if not logits:
            continue
        notes = ["is one of the classes `no object`? then it has no label"]
        if box.within(-SMALL, SMALL) is False:
            notes.append("boxes look like px: detr wants centre and size as parts of the picture")
        return Guess(
            task="detection",
            decoder="detr",
            outputs=(logits[0].name, box.name),
            classes=logits[0].shape[2],
            notes=tuple(notes),
        )
    return None


def _rows(outs: Sequence[Out], size: tuple[int, int], hints: Hints) -> Guess | None:
    """One tensor of boxes and scores."""
    found = [
        one
        for one in outs
        if len(one.shape) == 3 and one.shape[0] == 1 and min(one.shape[1:]) > 4 and not one.whole
    ]
    if not found:
        return None
    one = found[0]
    few, many = sorted(one.shape[1:])
    named = len(hints.names)
    if hints.task in {"segment", "pose", "obb"}:
        return Guess(
            task="detection",
            outputs=(one.name,),
            notes=(f"the file says task {hints.task}: {NO_BOXES}",),
        )
    if _is_end_to_end(one, few, many, named):
        return Guess(
            task="detection",
            decoder="yolo_e2e",
            outputs=(one.name,),
            classes=named or _classes_in(one),
            notes=("rows of x0 y0 x1 y1 score class, as after a suppression", COUNTED),
        )
    decoder = _of_columns(one, few, many, size, named)
    classes = few - (4 if decoder == "yolo" else 5)
    notes: list[str] = []
    if one.shape[2] == few and not named and decoder == "yolo_objectness" and many == cells(size):
        notes.append(f'or decoder = "yolo" with {few - 4} classes, where it has no objectness')
    more: dict[str, str | list[str]] = {}
    if named and named != classes:
        notes.append(
            f"the file names {named} classes, its output has {classes}: one of them is "
            "not what it seems"
        )
    largest = _boxes_of(one, few)
    if decoder == "yolo" and largest is not None and largest <= SMALL:
        more["box_unit"] = "relative"
        notes.append("boxes look like parts of the picture")
    return Guess(
        task="detection",
        decoder=decoder,
        outputs=(one.name,),
        classes=max(0, classes),
        notes=tuple(notes),
        more=more,
    )


def _is_end_to_end(one: Out, few: int, many: int, named: int) -> bool:
    if few != 6 or many > FEW_ROWS:
        return False
    if one.values is None:
        return named != 2  # two classes have as many columns in plain yolo
    rows = one.values.reshape(-1, *one.shape[1:])
    rows = rows if one.shape[2] == 6 else rows.transpose(0, 2, 1)
    classes = rows[..., 5]
    return bool((classes == np.round(classes)).all())


def _classes_in(one: Out) -> int:
    """Of rows of an end-to-end model, as far as they are seen."""
    if one.values is None or not one.values.size:
        return 0
    rows = one.values.reshape(-1, *one.shape[1:])
    return max(0, int((rows[..., 5] if one.shape[2] == 6 else rows[:, 5]).max()) + 1)


def _of_columns(one: Out, few: int, many: int, size: tuple[int, int], named: int) -> str:
    """With objectness or without; its grids resolved or not."""
    grids = cells(size)
    objectness = few - 5 == named if named else many == 3 * grids and few > 5
    if not objectness and not named and many == grids and one.shape[2] == few > 5:
        objectness = True  # rows first, without names: as YOLOX has it
    if not objectness or _is_class(one, few):
        return "yolo"
    largest = _boxes_of(one, few)
    raw = many == grids and largest is not None and largest < max(size) / 4
    return "yolox" if raw else "yolo_objectness"


def _is_class(one: Out, few: int) -> bool:
    """Whether the numbers say that the first column behind the box is a class, no objectness."""
    if one.values is None or not one.values.size or few < 6:
        return False
    rows = one.values.reshape(-1, *one.shape[1:])
    rows = rows if one.shape[2] == few else rows.transpose(0, 2, 1)
    beside = Beside()
    beside.add(rows[..., 4:].reshape(-1, few - 4), SURE)
    return beside.is_class > 0


def _boxes_of(one: Out, few: int) -> float | None:
    """The largest number in the columns of boxes."""
    if one.values is None or not one.values.size:
        return None
    rows = one.values.reshape(-1, *one.shape[1:])
    rows = rows[..., :4] if one.shape[2] == few else rows[:, :4]
    return float(np.abs(rows).max())


def _suppressed(outs: Sequence[Out], _size: tuple[int, int], hints: Hints) -> Guess | None:
    for one in outs:
        if one.shape[-1:] != (7,) or len(one.shape) < 2 or not _is_suppressed(one, hints):
            continue
        return Guess(
            task="detection",
            decoder="nms",
            outputs=(one.name,),
            classes=len(hints.names),
            notes=("rows of an exported suppression: check their columns",),
        )
    return None


def _is_suppressed(one: Out, hints: Hints) -> bool:
    """Whether rows of 7 are batch, box, class and score, and no box with three scores."""
    if len(one.shape) == 2:
        return True
    if one.values is None or not one.values.size:
        return one.shape[-2] <= FEW_ROWS and len(hints.names) not in {2, 3}
    rows = one.values.reshape(-1, 7)
    batch, classes = rows[:, 0], rows[:, 5]
    return not batch.any() and bool((classes == np.round(classes)).all())


def _maps(outs: Sequence[Out], size: tuple[int, int], _hints: Hints) -> Guess | None:
    """A mask of each class, or of classes."""
    for one in map(_short, outs):
        shape = one.shape
        if len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > 7 and one.whole:
            return _classes_map(one)
        if len(shape) != 4 or shape[0] != 1:
            continue
        if one.whole and 1 in shape[1:]:
            return _classes_map(one)
        last = min(shape[1], shape[3]) == shape[3] and _in_proportion(shape[1:3], size)
        classes = shape[3] if last else shape[1]
        if min(shape[1:3] if last else shape[2:]) > 1:
            return _logits_map(one, classes, axis=-1 if last else -3)
    return None


def _short(one: Out) -> Out:
    """Without the axes of 1 behind the fourth."""
    shape = one.shape
    while len(shape) > 4 and shape[-1] == 1:
        shape = shape[:-1]
    if shape == one.shape:
        return one
    values = None if one.values is None else one.values.reshape(-1, *shape[1:])
    return msgspec.structs.replace(one, shape=shape, values=values)


def _in_proportion(high_wide: tuple[int, ...], size: tuple[int, int]) -> bool:
    return abs(high_wide[0] * size[0] - high_wide[1] * size[1]) <= max(size)


def _classes_map(one: Out) -> Guess:
    return Guess(
        task="segmentation",
        decoder="mask_argmax",
        outputs=(one.name,),
        classes=_count(one),
        first=1,
        notes=("class 0 is taken for the background, which has no label", COUNTED),
    )


def _logits_map(one: Out, classes: int, *, axis: int) -> Guess:
    if classes == 1:
        return Guess(task="segmentation", decoder="mask_sigmoid", outputs=(one.name,), classes=1)
    sums = None if one.values is None else one.values.sum(axis=axis)
    softmax = sums is not None and bool(np.abs(sums - 1).max() < 1e-2)
    squashed = one.within(0, 1)
    apart = not softmax and (squashed or _mostly_none(one, axis))
    decoder = "mask_sigmoid" if apart else "mask_softmax"
    return Guess(
        task="segmentation",
        decoder=decoder,
        outputs=(one.name,),
        classes=classes,
        first=1 if decoder == "mask_softmax" else 0,
        notes=(WHICH_MAPS,),
    )


def _mostly_none(one: Out, axis: int) -> bool:
    """Whether most pixels have only logits below 0: a softmax has a background above them."""
    if one.values is None or not one.values.size:
        return False
    return float((one.values.max(axis=axis) < 0).mean()) > MOST_PIXELS


def _probs(outs: Sequence[Out], _size: tuple[int, int], _hints: Hints) -> Guess | None:
    for one in outs:
        shape = one.shape[:2] + tuple(side for side in one.shape[2:] if side != 1)
        if len(shape) != 2 or shape[0] != 1 or one.whole:
            continue
        notes = []
        if one.within(-1e-3, 1 + 1e-3) is False:
            notes.append("these are logits: put the softmax or sigmoid into the graph")
        return Guess(
            task="classification",
            decoder="probs",
            outputs=(one.name,),
            classes=shape[1],
            notes=tuple(notes),
        )
    return None


_RULES: Final[tuple[Rule, ...]] = (_three, _detr, _suppressed, _rows, _maps, _probs)
