"""Payloads between road and desk: so many, and no node takes the room or the turn of another.

Pure. Each path has a queue of its own; they are served in turn. Where there is no room, the longest
queue gives way, so that a flood costs the node that floods. Payloads whose path tells no node share
one queue.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from tools.hot_tier.carriers import Came


class Inbox:
    """most: payloads, of all nodes together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: OrderedDict[str, deque[bytes]] = OrderedDict()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def put(self, came: Came) -> str | None:
        """Takes it in; of which node one was given up for it, or instead of it."""
        queue = self._queues.setdefault(came.node, deque())
        if self._waiting < self._most:
            queue.append(came.payload)
            self._waiting += 1
            return None
        longest = max(self._queues, key=lambda node: len(self._queues[node]))
        if len(self._queues[longest]) <= len(queue) + 1:
            longest = came.node
        else:
            self._queues[longest].pop()  # the newest: those before it have waited longer
            queue.append(came.payload)
        if not queue:
            del self._queues[came.node]
        return longest

    def take(self, most: int) -> list[Came]:
        """The next ones, one of each node in turn."""
        taken: list[Came] = []
        while self._queues and len(taken) < most:
            node, queue = self._queues.popitem(last=False)
            taken.append(Came(node, queue.popleft()))
            if queue:
                self._queues[node] = queue  # to the end of the row
        self._waiting -= len(taken)
        return taken
