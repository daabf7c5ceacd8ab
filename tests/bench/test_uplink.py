"""The bench of the uplink runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tools.bench.rig.draining import Run, clear_ages, found_us, road_s

S = 1_000_000
ROOT = Path(__file__).parents[2]
FIGURES = {
    "live_p99_ms",
    "live_p99_all_ms",
    "road_found_s",
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


def run_of(windows: list[tuple[int, int]], ages: list[tuple[int, int]], ended_us: int) -> Run:
    """Only what says when there was a road."""
    drained = {"begun_us": 0, "ended_us": ended_us}
    return Run(
        broker="none", filled={}, idle={}, drained=drained, near={}, far={"ages": ages},
        between={"windows": windows, "names": ["cut"] * len(windows)}, far_cpu_s=0.0,
    )  # fmt: skip


def test_time_without_a_road_is_what_lies_in_the_windows_and_in_the_drain() -> None:
    windows = [(10 * S, 15 * S), (90 * S, 120 * S)]
    assert road_s(run_of([], [], 100 * S)) == 100
    assert road_s(run_of(windows, [], 100 * S)) == 85


def test_the_road_is_found_when_a_result_is_durable_that_was_made_since_and_is_fresh() -> None:
    ages = [(12 * S, 4 * S), (15 * S, 3 * S), (17 * S, S // 20), (18 * S, S // 20)]
    ((_, end_us, found),) = found_us(run_of([(10 * S, 15 * S)], ages, 100 * S))
    assert (end_us, found) == (15 * S, 17 * S + S // 20)
    ((_, _, found),) = found_us(run_of([(10 * S, 15 * S)], ages[:2], 100 * S))
    assert found == 100 * S, "never, in this run"


def test_live_results_count_from_when_the_road_is_found_and_not_from_five_seconds_on() -> None:
    ages = [(at * S, S * 9 if 10 <= at < 40 else S // 20) for at in range(5, 60)]
    clear, every = clear_ages(run_of([(10 * S, 15 * S)], ages, 100 * S))
    assert (max(clear), max(every)) == (S // 20, 9 * S)
    assert len(clear) == 5 + 19


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
