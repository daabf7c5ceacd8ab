"""The command `edge-agent`: finds the verb, runs it, turns what it raises into an exit code.

Each group module has `add(subparsers)`, imports the standard library alone at its top and sets the
default `run`, a function of the parsed arguments that returns an exit code.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from edge_agent.cli import exits
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
    "audit": ("audit",),
    "replay": ("replay",),
    "bench": ("bench",),
    "demo": ("demo",),
    "misc": ("metrics", "completion", "version"),
}


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or of a known verb its group alone: `status` has to be quick."""
    codes = ", ".join(f"{code} {meaning}" for code, meaning in exits.MEANINGS.items())
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Edge AI agent for hospital devices: real-time inference that survives the "
        "network. Research software, not a medical device.",
        epilog=f"exit codes: {codes}",
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name in [name for name, verbs in GROUPS.items() if verb in verbs] or GROUPS:
        importlib.import_module(f"edge_agent.cli.{name}").add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; never raises."""
    words = sys.argv[1:] if argv is None else argv
    try:
        args = build_parser(words[0] if words else None).parse_args(words)
        handler: Callable[[argparse.Namespace], int] = args.run
        code = handler(args)
        sys.stdout.flush()
    except SystemExit as leaving:  # argparse: help is 0, wrong usage 2
        return leaving.code if isinstance(leaving.code, int) else exits.ERROR
    except EdgeAgentError as error:
        return _complain(error)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        _discard_output()
        return exits.OK
    return code


def _complain(error: EdgeAgentError) -> int:
    print(f"edge-agent: {error.what}", file=sys.stderr)
    if error.hint:
        print(f"  hint: {error.hint}", file=sys.stderr)
    return error.code if isinstance(error, exits.CommandError) else exits.ERROR


def _discard_output() -> None:
    """Python flushes stdout once more at exit; give it a place to flush to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
