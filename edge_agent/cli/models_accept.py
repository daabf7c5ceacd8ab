"""`models accept`: a package of the operator's that was changed on purpose, said to be right."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.models import MEMORY_MB, TIMEOUT_S
from edge_agent.cli.models_look import FOLDER, Cupboard, open_cupboard
from edge_agent.cli.models_verify import tried
from edge_agent.core.errors import EdgeAgentError
from edge_agent.stores import package
from edge_agent.stores.known import write_sum


def run(args: argparse.Namespace) -> int:
    cupboard = open_cupboard(args)
    folder = _folder(cupboard, args.name, args.version)
    title = f"accept {args.name} {args.version}"
    try:
        sha, manifest = package.look(folder)
    except EdgeAgentError as error:
        raise CommandError(
            f"{title}: {error.what}", hint=error.hint, code=exits.CHECK_FAILED
        ) from error
    args.timeout_s, args.memory_mb = TIMEOUT_S, MEMORY_MB
    failed = [check for check in tried(folder, manifest, sha, args) if check.status == "fail"]
    if failed:
        raise CommandError(
            f"{title}: {failed[0].what}", hint=failed[0].fix, code=exits.CHECK_FAILED
        )
    try:
        write_sum(folder, sha)
    except OSError as error:
        raise CommandError(
            f"{title}: write into {folder}: {error.strerror}",
            hint="use sudo, as whoever may write there", code=exits.REFUSED,
        ) from error  # fmt: skip
    if args.json:
        said = {"schema": 1, "name": args.name, "version": args.version, "sha256": sha,
                "folder": str(folder)}  # fmt: skip
        print(json.dumps(said, ensure_ascii=False))
    else:
        print(f"accepted {args.name} {args.version} {sha}")
    return exits.OK


def _folder(cupboard: Cupboard, name: str, version: str) -> Path:
    """Raises: CommandError."""
    roots = [root for root, origin in cupboard.folders if origin == FOLDER]
    for root in roots:
        if (root / name / version).is_dir():
            return root / name / version
    raise CommandError(
        f"accept {name} {version}: it is in none of the folders of models.dirs",
        hint="what was installed or shipped can only be reinstalled; edge-agent models list",
    )
