"""`uplink key`: who this machine is to the hot tier, and how that changes without a gap."""

from __future__ import annotations

import argparse
import json
import os
import socket
from pathlib import Path

from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.spool_work import as_owner
from edge_agent.cli.tables import fields
from edge_agent.config.load import load, paths
from edge_agent.config.naming import node_name
from edge_agent.core.errors import Rejected
from edge_agent.core.public_keys import fingerprint, line
from edge_agent.links.road_keys import NODE_KEY, RoadSigner, new_signing, read_signing
from edge_agent.stores.files import sync_folder, write_once

NEXT = f"{NODE_KEY}.next"
MAX_RETIRED = 1000


def run(args: argparse.Namespace) -> int:
    loaded = load(paths(Path(args.config) if args.config else None), args.set or ())
    if loaded.config is None:
        raise CommandError(
            f"the config has errors\n{loaded.text()}", hint="edge-agent config check"
        )
    folder = Path(loaded.config.state_dir)
    node = loaded.config.node or node_name(socket.gethostname())
    with as_owner(folder):
        try:
            signer = _asked(args, folder)
        except OSError as error:
            raise CommandError(
                f"use the key in {folder}: {error.strerror}", hint="use sudo; is state_dir there?",
                code=exits.REFUSED,
            ) from error  # fmt: skip
        except Rejected as error:
            raise CommandError(error.what, hint=error.hint, code=exits.REFUSED) from error
    if args.json:
        document = {"schema": 1, "node": node, "key": line("sign", signer.public)}
        document |= {"id": signer.id.hex(), "fingerprint": fingerprint(signer.public)}
        print(json.dumps(document))
        return exits.OK
    pairs = [
        ("node", node),
        ("key", line("sign", signer.public)),
        ("id", signer.id.hex()),
        ("sha256", fingerprint(signer.public)),
    ]
    for one in fields(pairs):
        print(one)
    return exits.OK


def _asked(args: argparse.Namespace, folder: Path) -> RoadSigner:
    """Raises: OSError, Rejected, CommandError."""
    if args.succeed:
        return _succeed(folder)
    path = folder / (NEXT if args.next else NODE_KEY)
    if not os.path.lexists(path):
        write_once(path, new_signing())
    return read_signing(path)


def _succeed(folder: Path) -> RoadSigner:
    """The old one stays beside it: what was enrolled can be taken back."""
    key, follower = folder / NODE_KEY, folder / NEXT
    if not follower.exists():
        raise CommandError(
            "succeed: no key waits to follow", hint="edge-agent uplink key --next, and enrol it",
            code=exits.REFUSED,
        )  # fmt: skip
    signer = read_signing(follower)  # before the old one goes
    if os.path.lexists(key):
        kept = next(
            path
            for number in range(1, MAX_RETIRED)
            if not os.path.lexists(path := folder / f"{NODE_KEY}.retired-{number}")
        )
        os.link(key, kept)  # a power cut leaves the old one or the new one in its place
    follower.replace(key)
    sync_folder(folder)
    return signer
