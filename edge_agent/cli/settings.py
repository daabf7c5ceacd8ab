"""The configuration of a command that works on files, without the daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.cli.exits import CommandError
from edge_agent.config.load import DEFAULT_FILE, load, load_text, paths
from edge_agent.config.structs import Config


def config_of(args: argparse.Namespace) -> Config:
    """As `--config` and `--set` say; on a machine that has none yet, the defaults.

    Raises: CommandError.
    """
    overrides = args.set or ()
    if args.config or DEFAULT_FILE.exists():
        loaded = load(paths(Path(args.config) if args.config else None), overrides)
    else:
        loaded = load_text("", overrides=overrides)
    if loaded.config is None:
        raise CommandError(
            f"the config has errors\n{loaded.text()}", hint="edge-agent config check"
        )
    return loaded.config
