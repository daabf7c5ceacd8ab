"""The bench of the uplink runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "live_p99_ms",
    "live_p99_all_ms",
    "drain_ratio",
    "drain_clear_ratio",
    "drain_whole_ratio",
    "spool_to_payload",
    "lost",
    "duplicates",
    "waiting_at_end",
    "ack_bytes_max",
    "append_p99_ms",
    "append_p99_ratio",
    "near_cpu_us",
    "far_cpu_us",
    "sent_to_raw",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_small_backlog_drains_and_every_figure_is_printed_once() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench/uplink.py", "--quick", "--seconds", "5"],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    values = {line["figure"]: line["value"] for line in lines}
    assert len(values) == len(lines)
    assert values.keys() == FIGURES | {f"{name}_contours" for name in FIGURES}
    for line in lines:
        assert set(line) == {"bench", "figure", "value", "unit", "goal", "runs", "notes"}
        assert math.isfinite(line["value"]), line
    for name in ("lost", "duplicates", "waiting_at_end"):
        assert values[name] == values[f"{name}_contours"] == 0
    assert 0 < values["ack_bytes_max"] <= 32_000
