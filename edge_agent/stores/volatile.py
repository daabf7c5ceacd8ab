"""A spool that forgets: bounded, in memory, until the one on disk stands in its place.

Gives records their ids exactly as the durable one will: `seq` is dense from 1 within its log
(stream, class, epoch). Lowest class and oldest first go when the bound is reached, counted.
Used from the event loop alone; nothing here waits.
"""

from __future__ import annotations

from collections import deque

import msgspec

from edge_agent.core.frames import KEEP_ORDER, Record, RecordClass, pack
from edge_agent.ports import Clock, SpoolStats


class VolatileSpool:
    """Implements `ports.Spool`."""

    def __init__(self, *, epoch: int, limit_bytes: int, clock: Clock) -> None:
        self._epoch = epoch
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._seqs: dict[tuple[str, RecordClass], int] = {}
        self._held: dict[RecordClass, deque[tuple[int, Record]]] = {k: deque() for k in KEEP_ORDER}
        self._bytes = 0
        self._appended = 0
        self._evicted = 0

    def append(self, record: Record) -> Record:
        log = (record.stream, record.klass)
        seq = self._seqs.get(log, 0) + 1
        self._seqs[log] = seq
        record = msgspec.structs.replace(record, epoch=self._epoch, seq=seq)
        size = len(pack(record))
        self._held[record.klass].append((size, record))
        self._bytes += size
        self._appended += 1
        while self._bytes > self._limit_bytes:
            self._evict()
        return record

    def _evict(self) -> None:
        for klass in reversed(KEEP_ORDER):
            if self._held[klass]:
                size, _ = self._held[klass].popleft()
                self._bytes -= size
                self._evicted += 1
                return

    def stats(self) -> SpoolStats:
        oldest = [held[0][1].at_us for held in self._held.values() if held]
        age_us = self._clock.boot_us() - min(oldest) if oldest else None
        return SpoolStats(
            records=sum(len(held) for held in self._held.values()),
            bytes=self._bytes,
            limit_bytes=self._limit_bytes,
            oldest_s=None if age_us is None else max(0.0, age_us / 1e6),
            appended=self._appended,
            acked=0,
            evicted=self._evicted,
            corrupt=0,
            volatile=True,
        )

    def newest(self, limit: int) -> list[Record]:
        everything = [record for held in self._held.values() for _, record in held]
        return sorted(everything, key=lambda record: record.at_us, reverse=True)[:limit]
