"""Rows whose content is read before it is checked, when it is nonsense."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from tests.stores.spooling import SMALL, add, everything, is_balanced, open_small, settle

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("spoiled", ["X'82A4626F6F74A2FFFEA56174'", "'words'", "X''"])
async def test_a_first_record_of_nonsense_stops_neither_the_oldest_nor_an_eviction(
    tmp_path: Path, spoiled: str
) -> None:
    """Text that is no UTF-8 is no error of msgspec's: the room would have died of it."""
    path = tmp_path / "spool.db"
    spool = open_small(path)
    key = add(spool, 10)
    spool.close()
    with sqlite3.connect(path) as file:
        file.execute(f"UPDATE r SET body = {spoiled} WHERE id & 15 = 1")
    file.close()
    again = open_small(path, limits=msgspec.structs.replace(SMALL, limit_bytes=1 << 18))
    assert again.stats().records == 10
    for _ in range(100):
        filled = add(again, 10)
        settle(again)
    assert again.stats().evicted > 0
    assert is_balanced(again)
    assert 1 not in (await everything(again)).get(key, [])
    assert (await everything(again))[filled]
    again.close()
