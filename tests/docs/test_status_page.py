"""docs/status.md knows every problem that the agent can have, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.core.alarms import ENGINE_DOWN, ENGINE_STILL, OF_STATE
from edge_agent.core.frames import SIGNALS
from edge_agent.core.freshness import IDLE, STALE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "status.md").read_text()
MADE = re.compile(r'Problem\(\s*"([a-z-]+)"|notes\.tell\([^,]+,\s*"([a-z-]+)"'
                  r'|told\.problem\(\s*[\w."]+,\s*"([a-z-]+)"')  # fmt: skip


def made() -> set[str]:
    """The codes as they stand in the source."""
    found = {"link-denied", "service-failed", "source-lost", "source-rejected", "source-ended"}
    for file in (ROOT / "edge_agent").rglob("*.py"):
        for groups in MADE.findall(file.read_text()):
            found |= {code for code in groups if code}
    return found | {one.code for one in (ENGINE_DOWN, ENGINE_STILL, *OF_STATE.values())}


def test_every_code_of_a_problem_is_on_the_page() -> None:
    listed = set(re.findall(r"`([a-z]+(?:-[a-z]+)*)`", PAGE.partition("## Problems")[2]))
    assert made() - listed == set()


def test_every_state_of_a_stream_is_on_the_page() -> None:
    table = PAGE.partition("## Of a stream")[2].partition("## Problems")[0]
    for state in (*(signal.value for signal in SIGNALS), STALE, IDLE):
        assert f"`{state}`" in table
