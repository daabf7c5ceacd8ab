"""The bench of the wire runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_SIZE = ("ratio", "ratio_wire", "to_json_zstd", "wire_to_json_zstd", "encode_us", "decode_us")
SPOOL = ("body_bytes", "gb_a_day", "append_us")
DOCUMENTS = ("bytes", "key_bytes", "merge_patch_bytes", "merge_patch_zstd_bytes", "encode_us")


@pytest.mark.slow
def test_every_figure_is_printed_once_and_those_of_bytes_meet_their_goals() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench/delta.py", "--quick"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["figure"]: line["value"] for line in lines}
    expected = {f"document_{name}" for name in DOCUMENTS} | {"envelope_bytes"}
    for kind in ("records", "uncalibrated", "contours"):
        expected.add(f"{kind}_b300_to_entropy")
        expected |= {f"{kind}_b{size}_{name}" for size in (1, 30, 300) for name in OF_SIZE}
    for kind in ("outlines", "outlines_v1"):  # as a receiver of today, and of before, is served
        expected |= {f"{kind}_b{size}_{name}" for size in (1, 30) for name in OF_SIZE}
        expected.add(f"{kind}_export_wire_to_json_zstd")
    expected |= {f"spool_{kind}_{name}" for kind in ("outlines", "records") for name in SPOOL}
    assert len(lines) == len(found)
    assert found.keys() == expected
    assert all(math.isfinite(value) and value > 0 for value in found.values())
    # Bytes are the same on every machine, so these may be judged here.
    assert found["records_b1_ratio"] <= 0.15
    assert found["records_b30_ratio"] <= 0.06
    assert found["records_b300_to_entropy"] <= 1.35
    assert found["outlines_b1_wire_to_json_zstd"] <= 0.45
    assert found["outlines_b30_wire_to_json_zstd"] <= 0.45
    assert found["outlines_export_wire_to_json_zstd"] < 1
    assert found["records_b30_wire_to_json_zstd"] <= 0.35
    assert found["envelope_bytes"] <= 80
    assert found["document_bytes"] <= 70
