"""`edge-agent completion`: prints what a shell has to source. Imported when it runs."""

from __future__ import annotations

import argparse

import shtab

from edge_agent.cli import exits
from edge_agent.cli.main import build_parser


def run(args: argparse.Namespace) -> int:
    print(shtab.complete(build_parser(), shell=args.shell))
    return exits.OK
