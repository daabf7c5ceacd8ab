"""Payloads between road and desk: so many, and no node takes the room or the turn of another.

Pure. Each path has a queue of its own; they are served in turn. Where there is no room, the queue
gives way that takes most of it, so that a flood costs the node that floods, be it of many small
payloads or of few large ones. Payloads whose path tells no node share one queue.
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
        self._place_bytes = max(
            1, max_bytes // most
        )  # that one payload takes of the room, beside its own
        self._sizes: dict[str, int] = {}  # of each queue: the bytes of its payloads and places
        self._waiting = 0
        self._bytes = 0
        self.given_up = 0  # payloads that came and were not taken out

    def __len__(self) -> int:
        return self._waiting

    def put(self, came: Came) -> str | None:
        """Takes it in; of which node some were given up for it, or itself instead of them."""
        size = len(came.payload) + self._place_bytes
        given_up = None
        while self._is_full(len(came.payload)):
            given_up = max(self._sizes, key=lambda node: self._sizes[node], default=came.node)
            if self._sizes.get(given_up, 0) <= self._sizes.get(came.node, 0) + size:
                self.given_up += 1
                return came.node
            self.given_up += 1
            self._took(given_up, self._queues[given_up].pop())  # those before it waited longer
        self._queues.setdefault(came.node, deque()).append(came.payload)
        self._sizes[came.node] = self._sizes.get(came.node, 0) + size
        self._waiting += 1
        self._bytes += len(came.payload)
        return given_up

    def _is_full(self, more_bytes: int) -> bool:
        return self._waiting >= self._most or self._bytes + more_bytes > self._max_bytes

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
        self._bytes -= len(payload)
        self._sizes[node] -= len(payload) + self._place_bytes
        if not self._queues[node]:
            del self._queues[node], self._sizes[node]
