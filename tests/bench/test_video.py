"""The bench of the decoder runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAIN = ("cpu_per_frame", "cpu_per_frame_opencv", "first_frame", "first_frame_opencv")
WOVEN = ("interlaced_cpu_per_frame", "interlaced_cpu_per_frame_opencv")


@pytest.mark.slow
def test_every_figure_is_printed_once() -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg (sudo apt install ffmpeg)")
    done = subprocess.run(
        [sys.executable, "tools/bench/video.py", "--seconds", "0.5", "--rounds", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["figure"]: line["value"] for line in lines}
    assert len(lines) == len(found)
    expected = {f"{name}_ms" for name in (*PLAIN, *WOVEN)} | {"cpu_ratio", "child_rss_mb"}
    assert found.keys() == expected
    assert all(math.isfinite(value) and value > 0 for value in found.values())
