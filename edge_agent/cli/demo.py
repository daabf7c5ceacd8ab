"""`edge-agent demo`: two streams through real models on this machine, nothing to plug in."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edge_agent.cli.lazy import later

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="two streams on this machine, nothing to plug in",
        description="A real ultrasound clip and a synthetic endoscope through the real path. "
        "Demo models, trained on synthetic pictures: not for diagnosis. q or Ctrl-C ends it; "
        "with tools/demo, c cuts the link to the cloud and restores it, m has the hot tier want "
        "the next model.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=None,
        metavar="N",
        help="end after N seconds, counted from the first frame of every stream",
    )
    parser.add_argument("--report", metavar="FILE", default=None, help="write the sums as JSON")
    parser.add_argument("--no-ui", action="store_true", help="no live view, only the summary")
    parser.add_argument(
        "--save", metavar="FILE", default=None, help="save the last view: .svg or .png"
    )
    parser.add_argument("--far-side", metavar="COMMAND", default="", help=argparse.SUPPRESS)
    parser.set_defaults(run=later("theatre"))
