"""The page of commands is made from the commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge_agent.cli.main import GROUPS

ROOT = Path(__file__).parents[2]


def test_the_page_of_commands_is_current() -> None:
    tool = ROOT / "tools" / "docs_cli.py"
    done = subprocess.run(
        [sys.executable, tool, "--check"], capture_output=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_verb_is_on_the_page() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for module, verbs in GROUPS.items():
        if (ROOT / "edge_agent" / "cli" / f"{module}.py").exists():
            assert [verb for verb in verbs if f"\n## edge-agent {verb}" not in page] == []
