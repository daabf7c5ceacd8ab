"""How far two models agree on one frame: the shadow's measure. Pure.

Objects are matched greedily, best overlap first, within head and label; agreement is the Dice of
the matching, 2 m / (a + b), and 1 when both see nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.core.frames import Object

MATCH_IOU = 0.5


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes [x0, y0, x1, y1]."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return inter / union if union > 0 else 0.0


def agreement(live: Sequence[Object], shadow: Sequence[Object]) -> float:
    """In [0, 1]."""
    if not live and not shadow:
        return 1.0
    pairs = sorted(
        (
            (iou(a.box, b.box), i, j)
            for i, a in enumerate(live)
            for j, b in enumerate(shadow)
            if a.head == b.head and a.label == b.label
        ),
        reverse=True,
    )
    left: set[int] = set()
    right: set[int] = set()
    for overlap, i, j in pairs:
        if overlap >= MATCH_IOU and i not in left and j not in right:
            left.add(i)
            right.add(j)
    return 2 * len(left) / (len(live) + len(shadow))
