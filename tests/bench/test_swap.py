"""The bench of the swaps runs from the repository alone, and its own arithmetic is right."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.core.frames import Result
from tools.bench.rig.swapping import Seen, Span

ROOT = Path(__file__).parents[2]
FIGURES = {
    *(
        f"{name}{tail}"
        for tail in ("", "_60mb")
        for name in ("frames_dropped", "frames_doubled", "frames_unexplained", "added_wait_frames")
    ),
    "peak_memory_ratio",
    "rss_slope_mb_per_100_swaps",
    "shadow_added_p99_ms",
    "shadow_frames_dropped",
}


def test_a_frame_that_is_missing_or_came_twice_is_found() -> None:
    results = [Result(node="n", stream="s", frame=n, wait_us=n) for n in (1, 2, 2, 4, 6)]
    seen = Seen(results=results)
    assert seen.missing([Span(1, 5)]) == 1
    assert seen.missing([Span(1, 3), Span(4, 8)]) == 2
    assert seen.doubled() == 1
    assert seen.waits_us([Span(4, 7)]).tolist() == [4, 6]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_figure_is_printed_once() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench/swap.py", "--quick", "--seconds", "0.3", "--rounds", "2"],
        cwd=ROOT, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [line["figure"] for line in lines]
    assert len(names) == len(set(names))
    assert set(names) == FIGURES
    for line in lines:
        assert set(line) == {"bench", "figure", "value", "unit", "goal", "runs", "notes"}
        assert math.isfinite(line["value"]), line
    values = {line["figure"]: line["value"] for line in lines}
    for tail in ("", "_60mb"):
        assert values[f"frames_doubled{tail}"] == 0
        assert values[f"frames_unexplained{tail}"] == 0
