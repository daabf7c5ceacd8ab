"""`tools/faults drain`, with two minutes of backlog; an hour is a step of `.ci/run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.faulting.drain import drain


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_minutes_of_backlog_drain_exactly_and_the_verdict_says_so(tmp_path: Path) -> None:
    found = drain(tmp_path, 120 / 3600)
    assert found["ok"], found
    assert found["records"] == 2 * 30 * 120
    assert found["live"] > 0
    assert not any(found[name] for name in ("lost", "doubled", "waiting", "left"))
