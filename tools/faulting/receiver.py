"""The hot tier as a child: the very command that a person would type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.hot_tier.__main__ import main as hot_tier

FILES = ("live", "ordered", "sheet")


def main(order: dict[str, Any]) -> int:
    """folder: of the database and its files. port: where the Rule posts. router: the way back."""
    folder = Path(order["folder"])
    words = ["receive", "--db", str(folder / "db"), "--http", str(order["port"])]
    words += ["--router", order["router"]]
    for name in FILES:
        words += [f"--{name}", str(folder / name)]
    return hot_tier(words)
