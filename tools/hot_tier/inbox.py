"""Payloads between road and desk: so many, and no node takes the room or the turn of another.

Pure. Each path has a queue of its own; they are served in turn. Where there is no room, the longest
queue gives way, so that a flood costs the node that floods. Payloads whose path tells no node share
one queue.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from tools.hot_tier.carriers import Came


class Inbox:
    """most, max_bytes: payloads, of all nodes together."""

    def __init__(self, most: int, max_bytes: int = 1 << 30) -> None:
        self._most = most
        self._max_bytes = max_bytes
        self._queues: OrderedDict[str, deque[bytes]] = OrderedDict()
        self._sizes: dict[str, int] = {}  # of each queue, in bytes, and one for each payload
        self._waiting = 0
        self._bytes = 0
        self.given_up = 0  # payloads that came and were not taken out

    def __len__(self) -> int:
        return self._waiting

    def put(self, came: Came) -> str | None:
        """Takes it in; of which node some were given up for it, or itself instead of them."""
        size = len(came.payload) + 1
        given_up = None
        while self._waiting >= self._most or self._bytes + size > self._max_bytes:
            given_up = max(self._sizes, key=lambda node: self._sizes[node], default=came.node)
            if self._sizes.get(given_up, 0) <= self._sizes.get(came.node, 0) + size:
                self.given_up += 1
                return came.node
            self.given_up += 1
            self._took(given_up, self._queues[given_up].pop())  # those before it waited longer
        self._queues.setdefault(came.node, deque()).append(came.payload)
        self._sizes[came.node] = self._sizes.get(came.node, 0) + size
        self._waiting += 1
        self._bytes += size
        return given_up

    def take(self, most: int) -> list[Came]:
        """The next ones, one of each node in turn."""
        taken: list[Came] = []
        while self._queues and len(taken) < most:
            node = next(iter(self._queues))
            taken.append(Came(node, self._queues[node].popleft()))
            self._queues.move_to_end(node)
            self._took(node, taken[-1].payload)
        return taken

    def _took(self, node: str, payload: bytes) -> None:
        self._waiting -= 1
        self._bytes -= len(payload) + 1
        self._sizes[node] -= len(payload) + 1
        if not self._queues[node]:
            del self._queues[node], self._sizes[node]
