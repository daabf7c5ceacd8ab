"""Store and forward on disk: SQLite, write-ahead log, every commit flushed (`docs/spool.md`).

Promised means committed: a record that a `Change` has told of survives power loss. It leaves by
the receiver's acknowledgement, by eviction for space, or by damage; each counted and declared.
It must never wait on the appending side, never decide what is sent, and never look into a record
beyond when it was made.
"""

from __future__ import annotations

from edge_agent.stores.spool.backlog import Backlog, Verified
from edge_agent.stores.spool.compact import compact
from edge_agent.stores.spool.courier import Courier
from edge_agent.stores.spool.limits import Change, Notice, Page, SpoolLimits
from edge_agent.stores.spool.spool import DiskSpool, SpoolHealth, open_spool

__all__ = [
    "Backlog",
    "Change",
    "Courier",
    "DiskSpool",
    "Notice",
    "Page",
    "SpoolHealth",
    "SpoolLimits",
    "Verified",
    "compact",
    "open_spool",
]
