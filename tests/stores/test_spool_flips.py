"""One bit that flips where it says what the file is: no record is the price of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.spooling import is_balanced, open_small
from tests.stores.test_spool_damage import fill, wait_for_salvage

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
