"""What rows of scores are sure of, over all frames: columns that are classes, and such as are not.

Objectness, a class "no object" and rows behind a count have the shape of what they are not. Nothing
here looks at a picture or runs a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.decode import sigmoid

SURE = 0.25  # a score from which a row is taken to be sure of something
UNSURE = 0.05  # below it, of nothing
ALONG = 0.9  # of the rows that are sure: all but a few
MOST = 0.9  # of all rows of a detector are sure of nothing
MANY = 0.25  # of those, so many sure of a class are no class
FEW = 3  # rows that may be sure of two classes by chance
NOBODY = 0.4  # of a sigmoid: log-probabilities of a class that is nearly certain give 0.5
HALF = 0.5  # of the queries
COUNTED = ("boxes", "yolo_e2e", "nms")  # decoders of rows that may end before their array
QUERIES = 20  # of a frame, from which most of them are no objects


class Beside:
    """Rows of a detector: the first column behind the box, against all that follow."""

    def __init__(self) -> None:
        self._rows = self._low = self._low_sure = 0
        self._first = self._first_and_more = self._first_alone = self._more = 0

    def add(self, scores: NDArray[Any], least: float) -> None:
        """scores: [N, >= 2]. least: from which a row is sure."""
        first, more = scores[:, 0], scores[:, 1:].max(axis=1)
        low, sure = first < UNSURE, more >= least
        self._rows += len(first)
        self._low += int(low.sum())
        self._low_sure += int((low & sure).sum())
        self._more += int(sure.sum())
        self._first += int((first >= least).sum())
        self._first_and_more += int(((first >= least) & sure).sum())
        # the one class of a net is learnt where there are objects alone: it is sure of them
        none = SURE if scores.shape[1] == 2 else UNSURE
        self._first_alone += int(((first >= least) & (more < none)).sum())

    @property
    def is_objectness(self) -> bool:
        """Whether the first is objectness: others go along with it, or are sure of everything."""
        everywhere = self._low >= MOST * self._rows and self._low_sure > MANY * self._low
        along = self._first >= FEW and self._first_and_more >= ALONG * self._first
        few = self._more <= (1 - MOST) * self._rows and ALONG * self._more <= self._first_and_more
        return everywhere or (along and few)

    @property
    def is_class(self) -> int:
        """Rows that the first is sure of, where no other column ever says anything of them."""
        alone = self._first > 0 and self._first_alone == self._first
        return self._first if alone else 0


class Winners:
    """Logits of queries: which class each takes."""

    def __init__(self) -> None:
        self._rows = self._most = 0
        self._wins: NDArray[np.int64] | None = None

    def add(self, logits: NDArray[Any]) -> None:
        """logits: [Q, C]."""
        count, classes = logits.shape
        self._most = max(self._most, count)
        self._rows += count
        best = logits.argmax(axis=1)
        sure = best[sigmoid(logits.max(axis=1)) >= NOBODY]
        wins = np.bincount(sure, minlength=classes)
        self._wins = wins if self._wins is None else self._wins + wins

    @property
    def nobody(self) -> tuple[int, float] | None:
        """A class that most queries are sure of, and their share: "no object"."""
        if self._wins is None or len(self._wins) < 2 or self._most < QUERIES:
            return None
        index = int(self._wins.argmax())
        share = float(self._wins[index]) / self._rows
        return (index, share) if share >= HALF else None


def may_count(name: str) -> bool:
    """Whether an output is named as one that says how many rows there are."""
    return any(part in name.lower() for part in ("num", "count", "valid"))


def count_beside(outputs: Mapping[str, NDArray[Any]], read: set[str]) -> tuple[str, int] | None:
    """An output that no head reads and that says how many rows there are, and how many.

    outputs: of the foreign file. Its name has to say so: one whole number alone may be anything.
    """
    for name, array in outputs.items():
        if may_count(name) and name not in read and array.size == 1 and array.dtype.kind in "fiu":
            value = float(array.reshape(-1)[0])
            if value == int(value) and value >= 0:
                return name, int(value)
    return None
