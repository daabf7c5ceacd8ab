"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """`--config FILE` and `--set section.key=value`, as every command that loads a config has."""
    parser.add_argument("--config", metavar="FILE", default=None, help="the config file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="overrides one key, such as engine.lanes=2; may be repeated",
    )


def json_option(parser: argparse.ArgumentParser) -> None:
    """`--json` of a read command."""
    parser.add_argument("--json", action="store_true", help="print versioned JSON")
