"""How far two models agree on one frame: the shadow's measure. Pure.

Objects are matched greedily, best overlap first, within head and label; agreement is the Dice of
the matching, 2 m / (a + b), and 1 when both see nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.core.frames import Object
from edge_agent.core.vision import overlap

MATCH_IOU = 0.5


def agreement(live: Sequence[Object], shadow: Sequence[Object]) -> float:
    """In [0, 1]."""
    if not live and not shadow:
        return 1.0
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
    return 2 * len(left) / (len(live) + len(shadow))
