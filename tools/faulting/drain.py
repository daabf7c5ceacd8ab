"""Hours of backlog drain through all faults of EdgeCore while live results come.

What `tools/bench/uplink.py` runs, judged, with contours from one stream and detections from the
other: every record arrives, once, and nobody waits at the end. How fast it was is told and not
judged: that is the bench's, on a machine that does nothing else.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from tools.bench.rig.draining import (
    PER_S,
    Plan,
    Run,
    clear_ages,
    lost_records,
    measured,
    quantile_ms,
)

HOUR_S: Final = 3600.0
SLOWEST: Final = 8.0  # times real time; a drain that is not done by then is cut short, and fails
MAX_ACK_BYTES: Final = 32_000
KIND: Final = "mixed"


def drain(folder: Path, hours: float) -> dict[str, Any]:
    """The figures; `ok` when nothing was lost, doubled, waited for or left."""
    began_s, seconds = time.monotonic(), hours * HOUR_S
    limit_s = max(60.0, seconds / SLOWEST)
    plan = Plan(seconds={KIND: seconds}, limit_s=limit_s, idle_s=0.1, tail_s=1.0)
    found = told(measured(plan, KIND, folder))
    return {"hours": hours, **found, "seconds": round(time.monotonic() - began_s, 1)}


def told(run: Run) -> dict[str, Any]:
    near, far = run.near, run.far
    drained_s = (run.drained["ended_us"] - run.drained["begun_us"]) / 1e6
    records = run.filled["records"]
    sums = {
        "lost": lost_records(run),
        "doubled": far["doubled"],
        "waiting": far["waiting"],
        "left": near["left"],
    }
    return {
        "records": records,
        "live": run.drained["appended"],
        **sums,
        "again": far["repeated"],
        "outages": len(run.between["windows"]),
        "ack_bytes": near["ack_bytes"],
        "drain_ratio": round((records - run.drained["left"]) / drained_s / PER_S, 1),
        "live_p99_ms": round(quantile_ms(clear_ages(run)[0], 0.99), 1),
        "findings": near["findings"],
        "ok": not any(sums.values()) and near["ack_bytes"] <= MAX_ACK_BYTES,
    }
