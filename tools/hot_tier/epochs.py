"""Two that run under one node name: epochs that are written and take turns. Pure.

Each start of an agent has an epoch of its own and leaves the one before for good, so an epoch that
is heard of again after another one was is a second agent, or a message that newer ones overtook.
It takes three such returns, and two seconds of both: EdgeCore mixes up less than that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

RETURNS: Final = 3
OVERLAP_US: Final = 2_000_000
SURE_RETURNS: Final = 4  # also within those two seconds
LIVE_US: Final = 390_000_000  # longer than the longest pause between unanswered probes, 5 min
MAX_NODES: Final = 4096
MAX_EPOCHS: Final = 8  # of one node, the last that were heard of


class _Epoch(msgspec.Struct):
    first_us: int
    last_us: int
    returns: int = 0


class _Node:
    def __init__(self) -> None:
        self.seen_us = 0
        self.probed = 0  # the epoch of the last probe
        self.live = 0
        self.epochs: OrderedDict[int, _Epoch] = OrderedDict()


class Epochs:
    """Who was heard of last when, and who is there twice."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        self._shared: dict[str, tuple[int, ...]] = {}

    def heard(self, node: str, live: Iterable[int], now_us: int) -> bool:
        """A probe of this node; whether another epoch is written than before.

        live: the epochs that it says are still written.
        """
        one = self._of(node)
        one.seen_us = now_us
        before = one.probed
        for epoch in live:
            _note(one, epoch, now_us)
            one.probed = epoch
        self._judge(node, one, now_us)
        return one.probed != before

    def alive(self, node: str, epoch: int, now_us: int) -> None:
        """Another word that only who runs in this epoch says."""
        one = self._of(node)
        _note(one, epoch, now_us)
        self._judge(node, one, now_us)

    def _of(self, node: str) -> _Node:
        one = self._nodes.get(node) or _Node()
        self._nodes[node] = one
        self._nodes.move_to_end(node)
        while len(self._nodes) > MAX_NODES:
            gone, _ = self._nodes.popitem(last=False)
            self._shared.pop(gone, None)
        return one

    def _judge(self, node: str, one: _Node, now_us: int) -> None:
        live = {e: span for e, span in one.epochs.items() if now_us - span.last_us <= LIVE_US}
        returns = sum(span.returns for span in live.values())
        enough_us = OVERLAP_US if returns < SURE_RETURNS else 1
        found = [
            epoch
            for epoch, span in live.items()
            if any(_overlap_us(span, live[other]) >= enough_us for other in live if other != epoch)
        ]
        self._shared.pop(node, None)
        if found and returns >= RETURNS:
            self._shared[node] = tuple(sorted(found))

    def shared(self, now_us: int) -> dict[str, tuple[int, ...]]:
        """Nodes whose name is used twice right now, and the epochs of those who use it."""
        for node in list(self._shared):
            self._judge(node, self._nodes[node], now_us)
        return dict(self._shared)

    def doubles(self, now_us: int) -> list[str]:
        """Nodes whose name is used twice right now."""
        return list(self.shared(now_us))

    def ages_us(self, now_us: int) -> dict[str, int]:
        """How long ago each node probed last."""
        return {node: now_us - one.seen_us for node, one in self._nodes.items() if one.seen_us}


def _note(one: _Node, epoch: int, now_us: int) -> None:
    mine = one.epochs.pop(epoch, None)
    if mine is None or now_us - mine.last_us > LIVE_US:  # what was while it was away is no overlap
        mine = _Epoch(now_us, now_us)
    elif one.live != epoch:
        mine.returns += 1
    mine.last_us = now_us
    one.epochs[epoch] = mine
    one.live = epoch
    while len(one.epochs) > MAX_EPOCHS:
        one.epochs.popitem(last=False)


def _overlap_us(a: _Epoch, b: _Epoch) -> int:
    return min(a.last_us, b.last_us) - max(a.first_us, b.first_us)
