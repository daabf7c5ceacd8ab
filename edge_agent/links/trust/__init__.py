"""Who signed what, and is it new: TUF behind our own words. For the rollout's own process alone.

    with Trust(folder, bootstrap, sources, memory=..., clock=...) as trust:
        trust.refresh()
        target = trust.target("models/us-chamber/<sha256>.eam")

`tuf` (33 MB when loaded) is imported here and nowhere else in the agent. Never on the way of a
frame: an expired repository, or none at all, ends installations and nothing else. What runs is
known by its own sha256.

Each source is asked for itself, so that none can hide from us what another one shows: junk and old
states from one place are reported as its trouble while another serves. The newest wins. What
`core.trust` remembers stands against a metadata folder that was wiped and a clock that is wrong.
"""

from __future__ import annotations

from edge_agent.core.trust import Refused
from edge_agent.links.trust.terms import Blob, Limits, Refreshed, Target, Trouble
from edge_agent.links.trust.trust import Trust

__all__ = ["Blob", "Limits", "Refreshed", "Refused", "Target", "Trouble", "Trust"]
