"""`tools/faults drain`, with two minutes of backlog; an hour is a step of `.ci/run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tools.bench.rig.draining import Run
from tools.faulting.drain import drain, told


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_two_minutes_of_backlog_drain_exactly_and_the_verdict_says_so(tmp_path: Path) -> None:
    found = drain(tmp_path, 120 / 3600)
    assert found["ok"], found
    assert found["records"] == 2 * 30 * 120
    assert found["live"] > 0
    assert not any(found[name] for name in ("lost", "doubled", "waiting", "left"))


@pytest.mark.parametrize(
    ("side", "changed"),
    [
        ("far", {"records": 109}),
        ("far", {"doubled": 1}),
        ("far", {"waiting": 1}),
        ("near", {"left": 1, "acked": 111}),
        ("near", {"ack_bytes": 32_001}),
    ],
)
def test_whatever_is_lost_doubled_waited_for_left_or_too_large_is_no_pass(
    side: str, changed: dict[str, int]
) -> None:
    near = {"appended": 110, "evicted": 0, "acked": 110, "left": 0, "ack_bytes": 700}
    far = {"records": 110, "doubled": 0, "waiting": 0}
    sides: dict[str, dict[str, Any]] = {
        "near": {**near, "findings": []},
        "far": {**far, "repeated": 5, "ages": []},
    }

    def verdict() -> bool:
        run = Run(
            broker="none", filled={"records": 100, "evicted": 0}, idle={},
            between={"windows": [], "names": []},
            drained={"begun_us": 0, "ended_us": 1_000_000, "left": 0, "appended": 10},
            far_cpu_s=0.0, **sides,
        )  # fmt: skip
        return bool(told(run)["ok"])

    assert verdict()
    sides[side].update(changed)
    assert not verdict()
