"""The spool on a real file: ids, commits, acknowledgement, reading back, restarts."""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import time
from pathlib import Path

import pytest

from edge_agent.core.errors import Overloaded, Rejected
from edge_agent.core.frames import RecordClass, Result, unpack
from edge_agent.core.logbook import LOST, Ack, LogKey
from edge_agent.core.retention import Position
from edge_agent.stores.spool import Change, SpoolLimits, schema
from tests.stores.spooling import (
    NODE,
    SMALL,
    Refusal,
    a_record,
    add,
    everything,
    is_balanced,
    key_of,
    open_small,
    seqs_of,
    settle,
)

pytestmark = pytest.mark.anyio


def test_ids_are_dense_within_a_log_and_given_at_once(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    stamped = [spool.append(a_record(stream=s)) for s in ("us0", "us1", "us0")]
    assert [(r.stream, r.seq) for r in stamped] == [("us0", 1), ("us1", 1), ("us0", 2)]
    assert {r.epoch for r in stamped} == {spool.epoch}
    assert spool.epoch == 1 << 32 | 0xA000
    assert spool.newest(2) == [stamped[2], stamped[1]]
    spool.close()


async def test_what_was_committed_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    stamped = [spool.append(a_record(klass)) for klass in RecordClass for _ in range(3)]
    spool.close()
    again = open_small(path)
    assert again.epoch == 2 << 32 | 0xA000
    assert again.newest(1)[0].at_us == stamped[-1].at_us
    found = await everything(again)
    assert found == {key_of(record): [1, 2, 3] for record in stamped}
    fresh = again.append(a_record())
    assert (fresh.epoch, fresh.seq) == (again.epoch, 1)
    assert again.stats().appended == 13
    assert is_balanced(again)
    again.close()


@pytest.mark.usefixtures("quiet_loop")
async def test_a_loop_is_never_blocked(tmp_path: Path) -> None:
    spool = await asyncio.to_thread(open_small, tmp_path / "spool.db")
    key = add(spool, 300)
    page = await spool.backlog.read(key, ((1, 5),))
    spool.acknowledge([Ack(key, 5)])
    assert (len(page.rows), len(spool.logs())) == (5, 1)
    assert spool.stats().appended == 300
    assert spool.health().trouble == ""
    await spool.aclose()


async def test_a_listener_hears_of_commits_on_its_loop(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    heard: asyncio.Queue[Change] = asyncio.Queue()
    spool.voices.on_change(heard.put_nowait)
    record = spool.append(a_record())
    change = await asyncio.wait_for(heard.get(), 5)
    assert change.why == "written"
    assert [(log.key, log.next) for log in change.logs] == [(key_of(record), 2)]
    await spool.aclose()


async def test_acks_take_rows_away_and_are_idempotent(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key = add(spool, 20)
    settle(spool)
    for ack in (Ack(key, 5, ((8, 9), (12, 14))), Ack(key, 3), Ack(key, 5, ((9, 12),))):
        spool.acknowledge([ack])
        settle(spool)
    pending = [6, 7, 10, 11, *range(15, 21)]
    pending = [seq for seq in pending if seq not in (10, 11)]
    assert await everything(spool) == {key: pending}
    spool.close()
    again = open_small(path)
    assert await everything(again) == {key: pending}
    log = again.log(key)
    assert log is not None
    assert (log.floor, log.upto, log.held) == (6, 5, ((8, 14),))
    assert again.stats().acked == 12
    assert is_balanced(again)
    again.acknowledge([Ack(key, 20)])
    settle(again)
    assert again.stats().records == again.stats().bytes == 0
    again.close()


def test_an_ack_that_cannot_be_true_changes_nothing(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    key = key_of(spool.append(a_record()))
    for wrong, words in (
        ([Ack(key, 1), Ack(key._replace(stream="nobody"), 1)], "no such log"),
        ([Ack(key, 2)], "expected seqs below 2, got 2"),
        ([Ack(key, 0, ((1, 7),))], "expected seqs below 2, got 7"),
        ([Ack(key, 0, ((3, 1),))], "expected ranges"),
        ([Ack(key, -1)], "expected ranges"),
    ):
        with pytest.raises(Rejected, match=words):
            spool.acknowledge(wrong)
    settle(spool)
    assert spool.stats().acked == 0
    spool.close()


def test_an_ack_may_come_before_the_commit(tmp_path: Path) -> None:
    refusal = Refusal()
    spool = open_small(tmp_path / "spool.db", connect=refusal.connect)
    refusal.delay_s = 0.1
    records = [spool.append(a_record()) for _ in range(3)]
    spool.acknowledge([Ack(key_of(records[0]), 2)])
    assert spool.stats().acked == 0
    settle(spool)
    assert (spool.stats().acked, spool.stats().records) == (2, 1)
    spool.close()


def test_of_a_closed_log_an_ack_beyond_its_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key = key_of(spool.append(a_record()))
    spool.close()
    again = open_small(path)  # seqs 2 and 3 were sent live, and died with the process
    again.acknowledge([Ack(key, 3, ((5, 6),))])
    settle(again)
    assert again.stats().acked == 1
    again.close()


async def test_a_walk_gives_pages_of_one_log_within_their_bounds(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    for n in range(100):
        spool.append(a_record(stream=f"us{n % 2}", size=200))
    alarm = spool.append(a_record(RecordClass.ALARM))
    settle(spool)
    in_flight = {key_of(alarm)._replace(klass=RecordClass.RESULT): ((1, 10),)}
    position, seen = Position(), []
    while True:
        page, position = await spool.backlog.next(position, in_flight, max_rows=30, max_bytes=6000)
        if page is None:
            break
        assert len(page.rows) <= 30
        assert sum(len(body) for _, body in page.rows) <= 6000
        seen.append((page.key.klass.value, page.key.stream, seqs_of(page)))
    assert seen[0] == ("alarm", "us0", [1])
    assert {name for _, name, _ in seen[1:3]} == {"us0", "us1"}
    assert sorted(s for _, name, seqs in seen[1:] if name == "us0" for s in seqs) == list(
        range(11, 51)
    )
    assert sorted(s for _, name, seqs in seen if name == "us1" for s in seqs) == list(range(1, 51))
    spool.close()


async def test_a_large_record_is_read_alone_and_a_huge_one_is_refused(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    large = spool.append(a_record(size=50_000))
    spool.append(a_record(size=70_000))
    spool.append(a_record())
    settle(spool)
    assert await everything(spool) == {key_of(large): [1, 3]}
    page = await spool.backlog.read(key_of(large), ((1, 9),), max_bytes=100)
    assert seqs_of(page) == [1]
    log = spool.log(key_of(large))
    assert log is not None
    assert log.void == ((2, 2, "evicted"),)
    assert (spool.health().oversize, spool.stats().evicted) == (1, 1)
    assert is_balanced(spool)
    spool.close()


async def test_another_receiver_is_told_what_is_lost(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    key = add(spool, 10)
    settle(spool)
    spool.acknowledge([Ack(key, 2, ((5, 7),))])
    settle(spool)
    assert await spool.backlog.forfeit([Ack(key, 1, ((6, 6),))]) == 3
    log = spool.log(key)
    assert log is not None
    assert (log.floor, log.upto) == (3, 1)
    assert log.void == ((5, 7, LOST),)  # 6 is there: nobody waits for it
    assert (spool.health().lost, spool.stats().acked) == (3, 5)
    assert is_balanced(spool)
    spool.close()


async def test_a_settled_log_is_forgotten_and_its_sheet_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key = add(spool, 5)
    settle(spool)
    spool.acknowledge([Ack(key, 4)])
    settle(spool)
    assert await spool.backlog.forget([key]) == 0
    spool.close()
    again = open_small(path)
    assert await again.backlog.forget([key]) == 0  # one is pending
    again.acknowledge([Ack(key, 5)])
    settle(again)
    assert await again.backlog.forget([key]) == 1
    assert again.logs() == []
    again.close()
    last = open_small(path)
    assert (last.stats().appended, last.stats().acked) == (5, 5)
    last.close()


def test_old_logs_beyond_the_bound_are_let_go(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    limits = SpoolLimits(limit_bytes=1 << 20, ballast_bytes=0, max_logs=4)
    for _ in range(8):
        spool = open_small(path, limits=limits)
        spool.append(a_record(RecordClass.TELEMETRY))
        spool.append(a_record(RecordClass.ALARM))
        spool.close()
    again = open_small(path, limits=limits)
    kept = again.logs()
    assert len(kept) == 4
    assert {log.key.klass for log in kept} == {RecordClass.ALARM}
    assert again.stats().appended == 16
    assert is_balanced(again)
    again.close()


def test_only_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    with pytest.raises(Rejected, match="another process has it"):
        open_small(tmp_path / "spool.db")
    spool.close()
    open_small(tmp_path / "spool.db").close()


async def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    key = key_of(spool.append(a_record()))
    spool.close()
    with pytest.raises(Overloaded):
        await spool.backlog.read(key, ((1, 1),))
    spool.close()


def test_the_file_is_as_the_page_says(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    record = spool.append(a_record(stream="us1"))
    spool.close()
    with sqlite3.connect(path) as file:
        (identity, crc, body), *_ = file.execute("SELECT * FROM r").fetchall()
        assert (identity, crc) == (1 << 40 | 1, schema.crc_of(identity, body))
        assert unpack(body) == record
        rows = file.execute(
            "SELECT id, node, stream, class, epoch, floor, next FROM log"
        ).fetchall()
        assert rows == [
            (0, "", "", "", record.epoch, 1, 1),
            (1, NODE, "us1", "result", record.epoch, 1, 2),
        ]
        names = {row[0] for row in file.execute("SELECT name FROM sqlite_master")}
        assert names == {"r", "log"}
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


def test_appending_does_not_wait_for_a_slow_disk(tmp_path: Path) -> None:
    refusal = Refusal()
    spool = open_small(tmp_path / "spool.db", connect=refusal.connect)
    p99: dict[float, float] = {}
    for delay_s in (0.0, 0.2):
        refusal.delay_s = delay_s
        took = []
        for _ in range(1500):
            record = a_record()
            start = time.perf_counter()
            spool.append(record)
            took.append(time.perf_counter() - start)
            time.sleep(0.0003)
        p99[delay_s] = statistics.quantiles(took, n=100)[98]
    refusal.delay_s = 0.0
    settle(spool)
    spool.close()
    assert p99[0.2] < max(4 * p99[0.0], 0.002)


def test_the_age_of_the_oldest_survives_what_is_taken_away(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db")
    assert spool.stats().oldest_s is None
    now_us = spool._clock.boot_us()
    old = Result(node=NODE, stream="us0", boot="ab12cd34", at_us=now_us - 90_000_000)
    new = Result(node=NODE, stream="us0", boot="ab12cd34", at_us=now_us - 5_000_000)
    key = key_of(spool.append(old))
    spool.append(new)
    settle(spool)
    until = time.monotonic() + 5
    while not 90 <= (spool.stats().oldest_s or 0) < 100 and time.monotonic() < until:
        time.sleep(0.05)
    assert 90 <= (spool.stats().oldest_s or 0) < 100
    spool.acknowledge([Ack(key, 1)])
    while not 5 <= (spool.stats().oldest_s or 0) < 20 and time.monotonic() < until:
        time.sleep(0.05)
    assert 5 <= (spool.stats().oldest_s or 0) < 20
    spool.close()


def test_the_log_before_the_file_stays_small_while_much_is_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    limits = SpoolLimits(limit_bytes=256 << 20, ballast_bytes=0, queue_rows=1 << 20, commit_ms=1)
    spool = open_small(path, limits=limits)
    key = add(spool, 30_000)
    settle(spool)
    widest = 0
    spool.acknowledge([Ack(key, 30_000)])
    while spool.stats().records:
        widest = max(widest, path.with_name("spool.db-wal").stat().st_size)
        time.sleep(0.002)
    assert widest <= 8 << 20
    assert spool.stats().acked == 30_000
    spool.close()


def test_keys_are_names_not_numbers() -> None:
    key = LogKey(NODE, "us0", RecordClass.RESULT, 5)
    assert {key: 1}[LogKey(NODE, "us0", RecordClass("result"), 5)] == 1
    assert SMALL.commit_rows <= 2000
