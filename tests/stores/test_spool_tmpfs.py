"""A file system that is really full: a small one of its own, where a test may mount it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.core.frames import RecordClass
from edge_agent.stores.spool import DiskSpool, SpoolLimits
from tests.disks import fill_up, small_disk
from tests.stores.spooling import a_record, add, everything, is_balanced, key_of, open_small, settle

pytestmark = pytest.mark.anyio
SIZE_BYTES = 4 << 20
LIMITS = SpoolLimits(limit_bytes=64 << 20, ballast_bytes=256 << 10, commit_ms=1)
APPENDS = 400


@pytest.fixture(name="small")
def _small(tmp_path: Path) -> Iterator[Path]:
    """Of 4 MiB, so that the quota never comes first."""
    with small_disk(tmp_path / "disk", SIZE_BYTES) as can:
        if not can:
            pytest.skip("needs root, and the right to mount")
        yield tmp_path / "disk"


def appended(spool: DiskSpool, klass: RecordClass) -> float:
    """Milliseconds at the 99th of a hundred."""
    latencies = []
    for _ in range(APPENDS):
        record = a_record(klass, size=300)
        start_s = time.perf_counter()
        spool.append(record)
        latencies.append((time.perf_counter() - start_s) * 1000)
        time.sleep(0.001)
    return statistics.quantiles(latencies, n=100)[98]


async def test_a_disk_that_others_filled_costs_no_alarm_no_time_and_no_restart(
    small: Path,
) -> None:
    spool = open_small(small / "spool.db", limits=LIMITS)
    with_room_ms = appended(spool, RecordClass.TELEMETRY)
    settle(spool)
    fill_up(small / "others")
    full_ms = appended(spool, RecordClass.TELEMETRY)
    alarms = [spool.append(a_record(RecordClass.ALARM, size=300)) for _ in range(200)]
    for _ in range(2):  # the ballast is gone by now, and what it gave
        full_ms = max(full_ms, appended(spool, RecordClass.RESULT))
        fill_up(small / "more others")
    assert spool.health().trouble or not spool.health().ballast
    assert full_ms < max(4 * with_room_ms, 2.0)
    assert is_balanced(spool)
    for name in ("others", "more others"):
        (small / name).unlink()
    settle(spool)
    assert spool.health().trouble == ""
    found = await everything(spool)
    assert found[key_of(alarms[0])] == list(range(1, 201))
    late = add(spool, 50)
    settle(spool)
    log = spool.log(late)
    assert log is not None
    assert (await everything(spool))[late][-50:] == list(range(log.next - 50, log.next))
    assert is_balanced(spool)
    spool.close()
    again = open_small(small / "spool.db", limits=LIMITS)
    assert (await everything(again))[key_of(alarms[0])] == list(range(1, 201))
    assert is_balanced(again)
    again.close()


async def test_a_start_on_a_full_disk_works_with_what_the_ballast_gives(small: Path) -> None:
    spool = open_small(small / "spool.db", limits=LIMITS)
    key = add(spool, 500)
    settle(spool)
    spool.close()
    fill_up(small / "others")
    again = open_small(small / "spool.db", limits=LIMITS)
    assert (await everything(again))[key] == list(range(1, 501))
    alarm = add(again, 20, RecordClass.ALARM)
    settle(again)
    assert (await everything(again))[alarm] == list(range(1, 21))
    assert is_balanced(again)
    again.close()
