"""How well a model finds what a person has labelled: figures per label. Pure.

Detection: a finding is right when it overlaps a labelled box of its label by half (IoU), the surest
first, each box once. Segmentation: pixels of all frames together. Classification: the best label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Label, Object
from edge_agent.core.manifest import HeadSpec
from edge_agent.core.vision import overlap
from tools.hot_tier.packing.truth import UNKNOWN, Box, Mask

MATCH_IOU: Final = 0.5
FRAMES: Final = "scored_frames"

Rect = tuple[int, int, int, int]
Planes = Mapping[str, NDArray[np.bool_]]
"""[H, W] of the frame, by key of the label."""


class _Count:
    """Of one label: found and right, found and wrong, there and missed; boxes or pixels."""

    def __init__(self) -> None:
        self.right = self.wrong = self.missed = 0
        self.overlaps: list[float] = []


class Score:
    """Counts over the frames of one head."""

    def __init__(self, head: HeadSpec) -> None:
        self.head = head
        self.frames = 0
        self._keys = {one.id: one.key for one in head.labels}
        self._counts = {key: _Count() for key in self._keys.values()}
        self._same = 0

    def boxes(self, found: Sequence[Object], truth: Sequence[Box], roi: Rect) -> float:
        """One frame. Returns how much of it is right, 0 to 1."""
        self.frames += 1
        there = [one for one in truth if _inside(one.box, roi)]
        mine = [one for one in found if one.head == self.head.name]
        taken: set[int] = set()
        before = self._wrongs()
        for one in sorted(mine, key=lambda one: -one.score):
            self._match(one, there, taken)
        for index, box in enumerate(there):
            if index not in taken:
                self._count(self._key(box.label)).missed += 1
        total = len(mine) + len(there)
        return 1 - (self._wrongs() - before) / total if total else 1.0

    def _match(self, one: Object, there: Sequence[Box], taken: set[int]) -> None:
        near = [
            (overlap(one.box, box.box), index)
            for index, box in enumerate(there)
            if index not in taken and self._key(box.label) == one.label
        ]
        best, index = max(near, default=(0.0, -1))
        count = self._count(one.label)
        if best < MATCH_IOU:
            count.wrong += 1
            return
        taken.add(index)
        count.right += 1
        count.overlaps.append(best)

    def masks(self, found: Planes, truth: Mask, roi: Rect) -> float:
        """One frame. Returns the Dice of its labels, 0 to 1."""
        self.frames += 1
        x, y, wide, high = roi
        part = np.s_[y : y + high, x : x + wide]
        known = truth[part] != UNKNOWN
        right = total = 0
        for key in dict.fromkeys(self._keys.values()):
            ids = [index for index, name in self._keys.items() if name == key]
            mine, theirs = found[key][part] & known, np.isin(truth[part], ids)
            both = int((mine & theirs).sum())
            count = self._count(key)
            count.right += both
            count.wrong += int(mine.sum()) - both
            count.missed += int(theirs.sum()) - both
            right, total = right + 2 * both, total + int(mine.sum()) + int(theirs.sum())
        return right / total if total else 1.0

    def labels(self, found: Sequence[Label], truth: int) -> float:
        """One frame: 1 where its best label is the right one."""
        self.frames += 1
        best = next((one.label for one in found if one.head == self.head.name), "")
        wanted = self._key(truth)
        self._same += best == wanted
        if best == wanted:
            self._count(wanted).right += 1
        else:
            self._count(wanted).missed += 1
            if best:
                self._count(best).wrong += 1
        return float(best == wanted)

    def figures(self) -> dict[str, float]:
        """By HEAD/LABEL/METRIC, what can be said: of a label that is never there nothing can."""
        found: dict[str, float] = {}
        for key, count in self._counts.items():
            for metric, value in _figures(count, self.head.task).items():
                found[f"{self.head.name}/{key}/{metric}"] = round(value, 4)
        if self.head.task == "classification" and self.frames:
            found[f"{self.head.name}/accuracy"] = round(self._same / self.frames, 4)
        return found

    def _wrongs(self) -> int:
        return sum(one.wrong + one.missed for one in self._counts.values())

    def _count(self, key: str) -> _Count:
        return self._counts.setdefault(key, _Count())

    def _key(self, index: int) -> str:
        return self._keys.get(index, str(index))


def _figures(count: _Count, task: str) -> dict[str, float]:
    there, found = count.right + count.missed, count.right + count.wrong
    figures = {}
    if found:
        figures["precision"] = count.right / found
    elif there:
        figures["precision"] = 0.0  # nothing found of what is there
    if there:
        figures["recall"] = count.right / there
    if task == "segmentation" and there + found:
        figures["iou"] = count.right / (there + found - count.right)
        figures["dice"] = 2 * count.right / (there + found)
    elif task == "detection" and there:
        figures["iou"] = sum(count.overlaps) / len(count.overlaps) if count.overlaps else 0.0
    return figures


def _inside(box: Sequence[float], roi: Rect) -> bool:
    """Whether its middle lies in the region that the model is given."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return roi[0] <= x < roi[0] + roi[2] and roi[1] <= y < roi[1] + roi[3]


def refuse_below(
    figures: Mapping[str, float], least: Mapping[str, float], heads: Sequence[HeadSpec]
) -> None:
    """Every label of every head that was scored has to reach it.

    Raises: Rejected with all that do not.
    """
    below = []
    for metric, minimum in least.items():
        asked = [key for head in heads for key in _asked(head, metric)]
        if not asked:
            raise Rejected(
                f"score the model: --at-least {metric}: no head of this model has that figure",
                hint="boxes have precision, recall, iou; masks also dice; classes have accuracy",
            )
        for key in asked:
            if key not in figures:
                below.append(f"{key}: nothing labelled to measure it")
            elif figures[key] < minimum:
                below.append(f"{key} {figures[key]:g}, expected at least {minimum:g}")
    if below:
        raise Rejected(
            f"score the model: {'; '.join(below[:20])}",
            hint="label more frames, train it further, or ask for less with --at-least",
        )


def _asked(head: HeadSpec, metric: str) -> list[str]:
    of_task = {
        "detection": ("precision", "recall", "iou"),
        "segmentation": ("precision", "recall", "iou", "dice"),
        "classification": ("precision", "recall"),
    }
    if metric == "accuracy":
        return [f"{head.name}/accuracy"] if head.task == "classification" else []
    if metric not in of_task.get(head.task, ()):
        return []
    return [f"{head.name}/{one.key}/{metric}" for one in head.labels]
