"""No room: what goes, in which order, and that it works on."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Ack, LogKey
from edge_agent.core.retention import rank
from edge_agent.stores.spool import DiskSpool, Notice, SpoolLimits
from edge_agent.stores.spool.ballast import Ballast
from tests.stores.spooling import (
    Refusal,
    a_record,
    add,
    everything,
    is_balanced,
    key_of,
    open_small,
    settle,
)

pytestmark = pytest.mark.anyio

TINY = SpoolLimits(limit_bytes=256 << 10, ballast_bytes=0, commit_ms=0)
Held = dict[LogKey, set[int]]


def held(spool: DiskSpool) -> Held:
    return {
        log.key: {seq for a, b in log.pending() for seq in range(a, b + 1)} for log in spool.logs()
    }


async def test_a_quota_holds_and_keeps_the_youngest(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path, limits=TINY)
    for _ in range(100):
        add(spool, 50)
        settle(spool)
    key = add(spool, 1)
    settle(spool)
    found = await everything(spool)
    assert found[key] == list(range(found[key][0], 5002))
    assert len(found[key]) > 350
    log = spool.log(key)
    assert log is not None
    assert log.void == ((1, found[key][0] - 1, "evicted"),)
    assert is_balanced(spool)
    spool.close()
    assert path.stat().st_size <= (256 << 10) + 64 * 4096


async def test_a_higher_class_takes_the_place_of_lower_ones(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db", limits=TINY)
    telemetry = add(spool, 600, RecordClass.TELEMETRY)
    results = add(spool, 300)
    settle(spool)
    alarms = 0
    for _ in range(60):
        alarm = add(spool, 20, RecordClass.ALARM)
        alarms += 20
        settle(spool)
        if len(held(spool).get(telemetry, ())) > 0:
            assert len(held(spool)[results]) == 300
    now = held(spool)
    assert not now[telemetry]
    assert len(now[alarm]) > 500
    assert is_balanced(spool)
    spool.close()


async def test_full_of_alarms_it_refuses_telemetry_and_says_so(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db", limits=TINY)
    heard: list[Notice] = []
    spool.voices._notices = ((heard.append, None),)
    for _ in range(60):
        alarm = add(spool, 20, RecordClass.ALARM)
        settle(spool)
    before = held(spool)[alarm]
    telemetry = add(spool, 400, RecordClass.TELEMETRY)
    settle(spool)
    assert held(spool)[alarm] == before
    log = spool.log(telemetry)
    assert log is not None
    assert log.next == 401
    assert "shed" in {notice.name for notice in heard}
    assert is_balanced(spool)
    spool.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(RecordClass)),
            st.sampled_from(["us0", "us1"]),
            st.integers(10, 4000),
            st.integers(1, 30),
        ),
        min_size=15,
        max_size=40,
    )
)
def test_what_goes_is_the_lowest_class_and_in_it_the_oldest(
    tmp_path_factory: pytest.TempPathFactory,
    adds: list[tuple[RecordClass, str, int, int]],
) -> None:
    spool = open_small(tmp_path_factory.mktemp("full") / "spool.db", limits=TINY)
    age = itertools.count()
    born: dict[tuple[LogKey, int], int] = {}
    for klass, stream, size, number in adds:
        before = held(spool)
        for _ in range(number):
            record = spool.append(a_record(klass, stream, size))
            born[key_of(record), record.seq] = next(age)
        settle(spool)
        check_order(before, held(spool), klass, born)
        assert is_balanced(spool)
    spool.close()


def check_order(
    before: Held, after: Held, came: RecordClass, born: dict[tuple[LogKey, int], int]
) -> None:
    gone = [(key, seq) for key in before for seq in before[key] - after[key]]
    for key, _ in gone:
        assert rank(key.klass) >= rank(came), "a lower class pushed out a higher one"
    for key, seqs in before.items():
        for lost, number in gone:
            left = seqs & after[key]
            if rank(key.klass) > rank(lost.klass):
                assert not left, "something of a lower class was kept"
            elif key.klass == lost.klass and left:
                assert born[lost, number] < min(born[key, seq] for seq in left)


async def test_a_full_file_system_costs_the_ballast_and_no_alarm(tmp_path: Path) -> None:
    refusal = Refusal("database or disk is full")
    limits = SpoolLimits(limit_bytes=4 << 20, ballast_bytes=1 << 16, commit_ms=0)
    spool = open_small(tmp_path / "spool.db", connect=refusal.connect, limits=limits)
    heard: list[Notice] = []
    spool.voices._notices = ((heard.append, None),)
    add(spool, 1000, RecordClass.TELEMETRY)
    settle(spool)
    assert spool.health().ballast
    refusal.commits = 1
    alarms = add(spool, 10, RecordClass.ALARM)
    settle(spool)
    assert not spool.health().ballast
    assert (await everything(spool))[alarms] == list(range(1, 11))
    refusal.commits = 6  # and again, with no ballast left
    add(spool, 10, RecordClass.ALARM)
    settle(spool)
    assert len((await everything(spool))[alarms]) == 20
    assert spool.stats().evicted < 1000, "a disk that others filled does not empty the spool"
    assert is_balanced(spool)
    spool.close()


async def test_acknowledging_makes_room_in_a_full_spool(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db", limits=TINY)
    for _ in range(30):
        key = add(spool, 50)
        settle(spool)
    spool.acknowledge([Ack(key, 1500)])
    settle(spool)
    assert spool.stats().records == 0
    evicted = spool.stats().evicted
    add(spool, 300)
    settle(spool)
    assert spool.stats().evicted == evicted
    spool.close()


def test_a_million_evictions_leave_short_books(tmp_path: Path) -> None:
    spool = open_small(tmp_path / "spool.db", limits=TINY)
    for n in range(200):
        for klass in (RecordClass.TELEMETRY, RecordClass.RESULT, RecordClass.EVENT):
            key = add(spool, 20, klass)
        settle(spool)
        if n % 10 == 3:  # the live lane is acknowledged above a floor that is not
            log = spool.log(key)
            assert log is not None
            spool.acknowledge([Ack(key, 0, ((log.next - 5, log.next - 2),))])
    settle(spool)
    assert spool.stats().evicted > 5000
    assert max(len(log.void) for log in spool.logs()) <= 3
    assert is_balanced(spool)
    spool.close()


def test_a_ballast_is_made_of_blocks_and_made_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 1 << 20)
    assert ballast.restore()
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= 1 << 20
    assert ballast.release()
    assert not ballast.release()
    assert ballast.restore()
    assert not Ballast(tmp_path / "nowhere" / "ballast", 1 << 20).restore()
    assert not Ballast(tmp_path / "other", 1 << 60).restore()
    assert not (tmp_path / "other").exists()


def test_a_queue_in_front_is_bounded_in_bytes(tmp_path: Path) -> None:
    refusal = Refusal()
    limits = SpoolLimits(limit_bytes=4 << 20, ballast_bytes=0, queue_bytes=100_000)
    spool = open_small(tmp_path / "spool.db", connect=refusal.connect, limits=limits)
    refusal.delay_s = 0.3
    add(spool, 2)
    time.sleep(0.1)
    for _ in range(100):
        spool.append(a_record(size=5000))
    assert spool.stats().bytes <= 100_000
    assert spool.stats().evicted > 70
    refusal.delay_s = 0.0
    settle(spool)
    assert is_balanced(spool)
    spool.close()
