"""Two that run under one node name: epochs that are both written and take turns. Pure.

A restart leaves an epoch for good; a few probes may still be overtaken by newer ones. So it takes
three returns to epochs that had been left, within ten minutes, until a node counts as double.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

RETURNS: Final = 3
WINDOW_US: Final = 600_000_000
MAX_NODES: Final = 4096
MAX_EPOCHS: Final = 8


class _Node:
    def __init__(self) -> None:
        self.seen_us = 0
        self.live = 0
        self.left: OrderedDict[int, None] = OrderedDict()
        self.returns: deque[int] = deque(maxlen=RETURNS)


class Epochs:
    """Who was heard of last when, and who is there twice."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[str, _Node] = OrderedDict()

    def heard(self, node: str, live: frozenset[int], now_us: int) -> bool:
        """A probe of this node; whether another epoch is written than before.

        live: the epochs that it says are still written.
        """
        one = self._nodes.get(node) or _Node()
        one.seen_us = now_us
        self._nodes[node] = one
        self._nodes.move_to_end(node)
        while len(self._nodes) > MAX_NODES:
            self._nodes.popitem(last=False)
        before = one.live
        if len(live) == 1:
            self._turn(one, next(iter(live)), now_us)
        return one.live != before

    def _turn(self, one: _Node, live: int, now_us: int) -> None:
        if live == one.live:
            return
        if live in one.left:
            one.returns.append(now_us)
            del one.left[live]
        if one.live:
            one.left[one.live] = None
        while len(one.left) > MAX_EPOCHS:
            one.left.popitem(last=False)
        one.live = live

    def doubles(self, now_us: int) -> list[str]:
        """Nodes whose name is used twice right now."""
        return [
            node
            for node, one in self._nodes.items()
            if len(one.returns) == RETURNS and now_us - one.returns[0] < WINDOW_US
        ]

    def ages_us(self, now_us: int) -> dict[str, int]:
        """How long ago each node probed last."""
        return {node: now_us - one.seen_us for node, one in self._nodes.items()}
