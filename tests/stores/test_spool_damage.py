"""A disk that refuses, files that rot: nothing wrong comes out, everything is counted."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from edge_agent.core.errors import Damaged
from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Ack, LogKey
from edge_agent.stores.spool import DiskSpool, Notice, SpoolLimits
from tests.stores.spooling import (
    SMALL,
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


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_commit_that_failed_is_tried_again_with_the_same_ids(
    tmp_path: Path, after: bool
) -> None:
    refusal = Refusal()
    path = tmp_path / "spool.db"
    spool = open_small(path, connect=refusal.connect)
    heard: list[Notice] = []
    spool.voices._notices = ((heard.append, None),)
    refusal.after, refusal.commits = after, 3
    key = add(spool, 250)
    settle(spool)
    assert await everything(spool) == {key: list(range(1, 251))}
    with anyio.fail_after(5):
        while len(heard) < 2:
            await anyio.sleep(0.001)
    assert [notice.name for notice in heard] == ["failing", "well"]
    refusal.commits = 2
    spool.acknowledge([Ack(key, 100)])
    settle(spool)
    assert (spool.stats().acked, spool.stats().records) == (100, 150)
    pages = [page async for page in spool.backlog.pages()]
    assert spool.stats().bytes == sum(len(body) for page in pages for _, body in page.rows)
    assert is_balanced(spool)
    spool.close()
    again = open_small(path)
    assert await everything(again) == {key: list(range(101, 251))}
    again.close()


async def test_a_disk_that_stays_dead_sheds_the_lowest_and_ends_in_time(tmp_path: Path) -> None:
    refusal = Refusal()
    limits = SpoolLimits(limit_bytes=1 << 20, ballast_bytes=0, queue_rows=100, grace_s=3)
    path = tmp_path / "spool.db"
    spool = open_small(path, connect=refusal.connect, limits=limits)
    refusal.commits = 1 << 30
    add(spool, 30, RecordClass.ALARM)
    add(spool, 500)
    stats = spool.stats()
    assert (stats.appended, stats.records) == (530, 100)
    assert is_balanced(spool)
    assert spool.health().waiting == 100
    await asyncio.to_thread(spool.close)
    again = open_small(path)
    assert is_balanced(again)
    again.close()


async def test_a_spool_that_recovers_keeps_the_alarms_and_declares_the_rest(tmp_path: Path) -> None:
    refusal = Refusal()
    limits = SpoolLimits(limit_bytes=1 << 20, ballast_bytes=0, queue_rows=100)
    spool = open_small(tmp_path / "spool.db", connect=refusal.connect, limits=limits)
    refusal.commits = 4
    alarms = add(spool, 30, RecordClass.ALARM)
    results = add(spool, 500)
    settle(spool)
    found = await everything(spool)
    assert found[alarms] == list(range(1, 31))
    log = spool.log(results)
    assert log is not None
    held = set(found[results])
    void = {seq for a, b, _ in log.void for seq in range(a, b + 1)}
    assert held | void == set(range(1, 501))
    assert spool.stats().evicted == len(void) == 500 - len(held)
    spool.close()


async def test_a_record_that_rotted_is_skipped_counted_and_declared(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key = add(spool, 10)
    spool.close()
    with sqlite3.connect(path) as file:
        file.execute("UPDATE r SET body = zeroblob(length(body)) WHERE id & 15 = 4")
        file.execute("UPDATE r SET crc = crc + 1 WHERE id & 15 = 5")
        file.execute("UPDATE r SET body = 'words', crc = 'words' WHERE id & 15 = 7")
        file.execute("DELETE FROM r WHERE id & 15 = 9")
    file.close()
    again = open_small(path)
    verified = await again.backlog.verify()
    assert (verified.records, verified.corrupt) == (6, 4)
    log = again.log(key)
    assert log is not None
    assert log.void == ((4, 5, "corrupt"), (7, 7, "corrupt"), (9, 9, "corrupt"))
    assert again.stats().corrupt == 4
    assert is_balanced(again)
    assert (await again.backlog.verify()).corrupt == 0
    again.close()
    last = open_small(path)
    assert (last.stats().corrupt, last.stats().records) == (4, 6)
    last.close()


@pytest.mark.parametrize("kind", ["newer", "foreign"])
def test_a_file_that_is_not_ours_is_set_aside(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "spool.db"
    open_small(path).close()
    file = sqlite3.connect(path)
    file.execute("PRAGMA user_version = 2" if kind == "newer" else "PRAGMA application_id = 5")
    file.execute("ALTER TABLE log ADD COLUMN more" if kind == "newer" else "DROP TABLE r")
    file.commit()
    file.close()
    before = path.read_bytes()
    spool = open_small(path)
    heard: list[Notice] = []
    spool.voices.on_notice(heard.append)
    assert [notice.name for notice in heard] == ["set-aside"]
    assert "spool.db.newer-1" in heard[0].what
    assert (tmp_path / "spool.db.newer-1").read_bytes() == before
    spool.close()


async def test_no_database_at_all_is_set_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    path.write_bytes(b"this was never a database" * 1000)
    spool = open_small(path)
    heard: list[Notice] = []
    spool.voices.on_notice(heard.append)
    add(spool, 3)
    settle(spool)
    await wait_for_salvage(spool)
    assert heard[0].name == "set-aside"
    assert spool.stats().records == 3
    spool.close()
    assert (tmp_path / "spool.db.damaged-1").exists()


def test_a_place_that_cannot_hold_a_file_is_said_clearly(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="open spool"):
        open_small(tmp_path / "nowhere" / "spool.db")


@pytest.mark.parametrize("name", ["spool.db", "spool.db.lock", "ballast"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_stands_in_the_place_of_a_file_is_put_aside(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    make(tmp_path / name)
    spool = open_small(tmp_path / "spool.db")
    spool.close()
    assert (tmp_path / name).is_file() or name == "ballast"  # a small one has no ballast
    assert len(list(tmp_path.glob(f"{name}.*-1")) + list(tmp_path.glob(f"{name}.aside.*"))) == 1


async def test_a_page_that_broke_under_way_costs_only_its_records(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 2000)
    ruin(path, 20)
    spool = open_small(path)
    found = await wait_for_salvage(spool)
    stats = spool.stats()
    assert 1900 < len(found[key]) < 2000
    assert stats.corrupt == 2000 - len(found[key])
    assert is_balanced(spool)
    key = add(spool, 5)
    settle(spool)
    assert len((await everything(spool))[key]) == 5
    spool.close()
    assert (tmp_path / "spool.db.damaged-1").exists()
    assert not (tmp_path / "spool.db.salvage").exists()


@pytest.mark.parametrize("how", ["header", "torn"])
async def test_a_broken_header_or_a_torn_end_costs_no_sound_record(
    tmp_path: Path, how: str
) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 2000)
    size = path.stat().st_size
    if how == "header":
        ruin(path, 0)
    else:
        os.truncate(path, size // 2 + 1000)
    spool = open_small(path)
    found = await wait_for_salvage(spool)
    assert len(found[key]) == 2000 if how == "header" else len(found[key]) > 700
    assert len(found[key]) + spool.stats().corrupt == 2000
    assert is_balanced(spool)
    spool.close()


@pytest.mark.parametrize("page", [0, 2], ids=["schema", "books"])
async def test_a_letter_that_flipped_in_schema_or_books_costs_no_record(
    tmp_path: Path, page: int
) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 500)
    words = {0: b"CREATE TABLE log", 2: b"us0result"}[page]
    content = bytearray(path.read_bytes())
    at = content.index(words, page * 4096)
    assert at < (page + 1) * 4096
    content[at + 5] ^= 4
    path.write_bytes(content)
    spool = open_small(path)
    found = await wait_for_salvage(spool)
    assert found[key] == list(range(1, 501))
    assert (spool.stats().records, spool.stats().corrupt) == (500, 0)
    assert is_balanced(spool)
    spool.close()


async def test_pages_that_changed_places_give_no_record_twice(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 500)
    content = path.read_bytes()
    pages = [content[at : at + 4096] for at in range(0, len(content), 4096)]
    leaves = [n for n, page in enumerate(pages) if n > 2 and page[0] == 13]
    one, other = leaves[2], leaves[7]
    pages[one], pages[other] = pages[other], pages[one]
    path.write_bytes(b"".join(pages))
    spool = open_small(path)
    found = (await wait_for_salvage(spool)).get(key, [])
    assert len(found) == len(set(found)) > 250
    assert len(found) + spool.stats().corrupt == 500
    assert is_balanced(spool)
    spool.close()


async def test_books_and_tree_broken_together_stop_no_start(tmp_path: Path) -> None:
    """Rows whose numbers lead back, or nowhere: found in a file with 32 flipped bits."""
    dice = random.Random(5)
    whole = tmp_path / "whole.db"
    fill(whole, 600)
    content = whole.read_bytes()
    for n in range(25):
        broken = bytearray(content)
        for page in (1, 2):  # the root of the rows, the books
            for _ in range(8):
                broken[page * 4096 + dice.choice((*range(60), *range(3500, 4096)))] ^= (
                    1 << dice.randrange(8)
                )
        folder = tmp_path / f"{n}"
        folder.mkdir()
        (folder / "spool.db").write_bytes(broken)
        spool = open_small(folder / "spool.db")
        seqs = [seq for seqs in (await wait_for_salvage(spool)).values() for seq in seqs]
        assert len(seqs) == len(set(seqs)) <= 600
        assert spool.stats().appended < 10_000
        assert is_balanced(spool)
        spool.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_salvage_whose_beginning_failed_is_begun_again(tmp_path: Path, after: bool) -> None:
    """The broken file lay aside, nobody remembered it, and all its records were called damaged."""
    path, refusal = tmp_path / "spool.db", Refusal()
    key = fill(path, 2000)
    ruin(path, 20)
    spool = open_small(path, connect=refusal.connect)
    refusal.after, refusal.commits = after, 3
    found = await wait_for_salvage(spool)
    assert 1900 < len(found[key]) < 2000
    assert spool.stats().corrupt == 2000 - len(found[key])
    assert is_balanced(spool)
    late = add(spool, 5)
    settle(spool)
    assert len((await everything(spool))[late]) == 5
    spool.close()
    assert not (tmp_path / "spool.db.salvage").exists()


async def test_a_salvage_that_was_cut_off_before_its_books_were_written_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 500)
    path.rename(path.with_name("spool.db.salvage"))
    spool = open_small(path)
    found = await wait_for_salvage(spool)
    assert found == {key: list(range(1, 501))}
    assert (spool.stats().corrupt, spool.stats().appended) == (0, 500)
    spool.close()


async def test_a_salvage_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 3000)
    before = path.read_bytes()
    ruin(path, 0)  # the header: the whole file is refused, but its copy below is sound
    spool = open_small(path)
    await wait_for_salvage(spool)
    spool.close()
    (tmp_path / "spool.db.damaged-1").unlink()
    path.with_name("spool.db.salvage").write_bytes(before)
    with sqlite3.connect(path) as file:  # as after a crash: the books are there, the rows not yet
        file.execute("ATTACH ? AS old", (str(path.with_name("spool.db.salvage")),))
        file.execute("INSERT OR REPLACE INTO log SELECT * FROM old.log WHERE id > 0")
        file.execute("DELETE FROM r")
        file.execute("INSERT INTO r SELECT * FROM old.r WHERE id % 7 = 0")
    file.close()
    again = open_small(path)
    late = add(again, 10)
    found = await wait_for_salvage(again)
    assert found == {key: list(range(1, 3001)), late: list(range(1, 11))}
    assert (again.stats().corrupt, again.stats().records) == (0, 3010)
    again.close()


async def test_random_damage_never_stops_a_start_nor_gives_a_wrong_record(tmp_path: Path) -> None:
    dice = random.Random(1)
    origin = tmp_path / "origin"
    origin.mkdir()
    key = fill(origin / "spool.db", 400)
    whole = (origin / "spool.db").read_bytes()
    exact = 0
    for n in range(60):
        folder = tmp_path / f"{n}"
        folder.mkdir()
        content = bytearray(whole)
        if n % 6 == 5:
            del content[dice.randrange(len(content)) :]
        else:
            for _ in range(dice.choice((1, 4))):
                content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        (folder / "spool.db").write_bytes(content)
        spool = open_small(folder / "spool.db")
        found = await wait_for_salvage(spool)
        exact += len(found.get(key, [])) + spool.stats().corrupt == 400
        assert is_balanced(spool)
        spool.close()
        shutil.rmtree(folder)
    assert exact >= 57, "only where hardly a page is left can't be told what is gone"


def fill(path: Path, number: int) -> LogKey:
    spool = open_small(path)
    key = key_of(spool.append(a_record()))
    for _ in range(number - 1):
        spool.append(a_record())
    settle(spool)
    spool.close()
    return key


def ruin(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 64)


async def wait_for_salvage(spool: DiskSpool) -> dict[LogKey, list[int]]:
    """All that can be read is read, so that all damage is found."""
    verified = await spool.backlog.verify()
    with anyio.fail_after(20):
        while spool.health().salvaging or verified.corrupt:
            await anyio.sleep(0.001)
            verified = await spool.backlog.verify()
    assert spool.health().trouble == ""
    return await everything(spool)


def test_the_limits_of_these_tests_are_small() -> None:
    assert SMALL.limit_bytes <= 8 << 20
