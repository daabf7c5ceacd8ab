"""TUF stays where it belongs, and what we take from inside it is there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from edge_agent.core.trust import CODES
from tests import house
from tests.trust.site import Site

VENDORS = ("tuf", "securesystemslib")


def test_the_agent_does_not_load_tuf() -> None:
    program = "import sys, edge_agent.app; print([n for n in sys.modules if n.startswith('tuf')])"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=house.ROOT, check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.stdout.strip() == "[]"


def test_tuf_is_imported_in_one_room() -> None:
    elsewhere = [
        house.where(path, 1)
        for path in house.files("edge_agent")
        if "tuf" in path.read_text(encoding="utf-8")
        and path.parent != house.PRODUCT / "links" / "trust"
        and _imports(path) & {*VENDORS}
    ]
    assert elsewhere == []


def _imports(path: Path) -> set[str]:
    names: list[str] = []
    for node in ast.walk(house.tree(path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return {name.split(".")[0] for name in names}


def test_what_is_taken_from_inside_ngclient_is_there(site: Site) -> None:
    with site.device() as trust:
        session = trust._session(trust._served[0])
        assert session._trusted.reference_time.isoformat() == "2026-11-25T12:00:00+00:00"
        session.refresh()
        assert session._trusted.timestamp.version == 1


def test_every_code_stands_in_the_table_for_the_operator() -> None:
    page = (house.ROOT / "docs" / "trust.md").read_text(encoding="utf-8")
    table = page.partition("## What a refusal means")[2]
    assert set(re.findall(r"(?m)^\| `([a-z-]+)` \|", table)) == set(CODES)
