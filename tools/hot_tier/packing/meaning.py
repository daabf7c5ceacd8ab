"""What the numbers of a detector mean, held against what its decoder takes them for.

A shape fits more than one decoder; the numbers on the frames seldom do. What contradicts the
decoder is refused: on the frame where a number cannot be what it is read as, and after the last one
where all of them together are something else. Nothing here looks at a picture or runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import (
    BESIDE,
    classes_named,
    columns_of,
    corners_of,
    features_first,
    rows_of,
)
from edge_agent.core.decode_boxes import MOST_LOG
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import MAX_LABELS, HeadSpec
from tools.hot_tier.packing import ways_out
from tools.hot_tier.packing.certainty import COUNTED, SURE, Beside, Winners, count_beside

SLACK = 1e-3  # of a probability
FILLING = -1.0  # in place of a score, where there is no row
RELATIVE = 2.0  # boxes that are all smaller than this are no px
LARGEST_OFFSET = 8.0  # in cells, and of a logarithm of sides: px are larger somewhere
MANY = 2  # boxes on a frame from which it is no chance that all look like corners
NEGATIVE = 0.01  # of the boxes may have a size below 0: nobody is sure of those
CORNERS = 0.95  # of the boxes, where corners are read (of those that are sure) or are not
LEAST_SCORE = 0.05  # rows that are less sure may hold anything
MOST_HEAT = 2.0  # of a heatmap: nets that are taught 1 say a little more
TABLES = (*BESIDE, "yolo_e2e", "nms")
DETECTORS = (*TABLES, "boxes", "detr")

Arrays = Mapping[str, NDArray[Any]]


class Parts(NamedTuple):
    """The outputs of a detector, taken apart as its decoder does.

    boxes: [N, 4] as they stand. scores: of each row the best, or None where they are logits.
    classes: [N] indices, None where each class has a column.
    """

    boxes: NDArray[Any]
    scores: NDArray[Any] | None
    classes: NDArray[Any] | None
    every: NDArray[Any]  # all that should be scores
    pictures: NDArray[Any] | None = None


def parts_of(head: HeadSpec, outputs: Arrays) -> Parts:
    """By the same rules as the decoder's."""
    first = outputs[head.outputs[0]]
    if head.decoder == "boxes":
        scores = outputs[head.outputs[1]][0]
        boxes = corners_of(head, first[0])
        return Parts(boxes, scores, outputs[head.outputs[2]][0], scores)
    if head.decoder == "detr":
        return Parts(outputs[head.outputs[1]][0], None, None, np.zeros(0))
    if head.decoder in BESIDE:
        table = table_of(head, first)
        wide = BESIDE[head.decoder]
        best = table[:, wide:].max(axis=1, initial=0.0)
        scores = best if wide == 4 else best * table[:, 4]
        return Parts(table[:, :4], scores, None, table[:, 4:])
    table, names = rows_of(head, first), columns_of(head)
    boxes = np.stack([table[:, names.index(one)] for one in ("x0", "y0", "x1", "y1")], axis=1)
    scores = table[:, names.index("score")]
    pictures = table[:, names.index("batch")] if "batch" in names else None
    return Parts(boxes, scores, table[:, names.index("class")], scores, pictures)


def table_of(head: HeadSpec, array: NDArray[Any]) -> NDArray[Any]:
    """[N, K], whichever axis comes first."""
    if head.decoder not in BESIDE:
        return rows_of(head, array)
    table: NDArray[Any] = array[0].T if features_first(head, array.shape) else array[0]
    return table


class Meaning:
    """The numbers of one head over all frames. size: [w, h] px of the input."""

    def __init__(self, head: HeadSpec, size: tuple[int, int]) -> None:
        self._head, self._size = head, size
        self._rows = 0
        self._columns: _Columns | None = None
        self._boxes = _Boxes()
        self._sure = _Boxes()  # of rows that may become a finding
        self._values = (np.inf, -np.inf)  # of the first output
        self._kinds = _Kinds()
        self._beside, self._winners = Beside(), Winners()

    def see(self, outputs: Arrays, title: str) -> None:
        """Raises: Rejected: a number that cannot be what it is read as."""
        head = self._head
        first = outputs[head.outputs[0]]
        if first.size:
            low, high = self._values
            self._values = min(low, float(first.min())), max(high, float(first.max()))
            self._kinds.add(first)
        if head.decoder in {"probs", "mask_argmax"}:
            self._see_values(first, title)
        if head.decoder not in DETECTORS:
            return
        parts = parts_of(head, outputs)
        if head.decoder == "detr":
            self._winners.add(outputs[head.outputs[0]][0])
        elif head.decoder in BESIDE and parts.every.shape[1] > 1:
            self._beside.add(parts.every, max(SURE, head.threshold))
        self._rows = max(self._rows, len(parts.boxes))
        if head.decoder in TABLES:
            table = table_of(head, first).astype(np.float64)
            if self._columns is None:
                self._columns = _Columns(table.shape[1])
            self._columns.add(table)
        self._boxes.add(parts.boxes)
        if head.decoder == "yolox" and self._boxes.largest_side > MOST_LOG:
            raise self._refusal(
                title,
                f"logarithms of sizes in cells, got numbers up to {self._boxes.largest_side:.4g}",
                'boxes in px are decoder = "yolo_objectness"',
            )
        if parts.scores is not None:
            self._sure.add(parts.boxes[parts.scores >= self._least])
        self._refuse_scores(parts, title)
        self._refuse_classes(parts, title)

    def count(self, hand: Arrays, outputs: Arrays, read: set[str], title: str) -> None:
        """Rows behind the number of them that another output says have to be filling.

        hand: all outputs of the foreign file. read: those that a head reads.
        Raises: Rejected.
        """
        head = self._head
        found = count_beside(hand, read) if head.decoder in COUNTED else None
        if found is None:
            return
        name, rows = found
        scores = parts_of(head, outputs).scores
        behind = scores[rows:] if scores is not None else np.zeros(0)
        if behind.size and float(behind.max()) >= self._least:
            raise Rejected(
                f"{title}: head {head.name}: output {name} says that {rows} rows count, behind "
                f"them is one with a score of {float(behind.max()):.4g}, expected filling",
                hint=ways_out.COUNTED.format(name=name),
            )

    @property
    def _least(self) -> float:
        return max(LEAST_SCORE, self._head.threshold / 2)

    def _see_values(self, array: NDArray[Any], title: str) -> None:
        """Raises: Rejected."""
        if self._head.decoder == "probs":
            self._refuse_range(array, title)
        elif array.size:
            self._refuse_indices(array.reshape(-1), title)

    def _refuse_scores(self, parts: Parts, title: str) -> None:
        """Raises: Rejected."""
        scores = parts.every
        if parts.classes is not None:
            scores = scores[scores != FILLING]
        self._refuse_range(scores, title)
        if parts.pictures is not None and parts.pictures.size:
            other = float(parts.pictures.max())
            if other > 0:
                raise self._refusal(title, f"rows of picture 0, got {other:.6g} as its number")

    def _refuse_range(self, scores: NDArray[Any], title: str) -> None:
        """Raises: Rejected."""
        low, high = (float(scores.min()), float(scores.max())) if scores.size else (0.0, 0.0)
        if low < -SLACK or high > 1 + SLACK:
            raise self._refusal(
                title,
                f"scores of 0 to 1, got {low:.4g} to {high:.4g}",
                "put the sigmoid or softmax into the graph, or choose another decoder",
            )

    def _refuse_classes(self, parts: Parts, title: str) -> None:
        """Raises: Rejected."""
        if parts.classes is None or parts.scores is None:
            return
        classes = parts.classes[parts.scores >= self._least]
        self._refuse_indices(classes, title)

    def _refuse_indices(self, classes: NDArray[Any], title: str) -> None:
        """Raises: Rejected: class indices that are none, or that no label names."""
        head = self._head
        known = bool(head.labels) or head.classes is not None
        limit = classes_named(head) if known else MAX_LABELS
        numbers = classes.astype(np.float64)
        wrong = (numbers != np.floor(numbers)) | (numbers < 0)
        if wrong.any():
            raise self._refusal(title, f"whole classes, got {numbers[wrong][0]:.6g}")
        if numbers.size and numbers.max() >= limit:
            highest = int(numbers.max())
            raise self._refusal(
                title,
                f"classes of 0 to {limit - 1}, got {highest}",
                f"if it has more classes than labels, write classes = {highest + 1} or more under "
                "[[heads]]; else correct the labels",
            )

    # ── after the last frame ──────────────────────────────────────────────────────────────────

    def judge(self) -> None:
        """Raises: Rejected: all numbers together are something else."""
        head, title = self._head, "look at the outputs"
        low, high = self._values
        if head.decoder == "detr" and 0 <= low < high <= 1:
            raise self._refusal(
                title,
                f"logits, got {low:.4g} to {high:.4g} on all frames, as of probabilities",
                "export the model without its last sigmoid or softmax",
            )
        nobody = self._winners.nobody
        if nobody is not None:
            raise self._refusal(
                title,
                f"logits of which most queries are sure of none, got class {nobody[0]} at "
                f'{100 * nobody[1]:.0f} % of them, as of a class "no object" under a softmax',
                ways_out.NO_OBJECT,
            )
        fault = self._kinds.fault(head)
        if fault is not None:
            raise self._refusal(title, *fault)
        if head.decoder not in DETECTORS:
            return
        if head.decoder in TABLES:
            self._judge_columns(title)
        self._judge_unit(title)
        if head.decoder in BESIDE:
            self._judge_objectness(title)
        self._judge_form(title)

    def _judge_columns(self, title: str) -> None:
        """Raises: Rejected."""
        head, columns = self._head, self._columns
        if columns is None:
            return
        if head.decoder not in BESIDE:
            if not columns.whole[columns_of(head).index("class")]:
                raise self._refusal(title, "whole classes in every row, got fractions")
            return
        anchors = ways_out.grids(self._size).get(self._rows, 0)
        wide = len(columns.whole)
        if (
            wide == 6
            and columns.whole[5]
            and (columns.high[5] > 0 or columns.falls[4] or not anchors)
        ):
            raise self._refusal(
                title,
                "scores of classes in each column, got only whole numbers in the last one, as of a "
                "class index",
                ways_out.END_TO_END,
            )
        if head.decoder == "yolo" and anchors == 3 and wide > 5:
            raise self._refusal(
                title,
                f"one row per cell, got {self._rows}, which is three per cell",
                ways_out.THREE_ANCHORS,
            )

    def _judge_objectness(self, title: str) -> None:
        """Raises: Rejected: a column of classes that is objectness, or the other way round."""
        head = self._head
        if head.decoder == "yolo":
            meant = head.labels and head.classes == classes_named(head)
            if self._beside.is_objectness and not meant:
                raise self._refusal(
                    title,
                    "scores of classes in each column, the first goes along with others as "
                    "objectness does",
                    ways_out.OBJECTNESS.format(count=classes_named(head)),
                )
        elif self._beside.is_class:
            raise self._refusal(
                title,
                f"objectness and scores of classes, got {self._beside.is_class} rows that are sure "
                "of an object and of no class, as where the first column is a class too",
                'without an objectness column: decoder = "yolo", with a label for each class; '
                "else add frames of which it knows the class",
            )

    def _judge_unit(self, title: str) -> None:
        """Raises: Rejected."""
        head, boxes = self._head, self._boxes
        largest = boxes.largest
        relative = head.decoder == "detr" or head.box_unit == "relative"
        if relative and largest > 2 * RELATIVE:
            raise self._refusal(
                title,
                f"boxes in parts of the picture, 0 to 1, got numbers up to {largest:.4g}, as of px",
                'leave box_unit = "relative" out'
                if head.decoder != "detr"
                else "divide the boxes by the size of the input in the graph",
            )
        if relative or head.decoder == "yolox" or min(self._size) <= 8 * RELATIVE:
            return
        self._judge_px(title)

    def _judge_px(self, title: str) -> None:
        """Raises: Rejected: the boxes should be in px of the input."""
        head, boxes = self._head, self._boxes
        anchors = ways_out.grids(self._size).get(self._rows, 0)
        rows = "px of the input, got numbers"
        if head.decoder in {"yolo", "yolo_objectness"} and boxes.negative > NEGATIVE * boxes.count:
            raise self._refusal(
                title,
                f"sizes of boxes in {rows} down to {boxes.lowest_side:.4g}",
                ways_out.RAW_GRIDS if anchors else ways_out.EXPORTS[head.decoder],
            )
        largest = min(boxes.largest, self._sure.largest or boxes.largest)
        if not 0 < largest <= max(RELATIVE, min(LARGEST_OFFSET, min(self._size) / 16)):
            return
        is_grid = head.decoder in BESIDE and anchors == 1
        seems = "offsets in cells" if is_grid and largest > RELATIVE else "parts of the picture"
        told = [ways_out.RELATIVE, ways_out.RAW_GRIDS] if is_grid else [ways_out.RELATIVE]
        if head.decoder == "boxes" and not head.columns:
            told.append(ways_out.TENSORFLOW)
        raise self._refusal(
            title,
            f"boxes in {rows} up to {largest:.4g}, as of {seems}",
            "; ".join(told[::-1] if seems.startswith("offsets") else told),
        )

    def _judge_form(self, title: str) -> None:
        """Raises: Rejected: corners where centre and size are read, or the other way round."""
        head, boxes, sure = self._head, self._boxes, self._sure
        if head.decoder in {"yolo", "yolo_objectness", "detr"}:
            if boxes.most >= MANY and boxes.corners >= CORNERS * boxes.count:
                raise self._refusal(
                    title,
                    f"centre and size, got {boxes.corners} boxes whose third and fourth number are "
                    "never below the first and second, as of corners x0 y0 x1 y1",
                    "turn corners into centre and size in the graph, or give boxes, scores and "
                    'classes to decoder = "boxes"',
                )
        elif head.decoder != "yolox" and sure.corners < CORNERS * sure.count:
            raise self._refusal(
                title,
                f"corners x0 y0 x1 y1, got {sure.count - sure.corners} of {sure.count} boxes that "
                "end before they begin, as of centre and size",
                "turn centre and size into corners in the graph",
            )

    def _refusal(self, title: str, words: str, hint: str = "") -> Rejected:
        """With the order of columns that the numbers seem to have, where there is one."""
        head = self._head
        told = [hint or ways_out.EXPORTS[head.decoder]]
        if self._columns is not None:
            other = self._columns.order()
            columns = len(self._columns.whole)
            grid = ways_out.of_grid(head, self._rows, columns, self._size)
            told = [*([other] if other else []), *([] if other else grid), *told]
        return Rejected(
            f"{title}: head {head.name}: decoder {head.decoder} expects {words}",
            hint="; ".join(dict.fromkeys(told)),
        )


class _Columns:
    """What all numbers of a column have in common, over all frames."""

    def __init__(self, count: int) -> None:
        self.whole = np.ones(count, bool)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.falls = np.ones(count, bool)  # best first, as after a suppression

    def add(self, table: NDArray[np.float64]) -> None:
        if not len(table):
            return
        self.whole &= (table == np.floor(table)).all(axis=0)
        self.falls &= (np.diff(table, axis=0) <= 0).all(axis=0) & (table[0] > table[-1])
        self.low = np.minimum(self.low, table.min(axis=0))
        self.high = np.maximum(self.high, table.max(axis=0))

    def order(self) -> str:
        """Of rows of a suppression, in words; "" when it is none."""
        if len(self.whole) not in {6, 7}:
            return ""
        probable = ~self.whole & (self.low >= FILLING) & (self.high <= 1 + SLACK)
        return ways_out.orders(self.whole.tolist(), probable.tolist())


class _Kinds:
    """What all numbers of a raster or of probabilities have in common, over all frames."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._whole = True
        self._drawn = True  # 0 and 255 alone

    def add(self, array: NDArray[Any]) -> None:
        self._low = min(self._low, float(array.min()))
        self._high = max(self._high, float(array.max()))
        if self._whole and array.dtype.kind == "f":
            self._whole = bool((array == np.floor(array)).all())
        if self._drawn:
            self._drawn = bool(((array == 0) | (array == 255)).all())

    def fault(self, head: HeadSpec) -> tuple[str, str] | None:
        """What it should have been and is, and the way out; None: nothing speaks against it."""
        span = f"{self._low:.4g} to {self._high:.4g} on all frames"
        if head.decoder in {"mask_sigmoid", "mask_softmax"}:
            return self._logits_fault(head, span)
        if head.decoder == "mask_argmax" and self._drawn and self._high == 255:
            labels = {label.id for label in head.labels}
            if labels and 255 not in labels:
                return "classes that a label names, got 0 and 255 alone", ways_out.DRAWN
        if head.decoder == "heatmaps" and self._high > MOST_HEAT:
            return f"scores of about 0 to 1, got {span}", ways_out.HEAT
        if head.decoder == "probs" and classes_named(head) == 1 and self._low == self._high == 1:
            return "a probability, got 1 on all frames, as of a softmax of one class", ways_out.ONE
        return None

    def _logits_fault(self, head: HeadSpec, span: str) -> tuple[str, str] | None:
        if self._low < 0 or self._high < self._low:
            return None
        if self._whole and self._high > 0:
            hint = ways_out.DRAWN if self._drawn else ways_out.INDICES
            return f"logits, got whole numbers of {span}, as of class indices", hint
        if self._high <= 1:
            return f"logits, got {span}, as of probabilities", ways_out.SQUASHED
        if head.decoder == "mask_sigmoid":
            return f"logits, below 0 where a label is not, got {span}", ways_out.SQUASHED
        return None


class _Boxes:
    """The form of boxes, as four numbers each; those that are all 0 or filling are left out."""

    def __init__(self) -> None:
        self.count = self.most = self.corners = self.negative = 0
        self.largest = 0.0
        self.largest_side = -np.inf
        self.lowest_side = np.inf

    def add(self, boxes: NDArray[Any]) -> None:
        numbers = boxes.astype(np.float64)
        numbers = numbers[(numbers != 0).any(axis=1) & (numbers != FILLING).any(axis=1)]
        if not len(numbers):
            return
        self.count += len(numbers)
        self.most = max(self.most, len(numbers))
        self.corners += int((numbers[:, 2:] > numbers[:, :2]).all(axis=1).sum())
        self.largest = max(self.largest, float(np.abs(numbers).max()))
        self.negative += int((numbers[:, 2:] < 0).any(axis=1).sum())
        self.largest_side = max(self.largest_side, float(numbers[:, 2:].max()))
        self.lowest_side = min(self.lowest_side, float(numbers[:, 2:].min()))
