"""One bit that flips where it says what the file is: no record is the price of it."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Ack
from edge_agent.stores.spool import schema
from edge_agent.stores.spool.leaves import Leaves
from tests.stores.spooling import a_record, add, is_balanced, key_of, open_small, settle
from tests.stores.test_spool_damage import fill, ruin, wait_for_salvage

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("at", [*range(60, 64), *range(68, 72)])
async def test_a_flipped_mark_makes_our_file_no_newer_and_no_foreign_one(
    tmp_path: Path, at: int
) -> None:
    """Found by a thousand random flips: 0 records read, and none counted."""
    path = tmp_path / "spool.db"
    key = fill(path, 50)
    content = bytearray(path.read_bytes())
    content[at] ^= 2
    path.write_bytes(content)
    spool = open_small(path)
    assert (await wait_for_salvage(spool))[key] == list(range(1, 51))
    assert not (tmp_path / "spool.db.newer-1").exists()
    assert is_balanced(spool)
    spool.close()


async def test_a_letter_that_is_none_any_more_costs_no_record(tmp_path: Path) -> None:
    """The start told of it by an error that left the file locked, so that nothing was saved."""
    path = tmp_path / "spool.db"
    key = fill(path, 50)
    whole = path.read_bytes()
    places = (whole.index(b"PRIMARY KEY, crc"), whole.index(b"us0result"))
    for n, at in enumerate(places):
        content = bytearray(whole)
        content[at] ^= 0x80
        path = tmp_path / f"{n}.db"
        path.write_bytes(content)
        spool = open_small(path)
        assert (await wait_for_salvage(spool))[key] == list(range(1, 51))
        assert (spool.stats().records, spool.stats().corrupt) == (50, 0)
        assert is_balanced(spool)
        spool.close()


async def test_tables_that_cannot_be_seen_are_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    key = fill(path, 50)
    content = bytearray(path.read_bytes())
    assert content[103:105] == b"\0\2"  # cells of the first page
    content[104] = 0
    path.write_bytes(content)
    spool = open_small(path)
    assert (await wait_for_salvage(spool))[key] == list(range(1, 51))
    spool.close()


# ── bare pages ────────────────────────────────────────────────────────────────────────────────


async def test_a_root_page_that_is_gone_costs_no_record(tmp_path: Path) -> None:
    """All records of a spool stood behind one page, and were lost with it."""
    path = tmp_path / "spool.db"
    spool = open_small(path)
    sizes = [10, 300, 4000, 4100, 9000, 40_000, 50_000]
    key = [key_of(spool.append(a_record(size=size))) for size in sizes * 5][-1]
    alarms = add(spool, 200, RecordClass.ALARM)
    spool.acknowledge([Ack(alarms, 50)])
    settle(spool)
    spool.close()
    ruin(path, 1)
    again = open_small(path)
    found = await wait_for_salvage(again)
    assert found == {key: list(range(1, 36)), alarms: list(range(51, 201))}
    assert (again.stats().corrupt, again.stats().acked) == (0, 50)
    assert is_balanced(again)
    again.close()


async def test_a_head_of_the_books_that_is_gone_costs_no_record_and_no_count(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key, alarms = add(spool, 200), add(spool, 100, RecordClass.ALARM)
    spool.acknowledge([Ack(alarms, 100), Ack(key, 40, ((60, 70),))])
    settle(spool)
    before = spool.stats()
    spool.close()
    for page in (1, 2):  # the root of the rows: they can say nothing of their log any more
        with path.open("r+b") as file:
            file.seek(page * schema.PAGE_BYTES + 1)
            file.write(b"\xff" * 7)
    again = open_small(path)
    assert (await wait_for_salvage(again))[key] == [*range(41, 60), *range(71, 201)]
    assert again.stats().appended == before.appended == 300
    assert (again.stats().acked, again.stats().corrupt) == (151, 0)
    again.close()


async def test_what_an_old_page_still_holds_is_not_taken_for_another_log(tmp_path: Path) -> None:
    """A free page keeps what was there, under a number that another log has since."""
    path = tmp_path / "spool.db"
    old = tmp_path / "old.db"
    fill(old, 300)
    spool = open_small(path)
    spool.close()
    spool = open_small(path)  # another epoch, the same number
    key = add(spool, 300)
    settle(spool)
    spool.close()
    content = path.read_bytes()
    leaves = old.read_bytes()[3 * schema.PAGE_BYTES :]
    path.write_bytes(content + leaves)
    ruin(path, 1)
    ruin(path, 3)  # some of its rows are gone, and the old file has rows of their number
    again = open_small(path)
    found = await wait_for_salvage(again)
    assert found.keys() == {key}
    assert len(found[key]) + again.stats().corrupt == 300
    assert again.stats().corrupt > 5
    assert is_balanced(again)
    again.close()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=40), st.integers(0, 1 << 32))
def test_bare_pages_give_what_the_tree_gives(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], seed: int
) -> None:
    path, dice = tmp_path_factory.mktemp("bare") / "rows.db", random.Random(seed)
    file = sqlite3.connect(path)
    file.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}")
    file.execute(schema.TABLES[0])
    rows = {dice.getrandbits(63): dice.randbytes(size) for size in sizes}
    file.executemany(
        "INSERT INTO r VALUES (?, ?, ?)",
        [(n, schema.crc_of(n, body), body) for n, body in rows.items()],
    )
    file.commit()
    file.close()
    leaves = Leaves(path)
    found = []
    while not leaves.is_over:
        found += leaves.next(3)
    leaves.close()
    assert {n: tuple(columns) for n, columns in found if n in rows} == {
        n: (None, schema.crc_of(n, body), body) for n, body in rows.items()
    }


@given(st.binary(max_size=3 * schema.PAGE_BYTES))
@settings(max_examples=50, deadline=None)
def test_nonsense_on_a_page_is_no_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "nonsense.db"
    padded = b"".join(
        b"\x0d" + content[at : at + schema.PAGE_BYTES - 1].ljust(schema.PAGE_BYTES - 1, b"\x81")
        for at in range(0, 3 * schema.PAGE_BYTES, schema.PAGE_BYTES)
    )
    path.write_bytes(padded)
    leaves = Leaves(path)
    while not leaves.is_over:
        for _, columns in leaves.next(1):
            assert isinstance(columns, list)
    leaves.close()


def test_a_page_that_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "spool.db"
    fill(path, 200)

    def pread(fd: int, size: int, at: int, whole: Callable[..., bytes] = os.pread) -> bytes:
        if at == 5 * schema.PAGE_BYTES:
            raise OSError(errno.EIO, "I/O error")
        return whole(fd, size, at)

    def cells() -> int:
        leaves, found = Leaves(path), 0
        while not leaves.is_over:
            found += len(leaves.next(4))
        leaves.close()
        return found

    before = cells()
    monkeypatch.setattr(os, "pread", pread)
    assert before - 40 < cells() < before
