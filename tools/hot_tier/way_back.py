"""Whether CloudCore's REST door takes what the hot tier says to its nodes, told while it does not.

Nodes delete nothing that is not acknowledged: a way back that is shut is a spool that fills on each
device, and nobody but the hot tier sees why.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final

from tools.hot_tier.notices import HOLDS_S, Notices

AWAY_HOLDS_S: Final = 150.0  # what a node was told is said again after a minute at most
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
            named = node if place == node else f"{node}, which KubeEdge calls {place}"
            what = f"CloudCore does not reach {named}: {status}"
            fix = (
                "is it connected (kubectl get nodes)? called otherwise: uplink.kubeedge_node there"
            )
            self._notices.tell(REFUSED, what, fix, about=node, for_s=AWAY_HOLDS_S)
