"""The outbox in a road that takes small payloads only."""

from __future__ import annotations

from edge_agent.core.frames import RecordClass
from tests.core.outbox_world import Faults, World

SECOND_US = 1_000_000


def test_live_and_backlog_and_probes_share_a_narrow_road() -> None:
    """Where live records took each payload, the backlog was packed, left and read for ever."""
    world = World(3, Faults(delay_us=(2_000, 4_000)))
    box = world.outbox
    for second in range(2):
        box.size.closed(4_000, 300, second)
    limit = box.size.limit(world.now_us)
    assert limit is not None
    box.down()
    for _ in range(40):
        world.append("us", RecordClass.TELEMETRY)
        world.run(world.now_us + SECOND_US // 30)
    world.reconnect()
    for _ in range(600):
        world.append("endo", RecordClass.TELEMETRY)
        world.run(world.now_us + SECOND_US // 30)
    assert len(box.live) <= 12
    assert sum(log.sheet().pending for log in world.spool.logs.values()) <= 12
    assert max(p.backfill_bytes for p in world.published) <= limit
