"""What an errand does with the repository and the store. Blocks; ends with facts, or raises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.backends import engines
from edge_agent.core.chunks import read_table
from edge_agent.core.errors import (
    SHORT,
    BadPackage,
    Damaged,
    EdgeAgentError,
    LinkDown,
    Rejected,
    of_system,
)
from edge_agent.errands import MAX_CONFIG_BYTES, Errand
from edge_agent.installer import repository
from edge_agent.installer.carrying import Carrier, sha_of, told
from edge_agent.stores.installed import Installed
from edge_agent.stores.models import version_key

if TYPE_CHECKING:
    from edge_agent.links.trust import Target

Say = Callable[..., None]
TAR = "package.eam"


def store_of(errand: Errand) -> Installed:
    return Installed(Path(errand.place.models), limit_bytes=errand.place.store_bytes)


def wanted(errand: Errand, _: Say) -> dict[str, Any]:
    """The desired states that are signed for this node and its cohort, by target.

    Raises: Refused, LinkDown.
    """
    found: dict[str, str] = {}
    refused: dict[str, EdgeAgentError] = {}
    with repository.opened(errand) as (trust, _sources):
        refreshed = trust.refresh()
        for name in dict.fromkeys(name for name in (errand.node, errand.cohort) if name):
            target = f"desired/{name}.json"
            try:
                found[target] = trust.desired(target).decode()
            except UnicodeDecodeError as error:
                refused[target] = Rejected(f"read {target}: {error}")
            except (Rejected, LinkDown) as error:
                if getattr(error, "code", "") != "unknown-target":
                    refused[target] = error
    if refused and not found:
        raise next(iter(refused.values()))
    return {
        "desired": found,
        "refused": {target: error.what for target, error in refused.items()},
        "expires_s": refreshed.expires_s,
        "troubles": [f"{trouble.source}: {trouble.what}" for trouble in refreshed.troubles],
    }


def fetch(errand: Errand, say: Say) -> dict[str, Any]:
    """The package into the store: downloaded, as a delta where that is smaller, then verified and
    installed. One job, so that nothing of it lies between two processes.

    Raises: Refused, Rejected, Overloaded, LinkDown; as `admit`.
    """
    if store_of(errand).has(errand.sha):
        facts: dict[str, Any] = {"via": "here", "fetched_bytes": 0}
    else:
        facts = download(errand, say)
    say("fetched")
    admit(errand)
    return facts


def download(errand: Errand, say: Say) -> dict[str, Any]:
    """The package into the folder of its download.

    Raises: Refused, Rejected, Overloaded, LinkDown.
    """
    store = store_of(errand)
    with repository.opened(errand) as (trust, sources):
        trust.refresh()
        target = trust.target(path_of(errand))
        check_target(errand, target)
        table = target.table()
        raw = trust.blob(table[0]) if table else b""
    chunks = read_table(raw, length=target.length, chunk_bytes=table[1]) if table else None
    folder = store.reserve(errand.sha, target.length)
    return Carrier(errand, sources, store, say).bring(target, chunks, folder / TAR)


def path_of(errand: Errand) -> str:
    return f"models/{errand.model}/{errand.sha}.eam"


def check_target(errand: Errand, target: Target) -> None:
    """That it is signed as what is wanted, and made for this agent.

    Raises: Rejected.
    """
    custom = target.custom
    said = (custom.get("name"), custom.get("version"), target.sha256)
    expected = (errand.model, errand.version, errand.sha)
    if said != expected:
        raise Rejected(
            f"fetch {target.path}: expected {errand.model} {errand.version} {errand.sha[:16]}, "
            f"got {told(said[0])} {told(said[1])} {target.sha256[:16]}",
            hint="name the version in the desired state as it was published",
        )
    least = custom.get("min_agent_version", "0.0.0")
    try:
        too_old = version_key(errand.agent) < version_key(str(least))
    except ValueError:
        too_old = True
    if too_old:
        raise Rejected(
            f"fetch {target.path}: expected agent {told(least)} or newer, got {errand.agent}",
            hint="upgrade the agent first",
        )


def admit(errand: Errand) -> None:
    """Verifies and installs what was fetched.

    Raises: BadPackage when what was signed is no package, or one of another model; Damaged,
    Overloaded.
    """
    store = store_of(errand)
    folder = store.folder(errand.sha)
    if folder is None or not store.has(errand.sha):
        folder = _admitted(store, store.root / ".incoming" / errand.sha / TAR, errand.sha)
    if folder.parent.name != errand.model:
        raise BadPackage(
            f"install {errand.sha[:16]}: expected a package of {errand.model}, "
            f"got one of {folder.parent.name}",
            hint="publish it under its own name",
        )
    store.forget_incoming(errand.sha)


def _admitted(store: Installed, tar: Path, sha: str) -> Path:
    """The folder of what lies in `tar`.

    Raises: BadPackage when these are the bytes that were signed, and yet no package; Damaged when
    they are others, or can't be read: they are then gone from here; Overloaded.
    """
    try:
        return store.admit(tar, sha)
    except (Rejected, Damaged) as wrong:
        got = _sha_of(tar)
        if got == sha and isinstance(wrong, Rejected):
            raise BadPackage(wrong.what, hint=wrong.hint) from wrong
        if got == sha:
            raise
        store.forget_incoming(sha)
        raise Damaged(
            f"install package {sha[:16]}: expected the bytes that were signed, got "
            f"{got[:16] or 'none'}",
            hint="it is fetched again; if that recurs, check the disk (dmesg)",
            healable=True,
        ) from wrong


def _sha_of(tar: Path) -> str:
    """Nothing when it is gone, or the disk no longer gives it. Raises: Overloaded."""
    try:
        return sha_of(tar)
    except OSError as error:
        if error.errno in SHORT:
            raise of_system("read what was fetched", error) from error
        return ""


def config(errand: Errand, _: Say) -> dict[str, Any]:
    """The text of a signed configuration.

    Raises: Refused, LinkDown, Rejected.
    """
    path = f"configs/{errand.sha}.toml"
    with repository.opened(errand) as (trust, _sources):
        trust.refresh()
        body = trust.read(path, MAX_CONFIG_BYTES)
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError as error:
        raise Rejected(f"read {path}: {error}", hint="save it as UTF-8") from None


def adopt(errand: Errand, say: Say) -> dict[str, Any]:
    """Installs a package from a file, if it is signed, or may be without.

    Raises: Refused, Rejected, BadPackage, Damaged, Overloaded, LinkDown.
    """
    file = Path(errand.file)
    found = repository.identify(file)
    named = repository.with_identity(errand, found)
    is_signed = _is_signed(named)
    if not is_signed and not errand.allow_unsigned:
        raise Rejected(
            f"install {file.name}: nobody whose signature counts has signed "
            f"{found.name} {found.version} ({found.sha[:16]})",
            hint="copy the whole repository with its metadata/ to the stick, or publish it",
        )
    store = store_of(named)
    if not store.has(found.sha):
        tar = store.reserve(found.sha, file.stat().st_size) / TAR
        repository.copy(file, tar, say)
        _admitted(store, tar, found.sha)
        store.forget_incoming(found.sha)
    return {"model": found.name, "version": found.version, "sha": found.sha,
            "unsigned": not is_signed}  # fmt: skip


def _is_signed(errand: Errand) -> bool:
    """Whether the repository beside the file, or one of the usual ones, has it signed."""
    if not errand.place.root_file:
        return False
    try:
        with repository.opened(errand) as (trust, _sources):
            trust.refresh()
            check_target(errand, trust.target(path_of(errand)))
    except (Rejected, LinkDown):
        if errand.allow_unsigned:
            return False
        raise
    return True


def collect(errand: Errand, _: Say) -> dict[str, Any]:
    """Room: what nothing points to and nobody keeps, and what was prepared of it."""
    store = store_of(errand)
    freed = store.collect(errand.keep)
    if errand.place.engines:
        kept = {*errand.keep, *(package.sha for package in store.have())}
        freed += engines.collect(Path(errand.place.engines), kept)
    return {"freed_bytes": freed}
