"""docs/status.md knows every problem that the agent can have, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args, get_type_hints

from edge_agent.core.alarms import ENGINE_DOWN, ENGINE_STILL, OF_STATE
from edge_agent.core.frames import SIGNALS
from edge_agent.core.freshness import IDLE, STALE
from edge_agent.core.notes import MISFIT
from edge_agent.core.witness import Finding

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "status.md").read_text()
MADE = re.compile(r'Problem\(\s*"([a-z-]+)"|notes\.tell\([^,]+,\s*"([a-z-]+)"'
                  r'|Trouble\(\s*code="([a-z-]+)"'
                  r'|told\.problem\(\s*[\w."]+,\s*"([a-z-]+)"')  # fmt: skip


def made() -> set[str]:
    """The codes as they stand in the source."""
    found = {
        MISFIT,
        "link-denied",
        "service-failed",
        "source-lost",
        "source-rejected",
        "source-ended",
    }
    for file in (ROOT / "edge_agent").rglob("*.py"):
        for groups in MADE.findall(file.read_text()):
            found |= {code for code in groups if code}
    found |= set(get_args(get_type_hints(Finding)["code"]))
    return found | {one.code for one in (ENGINE_DOWN, ENGINE_STILL, *OF_STATE.values())}


def test_every_code_of_a_problem_is_on_the_page() -> None:
    rows = [line for line in PAGE.partition("| code |")[2].splitlines() if line.startswith("| `")]
    listed = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert listed == made()


def test_every_state_of_a_stream_is_on_the_page() -> None:
    table = PAGE.partition("## Of a stream")[2].partition("## Problems")[0]
    for state in (*(signal.value for signal in SIGNALS), STALE, IDLE):
        assert f"`{state}`" in table
