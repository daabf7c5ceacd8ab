"""`edge-agent bench`: what this box can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.cli.lazy import later
from edge_agent.cli.options import json_option

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="what this box can do",
        description="Runs models on synthetic frames, on as many lanes as the agent would use, and "
        "says how many streams fit at 80 %. Resizing included, decoding not. "
        "Stop the daemon first: both would share the cores.",
    )
    parser.add_argument(
        "--model", metavar="NAME[@VERSION]", default=None, help="default: every model there is"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="for each model (10)"
    )
    parser.add_argument(
        "--lanes", type=int, default=0, metavar="N", help="threads that run models (cores - 1)"
    )
    parser.add_argument(
        "--models-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="look for models here first; may be repeated",
    )
    json_option(parser)
    parser.set_defaults(run=later("capacity"))
