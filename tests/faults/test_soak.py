"""`tools/faults soak`: a few seconds of it; a minute is by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.faulting.soak import ROUGH, soak

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(120)
async def test_silent_roads_and_a_broker_that_dies_with_edgecore_cost_time_and_no_record(
    tmp_path: Path,
) -> None:
    assert ROUGH.mode == 0
    found = await soak(tmp_path, 5, seed=2)
    assert found["ok"], found
    assert found["deeds"]["silent"] >= 1
    assert found["deeds"]["edgecore"] >= 1
    assert found["received"] == found["committed"] + found["beyond_commit"] > 500
    assert found["sheets_exact"], "the balance, at both ends"


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_the_whole_agent_lives_through_it_too(tmp_path: Path) -> None:
    found = await soak(tmp_path, 15, seed=1, whole=True)
    assert found["ok"], found
    assert found["deeds"]["silent"] >= 1
    assert found["deeds"]["edgecore"] >= 1
    assert found["promised"] > 100
