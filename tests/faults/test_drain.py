from __future__ import annotations

from pathlib import Path

import pytest

from tools.faulting.drain import drain


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_few_minutes_of_backlog_drain_exactly_and_the_verdict_says_so(tmp_path: Path) -> None:
    found = drain(tmp_path, 90 / 3600)
    assert found["ok"], found
    for kind in ("detections", "contours"):
        assert found[kind]["records"] == 2 * 30 * 90
        assert found[kind]["live"] > 0
        assert not any(found[kind][name] for name in ("lost", "doubled", "waiting", "left"))
