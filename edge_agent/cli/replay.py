"""`edge-agent replay`: a recording through the real path, as fast as it goes, a record a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.cli.lazy import later

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "replay",
        help="a recording through the real path",
        description="Runs a recording (DICOM file, video file, or directory of images) through the "
        "real path as fast as possible; every frame gets its result. The same frames, model "
        "and backend give equal records but for times. Needs no daemon and disturbs none. "
        "Exits 4 when frames were lost.",
    )
    parser.add_argument("file", metavar="FILE", help="the recording")
    parser.add_argument("--model", metavar="NAME[@VERSION]", required=True, help="the model to run")
    parser.add_argument(
        "--out", metavar="FILE", default=None, help="results as JSON lines (default: stdout)"
    )
    parser.add_argument(
        "--threshold", type=float, default=None, metavar="0..1", help="instead of the model's own"
    )
    parser.add_argument(
        "--models-dir",
        action="append",
        default=[],
        metavar="DIR",
        help="look for models here first; may be repeated",
    )
    parser.set_defaults(run=later("recording"))
