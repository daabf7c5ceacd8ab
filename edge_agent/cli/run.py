"""`edge-agent run`: the daemon in the foreground, as the service manager starts it."""

from __future__ import annotations

import argparse

from edge_agent.cli.lazy import later
from edge_agent.cli.options import add_config_options


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "run",
        help="start the daemon",
        description="Starts the daemon in the foreground. SIGTERM stops it, a second one cuts the "
        "grace short; SIGHUP reads the configuration again.",
    )
    add_config_options(parser)
    parser.set_defaults(run=later("daemon"))
