"""`edge-agent models`: which models are here, what they are, and whether they are sound."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from edge_agent.cli import rollouts
from edge_agent.cli.lazy import later
from edge_agent.cli.options import add_config_options, json_option

if TYPE_CHECKING:
    from edge_agent.cli.status import Subparsers

MEMORY_MB = 4096
TIMEOUT_S = 300.0
_LIST = (
    "Every version of every model: installed from above, in the folders of the configuration, and "
    "shipped with the agent. Needs no daemon."
)
_INFO = (
    "What a model is for, what it takes and says, and where it comes from. Without a version: the "
    "current one. Needs no daemon."
)
_VERIFY = (
    "Checks packages without installing them: the form of the file, its hash, its manifest, its "
    "files; then loads every variant that this machine can run and compares its golden samples, in "
    "a process with bounds of time and memory. Without a name: every package that is here, "
    "installed, in the folders of the configuration and shipped. Exits 3 with the reason when one "
    "is damaged or wrong, 6 when it is refused, 4 with warnings only, 7 when there is none. Needs "
    "no daemon, and changes nothing."
)
_ACCEPT = (
    "Says that a package in a folder of the configuration is as it has to be, after somebody has "
    "changed it there on purpose: runs its golden samples, and writes its hash into the file "
    "package.sha256 beside its manifest. Streams that waited for it come back by themselves. What "
    "was installed or shipped is never accepted: reinstall it. Exits 3 when it does not give its "
    "golden samples. Needs no daemon."
)


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "models",
        help="the models: list, info, verify, accept, install, rollback, pin, history",
        description=__doc__,
    )
    verbs = parser.add_subparsers(dest="models_verb", metavar="VERB", required=True)
    listing = verbs.add_parser("list", help="a line per version", description=_LIST)
    info = verbs.add_parser("info", help="one version in words", description=_INFO)
    info.add_argument("name", metavar="NAME", help="the model")
    info.add_argument("version", metavar="VERSION", nargs="?", default="", help="of it")
    verify = verbs.add_parser(
        "verify", help="check a package, run its golden samples", description=_VERIFY
    )
    _add_verify(verify)
    accept = verbs.add_parser(
        "accept", help="a package that was changed on purpose", description=_ACCEPT
    )
    accept.add_argument("name", metavar="NAME", help="the model")
    accept.add_argument("version", metavar="VERSION", help="of it")
    _finish(accept, "models_accept")
    for reading, module in ((listing, "models_look"), (info, "models_look")):
        _finish(reading, module)
    _finish(verify, "models_verify")
    rollouts.add_verbs(verbs)


def _add_verify(verify: argparse.ArgumentParser) -> None:
    verify.add_argument(
        "what", metavar="PATH|NAME", nargs="?", default="", help="a .eam, a folder, or a model"
    )
    verify.add_argument("version", metavar="VERSION", nargs="?", default="", help="of a model")
    verify.add_argument("--sha256", metavar="HEX", default="", help="the id that it must have")
    verify.add_argument(
        "--timeout-s",
        type=float,
        default=TIMEOUT_S,
        metavar="S",
        help=f"for all runs of one package ({TIMEOUT_S:g})",
    )
    verify.add_argument(
        "--memory-mb",
        type=int,
        default=MEMORY_MB,
        metavar="MB",
        help=f"bound of the process that runs it ({MEMORY_MB})",
    )


def _finish(parser: argparse.ArgumentParser, module: str) -> None:
    add_config_options(parser)
    json_option(parser)
    parser.set_defaults(run=later(module))
