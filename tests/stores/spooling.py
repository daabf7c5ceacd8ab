"""What the tests of the spool share: small spools on real files, a disk that refuses on command."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.core.frames import (
    Alarm,
    Event,
    Record,
    RecordClass,
    Result,
    Tally,
    unpack,
)
from edge_agent.core.logbook import LogKey
from edge_agent.host import SystemClock
from edge_agent.stores.spool import DiskSpool, Page, SpoolLimits, open_spool, schema

NODE = "cart-7"
BOOT = "ab12cd34"
SMALL = SpoolLimits(limit_bytes=8 << 20, ballast_bytes=1 << 16, commit_ms=1)
_made = itertools.count(1)
_PRINTED = bytes(32 + byte % 95 for byte in range(256))


KINDS: dict[RecordClass, tuple[Callable[..., Record], str]] = {
    RecordClass.ALARM: (Alarm, "what"),
    RecordClass.EVENT: (Event, "what"),
    RecordClass.RESULT: (Result, "model"),
    RecordClass.TELEMETRY: (Tally, "state"),
}


def seeded() -> Callable[[], int]:
    """Random numbers that are none."""
    numbers = itertools.count(0xA000)
    return lambda: next(numbers)


def open_small(
    path: Path, *, limits: SpoolLimits = SMALL, connect: schema.Connect = schema.connect
) -> DiskSpool:
    return open_spool(
        path,
        node=NODE,
        clock=SystemClock(),
        boot=BOOT,
        random32=seeded(),
        limits=limits,
        connect=connect,
    )


def a_record(
    klass: RecordClass = RecordClass.RESULT, stream: str = "us0", size: int = 100
) -> Record:
    """A new one, `size` bytes and a little more, younger than all before. Nothing in it repeats:
    a spool makes records smaller.
    """
    at_us = next(_made)
    fields = {"node": NODE, "stream": stream, "boot": BOOT, "at_us": at_us}
    kind, field = KINDS[klass]
    noise = random.Random(at_us).randbytes(2 * size)
    return kind(**fields, **{field: noise.translate(_PRINTED).decode("latin-1")[: size * 5 // 4]})


def add(spool: DiskSpool, number: int, klass: RecordClass = RecordClass.RESULT) -> LogKey:
    """So many records of one log."""
    return [key_of(spool.append(a_record(klass))) for _ in range(number)][-1]


def settle(spool: DiskSpool, limit_s: float = 20.0) -> None:
    """Until nothing waits any more."""
    until = time.monotonic() + limit_s
    front = spool._front
    while time.monotonic() < until:
        spool.hurry()
        if front.queue.rows == 0 and front.queue.shed == 0 and not front.claims:
            return
        time.sleep(0.001)
    raise AssertionError(f"not settled: {spool.health()}")


def key_of(record: Record) -> LogKey:
    return LogKey(record.node, record.stream, record.klass, record.epoch)


async def everything(spool: DiskSpool) -> dict[LogKey, list[int]]:
    """All that is pending, read back and looked into."""
    found: dict[LogKey, list[int]] = {}
    async for page in spool.backlog.pages():
        found.setdefault(page.key, []).extend(seqs_of(page))
    return {key: seqs for key, seqs in found.items() if seqs}


def seqs_of(page: Page) -> list[int]:
    for seq, body in page.rows:
        record = unpack(body)
        assert (key_of(record), record.seq) == (page.key, seq)
    return [seq for seq, _ in page.rows]


def is_balanced(spool: DiskSpool) -> bool:
    s = spool.stats()
    return s.appended == s.acked + s.evicted + s.corrupt + s.records


class Refusal:
    """How the disk behaves: the next `commits` fail, before or after they took effect."""

    def __init__(self, words: str = "disk I/O error") -> None:
        self.words = words
        self.commits = 0
        self.after = False
        self.delay_s = 0.0
        self.seen = 0

    def connect(self, path: Path) -> sqlite3.Connection:
        refusal = self

        class Refusing(sqlite3.Connection):
            def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
                if sql != "COMMIT":
                    return super().execute(sql, *values)
                refusal.seen += 1
                time.sleep(refusal.delay_s)
                if refusal.commits == 0:
                    return super().execute(sql)
                refusal.commits -= 1
                if refusal.after:
                    super().execute(sql)
                raise sqlite3.OperationalError(refusal.words)

        return sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=0.5, factory=Refusing
        )
