"""The bench of model deltas runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOALS = {
    "head_ratio": "<= 0.001",
    "fp16_finetune_ratio": "<= 0.65",
    "encode_vs_bsdiff4": ">= 50",
}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_every_figure_is_printed_once() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench/model_delta.py", "--quick"],
        cwd=ROOT, capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    names = [line["figure"] for line in lines]
    assert len(names) == len(set(names))
    assert {line["figure"]: line["goal"] for line in lines if line["goal"]} == GOALS
    pushes = {f"{v}_{c}_ratio" for v in ("fp32", "fp16", "int8") for c in ("lr1e-4", "decoder")}
    assert set(names) >= pushes | {"fp16_lr1e-4_bsdiff4_ratio", "fp32_snapped8_ratio"}
    values = {line["figure"]: line["value"] for line in lines}
    assert all(math.isfinite(value) for value in values.values())
    # Sizes do not depend on how busy the machine is.
    assert values["head_ratio"] <= 0.001
    assert values["fp16_finetune_ratio"] <= 0.65
