"""A million records in one spool: killed, opened again, and all of them acknowledged at once.

Measured: how long the opening takes and the first read, how large the write-ahead log grows while
rows go, and whether appending notices.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any, Final

from edge_agent.core.frames import Event, Record, RecordClass, Result, pack
from edge_agent.core.logbook import Ack, Log, LogKey, written
from edge_agent.host import SystemClock
from edge_agent.stores.spool import DiskSpool, SpoolLimits, open_spool, schema
from edge_agent.stores.spool import disk as on_disk
from edge_agent.stores.spool.disk import Disk
from tools.faulting.children import nursery
from tools.faulting.content import BOOT, NODE, STREAMS

LIMITS: Final = SpoolLimits(limit_bytes=4 << 30, ballast_bytes=1 << 20)
EPOCH: Final = 1 << 32 | 0xABCDEF
ROWS_AT_ONCE: Final = 20_000
LIFE_S: Final = 0.4  # of the child that is killed
REOPEN_MS: Final = 2000.0
WAL_BYTES: Final = 8 << 20
APPENDS_A_S: Final = 250
WORDS: Final = "us-chamber 1.0.0 " * 6


def opened(path: Path) -> DiskSpool:
    return open_spool(
        path, node=NODE, clock=SystemClock(), random32=lambda: random.getrandbits(32), boot=BOOT,
        limits=LIMITS,
    )  # fmt: skip


def built(path: Path, records: int) -> None:
    """A spool with so many records of one earlier life, in two logs, by its own tables."""
    opened(path).close()
    disk = Disk(path, LIMITS.limit_bytes)
    try:
        for identity, stream in enumerate(STREAMS, 1):
            key = LogKey(NODE, stream, RecordClass.RESULT, EPOCH)
            _fill(disk, Log(id=identity, key=key), records // len(STREAMS))
        disk.checkpoint()
    finally:
        disk.close()


def _fill(disk: Disk, log: Log, records: int) -> None:
    for first in range(1, records + 1, ROWS_AT_ONCE):
        rows, size = [], 0
        for seq in range(first, min(first + ROWS_AT_ONCE, records + 1)):
            made = Result(
                node=NODE, stream=log.key.stream, boot=BOOT, at_us=seq, epoch=EPOCH, seq=seq,
                model=WORDS,
            )  # fmt: skip
            body, identity = pack(made), schema.row_id(log.id, seq)
            rows.append((identity, schema.crc_of(identity, body), body))
            size += len(body)
        log, _ = written(log, rows[-1][0] & schema.MAX_SEQ, size, ())
        with disk.transaction() as connection:
            connection.executemany(schema.PUT_ROWS, rows)
            on_disk.settle(connection, [(log, ())])


async def killed(folder: Path) -> None:
    """An agent opens it, appends, and is killed: its write-ahead log is left behind."""
    async with nursery(folder / "log") as children:
        pid = await children.start(
            "agent", folder=str(folder), told=str(folder / "told"), port=1, drain=False
        )
        while not _has_promised(folder / "told"):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
        await asyncio.sleep(LIFE_S)
        await children.kill(pid)


def _has_promised(told: Path) -> bool:
    return told.exists() and b"next" in told.read_bytes()


def a_record() -> Record:
    return Event(node=NODE, stream="us", boot=BOOT, at_us=0, what=WORDS)


def appending(spool: DiskSpool, latencies: list[float]) -> None:
    """One record, timed."""
    start_s = time.perf_counter()
    spool.append(a_record())
    latencies.append((time.perf_counter() - start_s) * 1000)
    time.sleep(1 / APPENDS_A_S)


def p99(latencies: list[float]) -> float:
    return round(sorted(latencies)[int(0.99 * (len(latencies) - 1))], 3)


async def million(folder: Path, records: int) -> dict[str, Any]:
    """The figures; `ok` when they hold and all adds up."""
    path, start_s = folder / "spool.db", time.monotonic()
    await asyncio.to_thread(built, path, records)
    build_s = time.monotonic() - start_s
    await killed(folder)
    start_s = time.monotonic()
    spool = await asyncio.to_thread(opened, path)
    reopen_ms = (time.monotonic() - start_s) * 1000
    oldest = LogKey(NODE, STREAMS[0], RecordClass.RESULT, EPOCH)
    page = await spool.backlog.read(oldest, ((1, 300),))
    first_read_ms = (time.monotonic() - start_s) * 1000 - reopen_ms
    acknowledged = await asyncio.to_thread(_acknowledge, spool, path)
    stats = spool.stats()
    is_balanced = stats.appended == stats.acked + stats.evicted + stats.corrupt + stats.records
    await spool.aclose()
    return {
        "records": records,
        "build_s": round(build_s, 1),
        "reopen_ms": round(reopen_ms, 1),
        "first_read_ms": round(first_read_ms, 1),
        "first_read_records": len(page.rows),
        **acknowledged,
        "file_bytes": path.stat().st_size,
        "acked": stats.acked,
        "ok": is_balanced
        and reopen_ms < REOPEN_MS
        and acknowledged["wal_bytes_max"] <= WAL_BYTES
        and stats.acked >= records
        and not (stats.evicted or stats.corrupt),
    }


def _acknowledge(spool: DiskSpool, path: Path) -> dict[str, Any]:
    """All of it in one word, while records come; looks at the log beside the file."""
    quiet: list[float] = []
    busy: list[float] = []
    for _ in range(200):
        appending(spool, quiet)
    wal, widest, start_s = path.with_name(f"{path.name}-wal"), 0, time.monotonic()
    old = [log for log in spool.logs() if log.key.epoch != spool.epoch]
    spool.acknowledge([Ack(log.key, log.next - 1) for log in old])
    while any(log.upto < log.next - 1 for log in spool.logs() if log.key.epoch != spool.epoch):
        appending(spool, busy)
        widest = max(widest, wal.stat().st_size)
    return {
        "wal_bytes_max": widest,
        "acknowledge_s": round(time.monotonic() - start_s, 1),
        "append_p99_ms_quiet": p99(quiet),
        "append_p99_ms_busy": p99(busy or [0.0]),
    }
