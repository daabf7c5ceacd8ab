"""The hot tier: the reference receiver of what edge-agents send up.

`python -m tools.hot_tier receive`, or `async with HotTier(db, road) as tier` in a process that has
an event loop. Decisions are in `receiver`, `answers`, `epochs`; the rest is what they need.
"""

from __future__ import annotations

from tools.hot_tier.roads import HttpRoad, MqttRoad, Pair
from tools.hot_tier.tier import HotTier

__all__ = ["HotTier", "HttpRoad", "MqttRoad", "Pair"]
