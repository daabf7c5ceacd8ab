"""`models list|info`: every package that is here, read from the disk; the daemon is not asked.

Reads what a running daemon may change meanwhile: what it sees is whole, if no longer the newest.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.settings import config_of
from edge_agent.cli.tables import Paint, fields, plain, size, table
from edge_agent.config.structs import Config
from edge_agent.core.errors import Damaged, EdgeAgentError, Overloaded, Rejected
from edge_agent.core.manifest import HeadSpec, InputSpec, Manifest
from edge_agent.stores import package
from edge_agent.stores.known import Remembered
from edge_agent.stores.models import Models, shipped_folder, version_key
from edge_agent.stores.shelf import Pointers, Shelf

INSTALLED, FOLDER, SHIPPED = "installed", "folder", "shipped"
NOT_MEDICAL = "Research software; neither it nor its models are a medical device."
MAX_LABELS_SHOWN = 20


class Found(NamedTuple):
    """One package. origin: installed, folder or shipped. fault: why it can't be read, or ""."""

    name: str
    version: str
    origin: str
    folder: Path
    sha: str
    bytes: int
    manifest: Manifest | None
    fault: str = ""


class Cupboard:
    """Where packages are: the store of rollouts, the operator's folders, the shipped ones."""

    def __init__(self, config: Config) -> None:
        self.shelf = Shelf(Path(config.state_dir) / "models")
        self.folders = [(Path(folder), FOLDER) for folder in config.models.dirs]
        if config.models.shipped:
            self.folders.append((shipped_folder(), SHIPPED))
        self.models = Models(
            [Path(folder) for folder in config.models.dirs],
            shipped=config.models.shipped,
            installed=self.shelf,
            remembered=Remembered(Path(config.state_dir)),
        )

    def packages(self) -> Iterator[Found]:
        """Installed ones first. The hash of one that is not installed is taken now."""
        for name in self.shelf.names():
            for sha in self.shelf.shas(name):
                yield look(self.shelf.root / name / sha, INSTALLED, sha)
        for root, origin in self.folders:
            versions = Models([root], shipped=False).versions()
            for name in versions:
                for version in versions[name]:
                    yield self._judged(look(root / name / version, origin, ""))

    def _judged(self, one: Found) -> Found:
        """One that is not what it has to be is no model."""
        try:
            law = self.models.law(one.folder)
        except (Rejected, Damaged) as error:
            return one._replace(manifest=None, fault=one.fault or error.what)
        if one.fault or law.sha in ("", one.sha):
            return one
        fault = f"damaged: {law.says} {law.sha[:16]}"
        return one._replace(manifest=None, fault=fault)

    def current(self, name: str) -> Path | None:
        """What a stream that names no version gets; None: nobody can say."""
        try:
            return self.models.resolve(name, "")
        except (Rejected, Damaged):
            return None

    def pointers(self, name: str) -> Pointers:
        try:
            return self.shelf.pointers(name)
        except (Damaged, Overloaded):  # `models verify` says what is wrong
            return Pointers()

    def find(self, name: str, version: str) -> Found:
        """The current one without a version; else committed ones before others of that version.

        Raises: Rejected, Damaged.
        """
        if not version:
            folder = self.models.resolve(name, "")
            return next(one for one in self.packages() if one.folder == folder)
        named = [one for one in self.packages() if (one.name, one.version) == (name, version)]
        if not named:
            self.models.resolve(name, version)  # says what is there
            raise Rejected(f"find model {name}: version {version} is gone", hint="try again")
        pointers = self.pointers(name)
        return min(named, key=lambda one: one.sha not in pointers)


def look(folder: Path, origin: str, sha: str) -> Found:
    """Whatever state it is in."""
    version = "" if origin == INSTALLED else folder.name
    try:
        manifest = package.read_manifest(folder)
        length = package.size_of(folder, manifest)
        sha = sha or package.identity(folder, manifest)
    except OSError as error:
        fault = f"file {Path(str(error.filename)).name}: {error.strerror}"
        return Found(folder.parent.name, version, origin, folder, sha, 0, None, fault)
    except (Rejected, Damaged, Overloaded) as error:
        return Found(folder.parent.name, version, origin, folder, sha, 0, None, error.what)
    return Found(manifest.name, manifest.version, origin, folder, sha, length, manifest)


def open_cupboard(args: argparse.Namespace) -> Cupboard:
    """Raises: CommandError."""
    config = config_of(args)
    state_dir = Path(config.state_dir)
    if os.path.lexists(state_dir) and not os.access(state_dir, os.R_OK | os.X_OK):
        raise CommandError(
            f"read {state_dir}: Permission denied", hint="use sudo", code=exits.REFUSED
        )
    return Cupboard(config)


# ── the commands ──────────────────────────────────────────────────────────────────────────────


def run(args: argparse.Namespace) -> int:
    cupboard = open_cupboard(args)
    return run_list(args, cupboard) if args.models_verb == "list" else run_info(args, cupboard)


def run_list(args: argparse.Namespace, cupboard: Cupboard) -> int:
    found = sorted(cupboard.packages(), key=_order)
    entries = [entry(cupboard, one) for one in found]
    if args.json:
        print(json.dumps({"schema": 1, "models": entries}, ensure_ascii=False))
        return exits.OK
    header = ("model", "version", "", "from", "sha256", ">size", "licence")
    rows = [
        [
            plain(one["name"]),
            plain(one["version"]),
            "current" if one["current"] else "previous" if one["previous"] else "",
            one["from"],
            plain(one["sha256"][:16]),
            size(one["bytes"]) if one["bytes"] else "",
            plain(one["fault"] or one["licence"]),
        ]
        for one in entries
    ]
    print("\n".join(table(header, rows)))
    return exits.OK


def _order(one: Found) -> tuple[Any, ...]:
    return one.name, version_key(one.version) if one.version else ((), True, ()), one.origin


def entry(cupboard: Cupboard, one: Found) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "from": one.origin,
        "current": cupboard.current(one.name) == one.folder,
        "previous": bool(one.sha) and cupboard.pointers(one.name).previous == one.sha
        and one.origin == INSTALLED,
        "sha256": one.sha,
        "bytes": one.bytes,
        "licence": one.manifest.licence if one.manifest else "",
        "fault": one.fault,
    }  # fmt: skip


def run_info(args: argparse.Namespace, cupboard: Cupboard) -> int:
    try:
        one = cupboard.find(args.name, args.version)
    except EdgeAgentError as error:
        raise CommandError(error.what, hint=error.hint) from error
    if one.manifest is None:
        raise CommandError(one.fault, hint="edge-agent models verify", code=exits.CHECK_FAILED)
    if args.json:
        manifest = msgspec.to_builtins(one.manifest)
        document = {"schema": 1, **entry(cupboard, one), "folder": str(one.folder),
                    "medical_device": False, "manifest": manifest}  # fmt: skip
        print(json.dumps(document, ensure_ascii=False))
        return exits.OK
    for line in describe(one, Paint.fitting(sys.stdout), entry(cupboard, one)):
        print(line)
    return exits.OK


def describe(one: Found, paint: Paint, words: dict[str, Any]) -> list[str]:
    """The manifest in words."""
    manifest = one.manifest
    assert manifest is not None
    spec = manifest.input
    mark = ", current" if words["current"] else ", previous" if words["previous"] else ""
    channels = "gray" if spec.channels == 1 else spec.order.upper()
    takes = f"{spec.name}: {spec.size[0]} x {spec.size[1]} px, {channels}, {spec.layout}"
    pairs = [
        ("intended use", plain(manifest.intended_use)),
        ("licence", plain(manifest.licence)),
        ("from", f"{one.origin}{mark}"),
        ("sha256", one.sha),
        ("size", size(one.bytes)),
        ("needs agent", manifest.min_agent_version),
        ("latency budget", f"{manifest.latency_budget_ms:g} ms"),
        ("input", f"{takes}; fitted by {_fitted(spec)}, region {spec.region}"),
        *(("state", f"{state.output} -> {state.input}") for state in manifest.states),
        *(("head", _head(head)) for head in manifest.heads),
        *(("variant", f"{v.name}: {plain(v.file)}, {v.precision}, for {', '.join(v.backends)}")
          for v in manifest.variants),
        *_provenance(manifest),
    ]  # fmt: skip
    title = paint(f"{manifest.name} {manifest.version}", "bold")
    return [title, *fields(pairs, indent="  "), paint(NOT_MEDICAL, "dim")]


def _fitted(spec: InputSpec) -> str:
    where = f" {spec.place.replace('_', ' ')}, pad {spec.pad}" if spec.fit == "letterbox" else ""
    return f"{spec.fit}{where}, {spec.resample}"


def _head(head: HeadSpec) -> str:
    labels = [plain(label.name or label.key) for label in head.labels]
    shown = ", ".join(labels[:MAX_LABELS_SHOWN]) or "no labels"
    more = f" and {len(labels) - MAX_LABELS_SHOWN} more" if len(labels) > MAX_LABELS_SHOWN else ""
    return (
        f"{head.name}: {head.task} by {head.decoder} of {', '.join(map(plain, head.outputs))}, "
        f"from {head.threshold:g}: {shown}{more}"
    )


def _provenance(manifest: Manifest) -> Iterator[tuple[str, str]]:
    came = manifest.provenance
    if came.data_hash or came.commit or came.seed:
        yield (
            "made from",
            (f"data {plain(came.data_hash)}, commit {plain(came.commit)}, seed {came.seed}"),
        )
    for name, value in came.metrics.items():
        yield "metric", f"{plain(name)} {value:g}"
