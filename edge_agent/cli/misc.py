"""`version`, `metrics` and `completion`: small verbs. `version` and `metrics` stay in the standard
library.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING

from edge_agent import __version__
from edge_agent.cli import client, exits
from edge_agent.cli.lazy import later
from edge_agent.cli.options import json_option

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers

SHELLS = ("bash", "zsh", "tcsh")


def add(subparsers: Subparsers) -> None:
    metrics = subparsers.add_parser(
        "metrics", help="the Prometheus text of the running daemon", description=_METRICS
    )
    client.add_daemon_options(metrics)
    metrics.set_defaults(run=run_metrics)
    completion = subparsers.add_parser(
        "completion", help="a completion script for a shell", description=_COMPLETION
    )
    completion.add_argument("shell", choices=SHELLS, help="the shell")
    completion.set_defaults(run=later("completion"))
    version = subparsers.add_parser(
        "version", help="the version of this command", description=_VERSION
    )
    json_option(version)
    version.set_defaults(run=run_version)


_METRICS = "Prints what a scrape of /metrics gets, over the control socket."
_COMPLETION = (
    "Prints a completion script; for bash: "
    "edge-agent completion bash > /etc/bash_completion.d/edge-agent"
)
_VERSION = "The version of this command, its Python and its machine; needs no daemon."


def run_metrics(args: argparse.Namespace) -> int:
    sys.stdout.write(client.connect(args).get("/metrics").decode("utf-8", "replace"))
    return exits.OK


def run_version(args: argparse.Namespace) -> int:
    python = sys.version.split()[0]
    if args.json:
        document = {
            "schema": 1,
            "version": __version__,
            "python": python,
            "machine": os.uname().machine,
        }
        print(json.dumps(document))
    else:
        print(f"edge-agent {__version__}  python {python}  {os.uname().machine}")
    return exits.OK
