"""Where nodes live: what KubeEdge calls the machine of each. As the nodes say it themselves.

CloudCore's REST door is asked for a machine, the topic below it names the agent's node. Mostly they
are the same; where they are not, a node says so in its probes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

MAX_NODES: Final = 4096


class Places:
    """Known since this process began; a node asks before anything is said to it. The node that was
    not heard of for the longest goes first.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def heard(self, node: str, machine: str) -> None:
        """machine: a node of KubeEdge, already checked; "" for one that is called as `node`."""
        self._known.pop(node, None)
        if machine and machine != node:
            self._known[node] = machine
        while len(self._known) > MAX_NODES:
            self._known.popitem(last=False)

    def of(self, node: str) -> str:
        return self._known.get(node, node)
