"""The bench of the pipeline runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIGURES = {
    "throughput_ratio",
    "added_inlane_p99_ms",
    "floor_p99_ms",
    "added_callback_p50_ms",
    "added_callback_p99_ms",
    "added_callback_p50_ms_process",
    "added_callback_p99_ms_process",
    "overload_high_miss_ratio",
    "growth_16_ratio",
    "idle_rss_mb",
    "first_result_s",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_figure_is_printed_once() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench/pipeline.py", "--quick", "--seconds", "0.4", "--rounds", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [line["figure"] for line in lines]
    assert len(names) == len(set(names))
    assert set(names) >= FIGURES
    assert {f"overhead_{n}_us" for n in (1, 2, 4, 8, 16)} <= set(names)
    for line in lines:
        assert set(line) == {"bench", "figure", "value", "unit", "goal", "runs", "notes"}
        assert math.isfinite(line["value"]), line
