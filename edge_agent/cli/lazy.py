"""A verb whose module is imported when it runs: drawing, models and sources bring vendors along."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable


def later(module: str) -> Callable[[argparse.Namespace], int]:
    """`run` of that module of the commands, as a verb's default."""

    def run(args: argparse.Namespace) -> int:
        code: int = importlib.import_module(f"edge_agent.cli.{module}").run(args)
        return code

    return run
