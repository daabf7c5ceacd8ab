"""The wire: what leaves this machine and what comes back, byte by byte (`docs/wire.md`).

    records --records--> tables --codec--> body --envelope--> bytes --armour--> one MQTT payload

Pure: bytes in, values out, no clock, no file, no network. A decoder bounds every length before it
allocates, and ends in one of three ways: the values, `WireError`, or `Need` (whole, but made with
something that is not here). Nothing in here is safe to share between threads without a lock.
"""

from __future__ import annotations

from edge_agent.core.wire.outcome import Need, WireError

__all__ = ["Need", "WireError"]
