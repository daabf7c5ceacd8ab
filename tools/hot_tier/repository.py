"""The signed repository on disk: TUF metadata beside the files that it speaks of.

    <folder>/metadata/N.root.json timestamp.json N.snapshot.json N.targets.json N.<role>.json
    <folder>/targets/models/<name>/<sha256>.<sha256>.eam ...

`timestamp.json` is written last: until then everybody sees the old state, whole. What a cut left
half done is overwritten by the next change. One publisher at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final, TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edge_agent.core.errors import Rejected
from edge_agent.core.trust import checked_path
from edge_agent.stores.files import write_atomic
from tools.hot_tier.keys import Keys

ROOTS: Final = ("root-1", "root-2", "root-3")
THRESHOLD: Final = 2
DAYS: Final = {"root": 730, "targets": 365, "snapshot": 30, "timestamp": 30}
KEPT: Final = 64  # versions of a role
RENEW_DAYS: Final = 30  # roles that end sooner are signed anew by `sign`

Signed = TypeVar("Signed", Root, Timestamp, Snapshot, Targets)


def _unborn(signed: Signed) -> Metadata[Signed]:
    """Its first version is the next one."""
    signed.version = 0
    return Metadata(signed)


def utc_now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


class Repository:
    """`with Repository(folder, keys).change() as draft: draft.put(...)`. days: lifetimes by role;
    others have that of `targets`. say: what a change did that nobody asked for in so many words."""

    def __init__(
        self,
        folder: Path,
        keys: Keys,
        *,
        now: Callable[[], datetime] = utc_now,
        days: dict[str, float] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.folder = folder
        self.keys = keys
        self.say = say
        self._now = now
        self._days = {**DAYS, **(days or {})}
        self.metadata = folder / "metadata"
        self.targets_folder = folder / "targets"

    def create(self) -> None:
        """Makes the keys that are not there and signs version 1 of everything.

        Raises: Rejected when there is a repository.
        """
        if (self.metadata / "timestamp.json").exists():
            raise Rejected(f"make repository {self.folder.name}: there is one already")
        for folder in (self.metadata, self.targets_folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name in (*ROOTS, "targets", "snapshot", "timestamp"):
            if not self.keys.has(name):
                self.keys.make(name)
        root = Root(version=1, consistent_snapshot=True)
        for name in ROOTS:
            root.add_key(self.keys.signer(name).public_key, "root")
        root.roles["root"].threshold = THRESHOLD
        for name in ("targets", "snapshot", "timestamp"):
            root.add_key(self.keys.signer(name).public_key, name)
        first = self._dated(root, "root")
        self.write("1.root.json", self._signed(first, [self.keys.signer(name) for name in ROOTS]))
        draft = Draft(self, _unborn(Snapshot(meta={})), _unborn(Timestamp()))
        draft.roles["targets"] = _unborn(Targets(delegations=Delegations({}, {})))
        draft.changed.add("targets")
        draft.commit()

    @contextlib.contextmanager
    def change(self) -> Iterator[Draft]:
        """All of the block published when it ends, or nothing of it.

        Raises: Rejected; also when another publisher is at it.
        """
        with self.locked():
            draft = self.open()
            yield draft
            draft.commit()

    def open(self) -> Draft:
        """The state as it is published. Raises: Rejected."""
        timestamp: Metadata[Timestamp] = self.read("timestamp.json")
        version = timestamp.signed.snapshot_meta.version
        return Draft(self, self.read(f"{version}.snapshot.json"), timestamp)

    def root(self) -> Metadata[Root]:
        """The newest. Raises: Rejected."""
        versions = [int(path.name.split(".")[0]) for path in self.metadata.glob("*.root.json")]
        found: Metadata[Root] = self.read(f"{max(versions, default=1)}.root.json")
        return found

    def read(self, name: str) -> Metadata[Any]:
        try:
            return Metadata.from_bytes((self.metadata / name).read_bytes())
        except FileNotFoundError:
            raise Rejected(
                f"open repository {self.folder.name}: {name} is not there",
                hint="python -m tools.hot_tier keys init --repository FOLDER --keys FOLDER",
            ) from None
        except (OSError, RepositoryError) as error:
            raise Rejected(f"open repository: {name}: {error}", hint="restore it") from None

    def write(self, name: str, metadata: Metadata[Any]) -> None:
        write_atomic(self.metadata / name, metadata.to_bytes(), mode=0o644)

    def sweep(self, role: str, version: int) -> None:
        """Old versions go; who is in the middle of a refresh still finds the last ones. Roots stay:
        each device walks them from the one that it was given."""
        for path in self.metadata.glob(f"*.{role}.json"):
            number = path.name.split(".")[0]
            if number.isdigit() and int(number) <= version - KEPT:
                path.unlink(missing_ok=True)

    def dated(self, signed: Signed, role: str) -> Metadata[Signed]:
        """One version later, with new dates, not yet signed."""
        signed.version += 1
        return self._dated(signed, role)

    def _dated(self, signed: Signed, role: str) -> Metadata[Signed]:
        now = self._now()
        signed.expires = now + timedelta(days=self._days.get(role, self._days["targets"]))
        signed.unrecognized_fields["issued"] = int(now.timestamp())
        return Metadata(signed)

    @staticmethod
    def _signed(metadata: Metadata[Any], signers: list[CryptoSigner]) -> Metadata[Any]:
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata

    def sign_root(self, root: Metadata[Root], old: Root, names: list[str]) -> None:
        """A new root: signed by the old keys and by the new ones. Raises: Rejected."""
        self._signed(root, [self.keys.signer(name) for name in names])
        for judge in (old, root.signed):
            try:
                judge.verify_delegate("root", root.signed_bytes, root.signatures)
            except RepositoryError as error:
                raise Rejected(f"sign root: {error}", hint="bring two root keys") from None

    def soon(self, expires: datetime) -> bool:
        return expires - self._now() < timedelta(days=RENEW_DAYS)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise Rejected(
                f"change {self.folder.name}: another publisher is at it", hint="wait for it"
            ) from None
        finally:
            os.close(descriptor)


class Draft:
    """A change that is not yet published. changed: roles to be signed anew."""

    def __init__(
        self, house: Repository, snapshot: Metadata[Snapshot], timestamp: Metadata[Timestamp]
    ) -> None:
        self._house = house
        self._snapshot = snapshot
        self._timestamp = timestamp
        self.roles: dict[str, Metadata[Targets]] = {}
        self.changed: set[str] = set()

    def names(self) -> list[str]:
        """Every role that has targets."""
        return [name.removesuffix(".json") for name in self._snapshot.signed.meta]

    def role(self, name: str) -> Targets:
        """Raises: Rejected when there is none."""
        if name not in self.roles:
            meta = self._snapshot.signed.meta.get(f"{name}.json")
            if meta is None:
                known = ", ".join(sorted(self.names()))
                raise Rejected(f"open role {name}: expected one of {known}")
            self.roles[name] = self._house.read(f"{meta.version}.{name}.json")
        return self.roles[name].signed

    def delegate(self, name: str, paths: list[str]) -> Targets:
        """The role that may sign for these paths; made, with a key of its own, if need be."""
        if f"{name}.json" in self._snapshot.signed.meta or name in self.roles:
            return self.role(name)
        keys = self._house.keys
        signer = keys.signer(name) if keys.has(name) else keys.make(name)
        top = self.role("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        top.delegations.roles[name] = DelegatedRole(name, [], 1, terminating=True, paths=paths)
        top.add_key(signer.public_key, name)
        if "nodes" in top.delegations.roles:  # desired/*: after those of the cohorts
            last = top.delegations.roles.pop("nodes")
            top.delegations.roles["nodes"] = last
        self.roles[name] = _unborn(Targets(unrecognized_fields={"role": name}))
        self.changed |= {"targets", name}
        return self.roles[name].signed

    def put(
        self, role: str, path: str, content: Path | bytes, custom: dict[str, Any] | None = None
    ) -> TargetFile:
        """A file under a path that the role may sign for. Written at once, seen at `commit`."""
        checked_path(path)
        if isinstance(content, bytes):
            file = TargetFile.from_data(path, content, ["sha256"])
        else:
            file = TargetFile.from_file(path, str(content), ["sha256"])
        if custom is not None:
            file.unrecognized_fields["custom"] = custom
        self.role(role).targets[path] = file
        self.changed.add(role)
        place = self._house.targets_folder / file.get_prefixed_paths()[0]
        self.write(place, content)
        return file

    @staticmethod
    def write(place: Path, content: Path | bytes) -> None:
        """A file below targets/. What is there already under the name of its hash stays."""
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        body = content if isinstance(content, bytes) else content.read_bytes()
        write_atomic(place, body, mode=0o644)

    def commit(self) -> None:
        """Signs what changed, then the snapshot, then the timestamp. Raises: Rejected."""
        house, ready = self._house, {}
        for name in sorted(self.changed, key=lambda name: name == "targets"):
            ready[name] = house.dated(self.role(name), name)
            self._sign(ready[name], name)
        for name, metadata in ready.items():
            body, version = metadata.to_bytes(), metadata.signed.version
            write_atomic(house.metadata / f"{version}.{name}.json", body, mode=0o644)
            meta = MetaFile.from_data(version, body, ["sha256"])
            self._snapshot.signed.meta[f"{name}.json"] = meta
        snapshot = house.dated(self._snapshot.signed, "snapshot")
        self._sign(snapshot, "snapshot")
        body = snapshot.to_bytes()
        write_atomic(house.metadata / f"{snapshot.signed.version}.snapshot.json", body, mode=0o644)
        self._timestamp.signed.snapshot_meta = MetaFile.from_data(
            snapshot.signed.version, body, ["sha256"]
        )
        timestamp = house.dated(self._timestamp.signed, "timestamp")
        self._sign(timestamp, "timestamp")
        house.write("timestamp.json", timestamp)
        for name, version in [("snapshot", snapshot.signed.version), *self._versions(ready)]:
            house.sweep(name, version)

    @staticmethod
    def _versions(ready: dict[str, Metadata[Targets]]) -> list[tuple[str, int]]:
        return [(name, metadata.signed.version) for name, metadata in ready.items()]

    def _sign(self, metadata: Metadata[Any], name: str) -> None:
        """Raises: Rejected when the key is away, or is not the one that its delegator names."""
        metadata.signatures.clear()
        metadata.sign(self._house.keys.signer(name))
        top = name in ("targets", "snapshot", "timestamp")
        judge = self._house.root().signed if top else self.role("targets")
        try:
            judge.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise Rejected(
                f"sign {name}: {error}", hint=f"is {name}.pem the key of this repository?"
            ) from None
