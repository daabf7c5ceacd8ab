"""The bench of seals and signatures runs from the repository alone and prints every figure once."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.core.wire.sealing import SEAL_COST_BYTES, SIGNATURE_COST_BYTES

ROOT = Path(__file__).parents[2]
OF_SIZE = ("sealed_bytes", "signed_bytes", "share", "encode_us", "seal_us", "sign_us",
           "verify_us", "open_us")  # fmt: skip


@pytest.mark.slow
def test_every_figure_is_printed_once() -> None:
    done = subprocess.run(
        [sys.executable, "tools/bench/seal.py", "--quick"],
        cwd=ROOT, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = {line["figure"]: line["value"] for line in lines}
    expected = {f"records_b{size}_{name}" for size in (1, 30, 300) for name in OF_SIZE}
    assert len(found) == len(lines)
    assert expected | {"ack_signed_bytes", "ack_sign_us", "ack_check_us"} <= found.keys()
    assert all(math.isfinite(value) and value > 0 for value in found.values())
    assert found["records_b1_sealed_bytes"] <= SEAL_COST_BYTES + 2
    assert found["records_b1_signed_bytes"] <= SIGNATURE_COST_BYTES + 2
