"""Model packages by name and version: installed ones, folders of the operator, shipped ones.

    <dir>/us-chamber/current          the version that "" means, one line
    <dir>/us-chamber/1.0.0/manifest.toml, model.onnx, golden.npz

What a rollout installed goes before everything: its `current` is what "" means, for as long as it
has one. Then the folders in their order, those that ship with the agent last. Whenever a stream is
ordered, every byte of its package is read and hashed; an installed one that is no longer what was
installed is not run. Reads only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import edge_agent
from edge_agent.core.errors import Damaged, Overloaded, Rejected
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN, Manifest
from edge_agent.core.package import MANIFEST, is_sha
from edge_agent.stores import package
from edge_agent.stores.files import read_bounded
from edge_agent.stores.shelf import Pointers, Shelf, changed

CURRENT = "current"
MAX_CURRENT_BYTES = 256
MAX_FOLDERS = 4096  # names, and versions of a name, that one folder may hold
MAX_REMEMBERED = 64  # packages whose hash is known while their files stay as they are

_name = re.compile(NAME_PATTERN)
_version = re.compile(VERSION_PATTERN)


def shipped_folder() -> Path:
    """The models that come with the agent: in the wheel, or in the checkout beside it."""
    package = Path(edge_agent.__file__).parent
    inside = package / "_data" / "models"
    return inside if inside.is_dir() else package.parent / "models"


class Models:
    """dirs: searched in order; shipped: the agent's own come last; installed: goes before all."""

    def __init__(
        self, dirs: Sequence[Path], *, shipped: bool, installed: Shelf | None = None
    ) -> None:
        self._dirs = [*dirs, *([shipped_folder()] if shipped else [])]
        self._installed = installed
        self._hashes: dict[Path, tuple[object, str]] = {}

    def resolve(self, name: str, version: str) -> Path:
        """The folder of a package; version "" is the installed current, the folders' `current`, or
        the only one there is. Of the installed ones only current and previous are looked at.

        Raises: Rejected, naming what is there; Damaged when the installed current can't be read,
        or nobody can say just now what is.
        """
        if not _name.match(name):
            there = {}
        elif not version and (current := self._installed_current(name)) is not None:
            return current
        else:
            there = self._folders(name)
        if not there:
            known = ", ".join(sorted(self.versions())) or "none"
            raise Rejected(
                f"find model {name!r}: expected one of: {known}",
                hint="edge-agent models list",
            )
        wanted = version or self._current(name)
        if not wanted and len(there) == 1:
            return next(iter(there.values()))
        if wanted in there:
            return there[wanted]
        what = f"version {wanted}" if wanted else "a version, or a file `current` that names one"
        listed = ", ".join(sorted(there, key=version_key))
        raise Rejected(
            f"find model {name}: expected {what}, got {listed}",
            hint=f'set version = "{max(there, key=version_key)}" for model {name}',
        )

    def of_folders(self, name: str) -> Path:
        """What the folders of the configuration and the agent's own say, whatever is installed.

        Raises: Rejected.
        """
        return Models(self._dirs, shipped=False).resolve(name, "")

    def manifest(self, folder: Path) -> Manifest:
        """Raises: Rejected."""
        return package.read_manifest(folder)

    def identity(self, folder: Path) -> str:
        """sha256 hex of the package's tar. Reads every byte, unless this object has done so and
        no file has changed since.

        Raises: Rejected; Damaged when it is installed and no longer what was installed.
        """
        try:
            sha = self._hash(folder)
        except Rejected as error:
            if is_sha(folder.name):
                raise Damaged(error.what, hint=error.hint) from error
            raise
        if is_sha(folder.name) and folder.name != sha:
            raise changed(folder, sha)
        return sha

    def pack(self, folder: Path) -> Iterator[bytes]:
        """The package as its tar, in pieces.

        Raises: Rejected.
        """
        return package.pack(folder, package.read_manifest(folder))

    def previous(self, name: str) -> Path | None:
        """The installed version before the current one; None: there is none to read.

        Raises: Damaged when nobody can say just now.
        """
        if self._installed is None or not _name.match(name):
            return None
        try:
            sha = self._pointers(name).previous
        except Damaged as error:
            if not error.healable:
                raise
            return None  # nobody will ever read it again
        return self._installed.folder(sha)

    def versions(self) -> dict[str, list[str]]:
        """Every model that is there, with its versions in ascending order."""
        folders = [*self._dirs, *([self._installed.root] if self._installed else [])]
        names = {name for folder in folders for name in _children(folder) if _name.match(name)}
        found = {name: sorted(self._there(name), key=version_key) for name in sorted(names)}
        return {name: versions for name, versions in found.items() if versions}

    def _there(self, name: str) -> dict[str, Path]:
        """As far as anybody can say; of a list it is no more than the reader's loss."""
        try:
            return self._folders(name)
        except Damaged:
            return self._folders(name, {})

    def _folders(self, name: str, pointed: dict[str, Path] | None = None) -> dict[str, Path]:
        """Version to folder; installed ones win, then the first folder that has a version.

        Raises: Damaged when nobody can say just now which ones are committed.
        """
        found = self._pointed(name) if pointed is None else pointed
        for folder in self._dirs:
            for version in _children(folder / name):
                place = folder / name / version
                if _version.match(version) and (place / MANIFEST).is_file():
                    found.setdefault(version, place)
        return found

    def _hash(self, folder: Path) -> str:
        manifest = package.read_manifest(folder)
        facts = package.facts_of(folder, manifest)
        known, sha = self._hashes.pop(folder, (None, ""))
        if not facts or known != facts:
            sha = package.identity(folder, manifest)
        while len(self._hashes) >= MAX_REMEMBERED:
            del self._hashes[next(iter(self._hashes))]
        self._hashes[folder] = facts, sha
        return sha

    def _installed_current(self, name: str) -> Path | None:
        """None: nothing is installed, or it was rolled back to what the folders say.

        Raises: Damaged.
        """
        current = self._pointers(name).current
        if self._installed is None or not current:
            return None
        folder = self._installed.folder(current)
        if folder is None:
            raise Damaged(
                f"find model {name}: its current package {current[:16]} is gone",
                hint=f"install {name} again, or roll it back",
                healable=True,
            )
        return folder

    def _pointers(self, name: str) -> Pointers:
        """Raises: Damaged, also when this machine is short of what it takes to read them: whoever
        asks what to run gets no answer then, rather than that nothing was installed.
        """
        try:
            return self._installed.pointers(name) if self._installed else Pointers()
        except Overloaded as error:
            raise Damaged(error.what, hint=error.hint) from error

    def _pointed(self, name: str) -> dict[str, Path]:
        """Of the installed versions those that were committed: current and previous.

        Raises: Damaged when nobody can say just now.
        """
        found: dict[str, Path] = {}
        if self._installed is None:
            return found
        try:
            pointers = self._pointers(name)
            for sha in (pointers.previous, pointers.current):
                folder = self._installed.folder(sha)
                if folder is not None:
                    found[package.read_manifest(folder).version] = folder
        except Rejected:
            return found  # told by whoever asks for the current one
        except Damaged as error:
            if not error.healable:
                raise
        return found

    def _current(self, name: str) -> str:
        for folder in self._dirs:
            try:
                return read_bounded(folder / name / CURRENT, MAX_CURRENT_BYTES).decode().strip()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, UnicodeDecodeError) as error:
                raise Rejected(
                    f"find model {name}: file {CURRENT}: {error}",
                    hint=f"write the version into {name}/{CURRENT}, as text",
                ) from error
        return ""


def version_key(version: str) -> tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]:
    """Orders versions as semver does: a pre-release comes before its release."""
    plain, _, build = version.partition("+")
    numbers, _, pre = plain.partition("-")
    parts = tuple(
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in [*(pre.split(".") if pre else []), *([build] if build else [])]
    )
    return tuple(int(number) for number in numbers.split(".")), not pre, parts


def _children(folder: Path) -> list[str]:
    """Names in a folder; none where there is no such folder."""
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError:
        return []
    return names[:MAX_FOLDERS]
