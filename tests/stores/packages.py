"""Packages to install: tiny ones, each with its tar and its id."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from edge_agent.stores import package
from edge_agent.stores.installed import Installed
from tests import tiny
from tests.faults.power import QuickDisk


class Packed(NamedTuple):
    folder: Path
    tar: Path
    sha: str


def packed(place: Path, version: str = "1.0.0", *, name: str = "tiny", fault: str = "") -> Packed:
    folder = tiny.write_package(place, name=name, version=version, fault=fault, size=(16, 12))
    content = b"".join(package.pack(folder, package.read_manifest(folder)))
    tar = place / f"{name}-{version}.eam"
    tar.write_bytes(content)
    return Packed(folder, tar, hashlib.sha256(content).hexdigest())


def store_at(root: Path) -> Installed:
    return Installed(root, limit_bytes=1 << 30, keep_free_bytes=0, disk=QuickDisk())
