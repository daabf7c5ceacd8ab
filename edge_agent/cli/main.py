"""The command `edge-agent`: finds the verb, runs it, turns what it raises into an exit code.

Each group module has `add(subparsers)`, imports the standard library alone at its top and sets the
default `run`, a function of the parsed arguments that returns an exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from edge_agent import __version__
from edge_agent.cli import early, exits
from edge_agent.cli.nearest import Parser
from edge_agent.core.errors import EdgeAgentError

GROUPS = {  # module: its verbs
    "run": ("run",),
    "config": ("init", "config"),
    "status": ("status",),
    "top": ("top",),
    "streams": ("streams",),
    "models": ("models",),
    "spool": ("spool",),
    "uplink": ("uplink",),
    "wire": ("wire",),
    "audit": ("audit",),
    "replay": ("replay",),
    "bench": ("bench",),
    "demo": ("demo",),
    "misc": ("metrics", "completion", "version"),
}


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or of a known verb its group alone: `status` has to be quick."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in exits.MEANINGS.items())
    parser = Parser(
        prog="edge-agent",
        description="Edge AI agent for hospital devices: real-time inference that survives the "
        "network. Research software, not a medical device.",
        epilog=f"exit codes: {codes}",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"edge-agent {__version__}",
        help="the version of this command",
    )  # fmt: skip
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in [name for name, verbs in GROUPS.items() if verb in verbs] or GROUPS:
        importlib.import_module(f"edge_agent.cli.{name}").add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; never raises."""
    words = sys.argv[1:] if argv is None else argv
    early.listen(words)
    if argv is None:
        early.mend_paths()
    early.mend_streams()
    try:
        args = build_parser(words[0] if words else None).parse_args(words)
        handler: Callable[[argparse.Namespace], int] = args.run
        code = handler(args)
        sys.stdout.flush()
    except SystemExit as leaving:  # argparse: help is 0, wrong usage 2
        return _left(leaving.code if isinstance(leaving.code, int) else exits.ERROR)
    except EdgeAgentError as error:
        return _left(_complain(error))
    except KeyboardInterrupt:
        return _left(exits.INTERRUPTED)
    except BrokenPipeError:  # `| head` has seen enough
        return _left(exits.OK)
    except OSError as error:
        if not _is_of_output():
            raise
        _discard_output()
        return _complain(
            exits.CommandError(f"write the output: {error.strerror}", hint="look where it goes")
        )
    return code


def _complain(error: EdgeAgentError) -> int:
    with contextlib.suppress(OSError):  # nobody reads it: the exit code says it all the same
        print(f"edge-agent: {error.what}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
    return error.code if isinstance(error, exits.CommandError) else exits.ERROR


def _is_of_output() -> bool:
    """Whether it is standard output that refuses (a full disk behind `>`)."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    return False


def _left(code: int) -> int:
    """What still waits to be written has a reader, or is thrown away without a word."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    return code


def _discard_output() -> None:
    """Python flushes stdout once more at exit; give it a place to flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
