"""Whether CloudCore's REST door takes what the hot tier says to its nodes, told while it does not.

Nodes delete nothing that is not acknowledged: a way back that is shut is a spool that fills on each
device, and nobody but the hot tier sees why. A node that is away cannot be answered either, and
that is nobody's fault: of one node only answers count that follow something that came meanwhile.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import Final

from tools.hot_tier.notices import HOLDS_S, Notices

AWAY_HOLDS_S: Final = 600.0  # a node that hears nothing asks at least every five minutes
IN_VAIN: Final = 3  # heard, and answered in vain, before it is told
MAX_NODES: Final = 4096
NOT_FOUND: Final = 404
REFUSING: Final = frozenset({400, 401, 403, 405, 413})  # 500: that node is away
OK: Final = range(200, 300)
NOWHERE: Final = "no-way-back"
UNREACHED: Final = "router-down"
NO_RULE: Final = "router-refuses"
REFUSED: Final = "node-unreached"
STEP: Final = "docs/uplink.md, step 4"


class WayBack:
    """Used on the loop alone. No URL is in what it says."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._nodes: OrderedDict[str, tuple[bool, int]] = OrderedDict()  # is heard, times in vain

    def heard(self, node: str) -> None:
        """Something came by the path of this node."""
        _, times = self._nodes.pop(node, (False, 0))
        self._nodes[node] = (True, times)
        while len(self._nodes) > MAX_NODES:
            self._nodes.popitem(last=False)

    def nowhere(self) -> None:
        """There is something to say, and no road for it."""
        what = "nodes are not answered: there is no road back to them"
        self._notices.tell(NOWHERE, what, "--router URL, or --mqtt HOST", for_s=HOLDS_S)

    def failed(self, error: Exception) -> None:
        """Nothing answered."""
        number = getattr(error, "errno", None)
        timed_out = isinstance(error, asyncio.TimeoutError)
        why = "no answer" if timed_out else os.strerror(number) if number else type(error).__name__
        what = f"CloudCore's REST door cannot be reached: {why}; no node is answered"
        fix = f"is the Router on, a Rule down there, and no policy between? {STEP}"
        self._notices.tell(UNREACHED, what, fix, for_s=HOLDS_S)

    def answered(self, node: str, place: str, status: int) -> None:
        """place: what KubeEdge calls its machine."""
        self._notices.over(NOWHERE)
        self._notices.over(UNREACHED)
        if status in OK:
            self._notices.over(NO_RULE)
            self._nodes.pop(node, None)
            self._notices.over(REFUSED, about=node)
        elif status == NOT_FOUND:
            what = "CloudCore has no Rule that takes what is said to nodes; no node is answered"
            fix = f"apply config/kubeedge/endpoints.yaml in the namespace of --ns: {STEP}"
            self._notices.tell(NO_RULE, what, fix, for_s=HOLDS_S)
        elif status in REFUSING:
            what = f"CloudCore's REST door answers {status}; no node is answered"
            fix = f"is --router its address, and a Rule down in the namespace of --ns? {STEP}"
            self._notices.tell(NO_RULE, what, fix, for_s=HOLDS_S)
        else:
            self._in_vain(node, place, status)

    def _in_vain(self, node: str, place: str, status: int) -> None:
        is_heard, times = self._nodes.get(node, (False, 0))
        if not is_heard:
            return
        self._nodes[node] = (False, times + 1)
        if times + 1 >= IN_VAIN:
            named = node if place == node else f"{node}, which KubeEdge calls {place},"
            what = f"{named} is heard, and CloudCore has no connection to answer it: {status}"
            fix = "what does kubectl get nodes call it? uplink.kubeedge_node at the device"
            self._notices.tell(REFUSED, what, fix, about=node, for_s=AWAY_HOLDS_S)
