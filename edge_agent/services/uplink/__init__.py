"""The agent's road up: thin effects around `core.outbox`.

Not vital: without it everything goes on, and the spool fills. It must never wait for the disk with
a live record in hand, never keep what only it knows, and never decide what `core` can.
"""

from __future__ import annotations

from edge_agent.services.uplink.neighbours import Page, Pages, Shelf, Words
from edge_agent.services.uplink.uplink import Uplink

__all__ = ["Page", "Pages", "Shelf", "Uplink", "Words"]
