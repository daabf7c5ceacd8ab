"""`tools/faults flips`: a few cycles of it, and that it would see what it is there to see."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tools.faulting.flips import damaged, flips, origin, outcome

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(120)
async def test_whatever_flips_no_record_is_wrong_and_all_that_is_skipped_is_counted(
    tmp_path: Path,
) -> None:
    found = await flips(tmp_path, 16, seed=3)
    assert found["ok"], found
    assert found["harmed"] > 6
    assert found["skipped"] > 0


async def test_a_record_that_nobody_wrote_is_seen(tmp_path: Path) -> None:
    made = origin(tmp_path, random.Random(1))
    made.ids.pop()
    found = await outcome(tmp_path / "spool.db", made, "as it was")
    assert (found.wrong, found.exact) == (1, False)


def test_damage_is_damage() -> None:
    dice = random.Random(1)
    for _ in range(50):
        how, content = damaged(bytes(8192), dice)
        assert content != bytes(8192), how
