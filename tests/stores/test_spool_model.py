"""The spool beside a model, sets of seqs per log: any order of events, exact at any moment."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.core.errors import Rejected
from edge_agent.core.frames import Record, RecordClass, unpack
from edge_agent.core.logbook import Ack, LogKey
from edge_agent.host import SystemClock
from edge_agent.stores.spool import DiskSpool, SpoolLimits, open_spool
from tests.stores.spooling import BOOT, NODE, Refusal, a_record, is_balanced, key_of, settle

SHORT = SpoolLimits(limit_bytes=32 << 20, ballast_bytes=1 << 16, commit_ms=0)


class Shadow(msgspec.Struct):
    """One log as the model has it."""

    records: dict[int, Record] = {}
    acked: set[int] = set()
    corrupt: set[int] = set()
    rotten: set[int] = set()  # damaged on disk, not read since

    @property
    def pending(self) -> set[int]:
        return set(self.records) - self.acked - self.corrupt


class Model(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.shadows: dict[LogKey, Shadow] = {}
        self.refusal = Refusal()
        self.forgotten: set[LogKey] = set()
        self.dice = 0
        self.spool = self.reopened()

    def reopened(self) -> DiskSpool:
        self.dice += 0x9E3779B9
        return open_spool(
            self.folder / "spool.db",
            node=NODE,
            clock=SystemClock(),
            boot=BOOT,
            random32=lambda: self.dice,
            limits=SHORT,
            connect=self.refusal.connect,
        )

    @rule(
        klass=st.sampled_from(list(RecordClass)),
        stream=st.sampled_from(["us0", "us1"]),
        number=st.integers(1, 40),
        size=st.sampled_from([0, 50, 3000]),
    )
    def append(self, klass: RecordClass, stream: str, number: int, size: int) -> None:
        for _ in range(number):
            record = self.spool.append(a_record(klass, stream, size))
            shadow = self.shadows.setdefault(key_of(record), Shadow())
            assert record.seq == len(shadow.records) + 1, "ids are dense, and never used again"
            assert record.epoch == self.spool.epoch
            shadow.records[record.seq] = record

    @precondition(lambda self: self.shadows)
    @rule(
        pick=st.integers(0, 99), upto=st.integers(0, 60), at=st.integers(1, 60), more=st.booleans()
    )
    def acknowledge(self, pick: int, upto: int, at: int, more: bool) -> None:
        key = list(self.shadows)[pick % len(self.shadows)]
        shadow = self.shadows[key]
        top = len(shadow.records)
        have = ((min(at, top), min(at + 5, top)),) if more else ()
        try:
            self.spool.acknowledge([Ack(key, min(upto, top), have)])
        except Rejected:
            assert key in self.forgotten
            return
        claimed = set(range(1, min(upto, top) + 1))
        claimed |= {seq for a, b in have for seq in range(a, b + 1)}
        shadow.acked |= claimed - shadow.corrupt
        shadow.rotten -= claimed
        settle(self.spool)

    @rule(commits=st.integers(1, 2), after=st.booleans())
    def refuse(self, commits: int, after: bool) -> None:
        self.refusal.commits, self.refusal.after = commits, after

    @rule()
    def restart(self) -> None:
        self.close()
        self.spool = self.reopened()

    @rule(pick=st.integers(0, 999), how=st.sampled_from(["crc", "body", "gone"]))
    def rot(self, pick: int, how: str) -> None:
        """A record on disk is no longer what it was."""
        self.close()
        statements = {
            "crc": "UPDATE r SET crc = crc + 1 WHERE id = ?",
            "body": "UPDATE r SET body = substr(body, 2) WHERE id = ?",
            "gone": "DELETE FROM r WHERE id = ?",
        }
        file = sqlite3.connect(self.folder / "spool.db")
        query = "SELECT r.id, node, stream, class, epoch FROM r JOIN log ON log.id = r.id >> 40"
        rows = file.execute(f"{query} ORDER BY r.id").fetchall()
        if rows:
            identity, node, stream, klass, epoch = rows[pick % len(rows)]
            file.execute(statements[how], (identity,))
            file.commit()
            key = LogKey(node, stream, RecordClass(klass), epoch)
            self.shadows[key].rotten.add(identity & (1 << 40) - 1)
        file.close()
        self.spool = self.reopened()

    @rule()
    def read_everything(self) -> None:
        settle(self.spool)
        found = asyncio.run(self.pages())
        for key, shadow in self.shadows.items():
            shadow.corrupt |= shadow.rotten
            shadow.rotten = set()
            assert found.get(key, {}) == {seq: shadow.records[seq] for seq in shadow.pending}
        assert set(found) <= set(self.shadows)

    async def pages(self) -> dict[LogKey, dict[int, Record]]:
        found: dict[LogKey, dict[int, Record]] = {}
        async for page in self.spool.backlog.pages():
            read = {seq: unpack(body) for seq, body in page.rows}
            assert list(read) == sorted(read), "order within a log"
            if read:
                found.setdefault(page.key, {}).update(read)
        return found

    @rule()
    def forget(self) -> None:
        """Settled logs of earlier epochs leave the books, not the balance."""
        settle(self.spool)
        before = {log.key for log in self.spool.logs()}
        asyncio.run(self.spool.backlog.forget(before))
        gone = before - {log.key for log in self.spool.logs()}
        assert not any(self.shadows[key].pending for key in gone)
        self.forgotten |= gone

    @invariant()
    def the_balance_is_exact(self) -> None:
        assert is_balanced(self.spool)
        stats = self.spool.stats()
        assert stats.appended == sum(len(shadow.records) for shadow in self.shadows.values())
        assert stats.acked == sum(len(shadow.acked) for shadow in self.shadows.values())
        assert stats.corrupt == sum(len(shadow.corrupt) for shadow in self.shadows.values())
        assert stats.evicted == 0

    def close(self) -> None:
        settle(self.spool)
        self.spool.close()

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.refusal.commits = 0
            self.read_everything()
            self.spool.close()
            shutil.rmtree(self.folder)


Model.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestModel = Model.TestCase
