"""`models verify`: everything that can be known of a package before anybody runs it.

What it is, is checked here; what it does, in a process of its own (`models_trial`).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edge_agent import __version__
from edge_agent.cli import exits
from edge_agent.cli.exits import CommandError
from edge_agent.cli.models_look import Cupboard, open_cupboard
from edge_agent.cli.models_trial import Line, Order
from edge_agent.cli.tables import Paint, plain
from edge_agent.core.errors import Damaged, EdgeAgentError, Rejected
from edge_agent.core.manifest import VERSION_PATTERN, Manifest
from edge_agent.core.package import MANIFEST, SUFFIX, is_sha, names_of
from edge_agent.held import open_plain
from edge_agent.stores import package
from edge_agent.stores.known import SUM
from edge_agent.stores.models import Models, version_key

MAX_WORDS = 300
MAX_ANSWER_BYTES = 1 << 20
_COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "refused": "red", "skip": "dim"}
_VERSION = re.compile(VERSION_PATTERN)


class Check(NamedTuple):
    """status: pass, warn, fail, refused or skip. what: in words. fix: what to do, or ""."""

    check: str
    status: str
    what: str
    fix: str = ""


class Suspect(NamedTuple):
    """path: a .eam or a folder. title: how it is called. sha: the id that it must have, or "".

    says: who says so. fix: what to do when it has another. fault: why nobody can say.
    """

    path: Path
    title: str
    sha: str
    says: str = ""
    fix: str = "fetch it again"
    fault: str = ""


class Verdict(NamedTuple):
    suspect: Suspect
    sha: str
    checks: list[Check]

    def words(self) -> dict[str, Any]:
        checks = [check._asdict() for check in self.checks]
        is_ok = not {"fail", "refused"} & {check.status for check in self.checks}
        return {"what": self.suspect.title, "sha256": self.sha, "ok": is_ok, "checks": checks}


def run(args: argparse.Namespace) -> int:
    if args.sha256 and not is_sha(args.sha256):
        raise CommandError("verify: --sha256: expected 64 hex digits", code=exits.USAGE)
    if not args.timeout_s > 0 or not 64 <= args.memory_mb <= 1 << 20:
        raise CommandError(
            "verify: expected --timeout-s above 0 and --memory-mb from 64", code=exits.USAGE
        )
    verdicts = [verify(suspect, args) for suspect in suspects(args)]
    if args.json:
        document = {"schema": 1, "packages": [verdict.words() for verdict in verdicts]}
        print(json.dumps(document, ensure_ascii=False))
    else:
        _print(verdicts)
    return code_of([check.status for verdict in verdicts for check in verdict.checks])


def suspects(args: argparse.Namespace) -> list[Suspect]:
    """Raises: CommandError."""
    what: str = args.what
    if what.endswith(SUFFIX) or "/" in what or (what and Path(what).is_dir()):
        path = Path(what)
        if not path.exists():
            raise CommandError(f"verify {what}: there is no such file", hint="a .eam, or a folder")
        if path.is_dir():
            return [_of_law(Models((), shipped=False), path.absolute(), path.name, args.sha256)]
        return [Suspect(path, path.name, args.sha256, "--sha256 says")]
    cupboard = open_cupboard(args)
    if what:
        return [_named(cupboard, args)]
    every = [
        _of_law(cupboard.models, one.folder, f"{one.name} {one.version or one.sha[:16]}")
        for one in cupboard.packages()
    ]
    if not every:
        raise CommandError(
            "verify: there is no package", hint="edge-agent models list",
            code=exits.NOTHING_TO_DO,
        )  # fmt: skip
    return every


def _of_law(models: Models, folder: Path, title: str, given: str = "") -> Suspect:
    """given: the id that whoever asks says it must have."""
    fix = models.hint(folder)
    if given:
        return Suspect(folder, title, given, "--sha256 says", fix)
    try:
        law = models.law(folder)
    except (Rejected, Damaged) as error:
        return Suspect(folder, title, "", fix=error.hint, fault=error.what)
    return Suspect(folder, title, law.sha, law.says, fix)


def _named(cupboard: Cupboard, args: argparse.Namespace) -> Suspect:
    try:
        one = cupboard.find(args.what, args.version)
    except (Rejected, Damaged) as error:
        raise CommandError(error.what, hint=error.hint) from error
    return _of_law(cupboard.models, one.folder, f"{one.name} {one.version}", args.sha256)


def code_of(statuses: list[str]) -> int:
    if "fail" in statuses:
        return exits.CHECK_FAILED
    if "refused" in statuses:
        return exits.REFUSED
    return exits.WARNINGS if "warn" in statuses else exits.OK


def _print(verdicts: list[Verdict]) -> None:
    paint = Paint.fitting(sys.stdout)
    for verdict in verdicts:
        print(paint(f"{plain(verdict.suspect.title)}  {verdict.sha}", "bold"))
        for check in verdict.checks:
            status = paint(f"{check.status:8}", _COLOURS[check.status])
            print(f"  {status}{check.check}: {plain(check.what)}")
            if check.fix and check.status != "pass":
                print(f"  {'':8}{paint(f'-> {plain(check.fix)}', 'dim')}")


# ── what it is ────────────────────────────────────────────────────────────────────────────────


def verify(suspect: Suspect, args: argparse.Namespace) -> Verdict:
    """Every check, up to the first after which the rest would mean nothing."""
    checks: list[Check] = []
    sha = ""
    try:
        with _unpacked(suspect) as (folder, sha):
            manifest = package.load_manifest(folder / MANIFEST, MANIFEST)
            checks += [*_identity(suspect, sha), *_manifest(manifest), *_files(suspect, manifest)]
            if code_of([check.status for check in checks]) in (exits.OK, exits.WARNINGS):
                checks += tried(folder, manifest, sha, args)
    except EdgeAgentError as error:
        fix = suspect.fix if suspect.sha else error.hint
        checks.append(Check("package", "fail", error.what, fix))
    except OSError as error:
        checks.append(Check("package", "fail", f"read {suspect.path.name}: {error.strerror}"))
    return Verdict(suspect, sha, checks)


@contextmanager
def _unpacked(suspect: Suspect) -> Iterator[tuple[Path, str]]:
    """Its folder and its id. Raises: Rejected, OSError."""
    if suspect.path.is_dir():
        manifest = package.load_manifest(suspect.path / MANIFEST, MANIFEST)
        yield suspect.path, package.identity(suspect.path, manifest)  # the trial hashes it again
        return
    with open_plain(suspect.path) as file, tempfile.TemporaryDirectory(prefix="edge-agent-") as at:
        sha = package.sha_of(file)
        file.seek(0)
        package.unpack(file, Path(at), sha)
        yield Path(at), sha


def _identity(suspect: Suspect, sha: str) -> list[Check]:
    form = "a tar of the one form" if suspect.path.is_file() else "a folder that packs"
    if suspect.fault:
        return [Check("hash", "fail", suspect.fault, suspect.fix)]
    if not suspect.sha:
        return [Check("package", "pass", f"{form}; nobody says which hash it has to have")]
    if suspect.sha != sha:
        what = f"damaged: expected {suspect.sha} ({suspect.says} so), got {sha}"
        return [Check("hash", "fail", what, suspect.fix)]
    return [Check("hash", "pass", f"{form}, as it has to be: {suspect.says} so")]


def _manifest(manifest: Manifest) -> list[Check]:
    title = f"{manifest.name} {manifest.version}, {manifest.licence}"
    found = [Check("manifest", "pass", title)]
    least = manifest.min_agent_version
    if not _VERSION.match(least) or version_key(__version__) < version_key(least):
        found.append(Check("agent", "refused", f"expected agent {least} or newer, this is "
                           f"{__version__}", "upgrade the agent first"))  # fmt: skip
    return found


def _files(suspect: Suspect, manifest: Manifest) -> list[Check]:
    """A tar holds nothing else, else it would not have been read."""
    named = names_of(manifest)
    there = {path.name for path in suspect.path.iterdir()} if suspect.path.is_dir() else {*named}
    surplus = sorted(there - {*named, SUM})
    if surplus:
        what = f"not named by the manifest and no part of it: {', '.join(surplus[:8])}"
        return [Check("files", "warn", what, "move them away")]
    return [Check("files", "pass", f"{len(named)}, all that the manifest names")]


# ── what it does ──────────────────────────────────────────────────────────────────────────────


def tried(folder: Path, manifest: Manifest, sha: str, args: argparse.Namespace) -> list[Check]:
    """Runs it in a process that may die of it."""
    order = Order(
        folder=str(folder.resolve()),
        manifest=manifest,
        sha=sha,
        memory_bytes=args.memory_mb << 20,
        cpu_s=math.ceil(4 * args.timeout_s),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "edge_agent.cli.models_trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            told, said = process.communicate(msgspec.json.encode(order), args.timeout_s)
            ended = "" if process.returncode == 0 else _ended(process.returncode, said)
        except subprocess.TimeoutExpired:
            process.kill()
            told, _ = process.communicate()
            ended = f"was not done within {args.timeout_s:g} s"
        except BaseException:
            process.kill()
            raise
    return _read(told, ended)


def _read(told: bytes, ended: str) -> list[Check]:
    """Its lines as checks; where it died, the one that it had begun has failed."""
    lines = []
    for content in told[:MAX_ANSWER_BYTES].splitlines():
        try:
            lines.append(msgspec.json.decode(content, type=Line))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            break
    checks = [Check(one.check, one.status, one.what, one.fix)
              for one in lines if one.status != "begun"]  # fmt: skip
    if ended:
        last = lines[-1] if lines and lines[-1].status == "begun" else None
        doing = f" while {last.what}" if last else ""
        checks.append(Check(last.check if last else "run", "fail", f"its process {ended}{doing}",
                            "this model can't be run safely here"))  # fmt: skip
    if not any(check.status in ("pass", "warn", "fail") for check in checks):
        checks.append(Check("run", "warn", "no variant of it runs on this machine"))
    return checks


def _ended(code: int, said: bytes) -> str:
    """As people say it: a signal is a crash, or a bound."""
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    words = said.decode(errors="replace").strip().splitlines()
    return f"ended with {code}" + (f": {words[-1][:MAX_WORDS]}" if words else "")
