"""Writes the list of the shipped models, edge_agent/stores/shipped.sha256, of what is in models/.

python -m tools.list_models            after a model, a manifest or a golden sample changed
python -m tools.list_models --check    exits 1 when the list is of other models
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.stores import package
from edge_agent.stores.known import SHIPPED, sealed_list
from edge_agent.stores.models import CURRENT, version_key

ROOT = Path(__file__).resolve().parents[1]


def listed(models: Path) -> str:
    """A line for each version; the one that a stream gets which names none is marked."""
    lines = []
    for folder in sorted(one for one in models.iterdir() if one.is_dir()):
        versions = [one.name for one in folder.iterdir() if one.is_dir()]
        named = folder / CURRENT
        current = named.read_text(encoding="ascii").strip() if named.is_file() else ""
        for version in sorted(versions, key=version_key):
            mark = " current" if version == current else ""
            sha = package.look(folder / version).sha
            lines.append(f"{sha}  {folder.name}/{version}{mark}\n")
    return sealed_list("".join(lines))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    if not asked.check:
        write()
        return 0
    if SHIPPED.read_text(encoding="ascii") == listed(ROOT / "models"):
        return 0
    print(f"{SHIPPED.name} is of other models: python -m tools.list_models")
    return 1


def write() -> None:
    SHIPPED.write_text(listed(ROOT / "models"), encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
