"""How far two models agree on one frame: the shadow's measure. Pure.

Objects are matched greedily, best overlap first, within head and label; of a head that classifies,
the best label is one more thing to match. Agreement is the Dice of the matching, 2 m / (a + b), and
1 when both see nothing: such a frame is no evidence, which is for the caller to know.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.core.frames import Label, Object
from edge_agent.core.vision import overlap

MATCH_IOU = 0.5


def agreement(
    live: Sequence[Object],
    shadow: Sequence[Object],
    live_labels: Sequence[Label] = (),
    shadow_labels: Sequence[Label] = (),
) -> float:
    """In [0, 1]."""
    ours, theirs = _best_labels(live_labels), _best_labels(shadow_labels)
    total = len(live) + len(shadow) + len(ours) + len(theirs)
    if not total:
        return 1.0
    return 2 * (_matched(live, shadow) + len(ours & theirs)) / total


def _best_labels(labels: Sequence[Label]) -> set[tuple[str, str]]:
    """(head, label), one a head; labels come best first."""
    best: dict[str, str] = {}
    for one in labels:
        best.setdefault(one.head, one.label)
    return set(best.items())


def _matched(live: Sequence[Object], shadow: Sequence[Object]) -> int:
    pairs = sorted(
        (
            (overlap(a.box, b.box), i, j)
            for i, a in enumerate(live)
            for j, b in enumerate(shadow)
            if a.head == b.head and a.label == b.label
        ),
        reverse=True,
    )
    left: set[int] = set()
    right: set[int] = set()
    for shared, i, j in pairs:
        if shared >= MATCH_IOU and i not in left and j not in right:
            left.add(i)
            right.add(j)
    return len(left)
