"""What is installed, read: packages by their content, and which of each model is current.

    <root>/us-chamber/<sha256>/manifest.toml ...   complete, or not there
    <root>/us-chamber/pointers.json                current and previous, replaced in one write
    <root>/us-chamber/pointers.copy.json           the same again, see `stores.document`

Never changes anything: that is `stores.installed`, which says how it stays whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.core.errors import Damaged, Overloaded, Rejected, of_system
from edge_agent.core.manifest import NAME_PATTERN
from edge_agent.core.package import is_sha
from edge_agent.stores import package
from edge_agent.stores.document import SUFFIX, Document
from edge_agent.stores.files import DISK, Disk

POINTERS, POINTERS_COPY = "pointers.json", "pointers.copy.json"
MAX_POINTERS_BYTES = 4096
MAX_NAMES = 4096  # names in one folder

_NAME = re.compile(NAME_PATTERN)
_POINTERS = POINTERS.removesuffix(SUFFIX)


class Pointers(NamedTuple):
    """Ids of packages. current "": what the folders of the configuration say. previous "": none."""

    current: str = ""
    previous: str = ""


class Package(NamedTuple):
    """bytes: of its tar."""

    name: str
    version: str
    sha: str
    bytes: int


class Shelf:
    """The read side: no method changes anything, and any process may call it at any time."""

    def __init__(self, root: Path, *, disk: Disk = DISK) -> None:
        self.root = root
        self._disk = disk

    def names(self) -> list[str]:
        """The models that were ever installed."""
        return [name for name in children(self.root) if _NAME.match(name)]

    def shas(self, name: str) -> list[str]:
        """The packages of a model."""
        return [sha for sha in children(self.root / name) if is_sha(sha)]

    def folder(self, sha: str) -> Path | None:
        """Where a package lies; None: not installed."""
        if not is_sha(sha):
            return None
        places = (self.root / name / sha for name in self.names())
        return next((place for place in places if place.is_dir()), None)

    def pointers(self, name: str) -> Pointers:
        """Raises: Damaged, and `healable` when both copies are rotten; else nobody can read them
        just now, as with Overloaded, and nobody may guess meanwhile.
        """
        what = f"read which version of model {name} is current"
        try:
            content = self._document(name).read()
            if content is None:
                return Pointers()
            fields = json.loads(content)
            return Pointers(_sha_or_none(fields["current"]), _sha_or_none(fields["previous"]))
        except Overloaded as error:
            raise Overloaded(f"{what}: {error.what}", hint=error.hint) from error
        except Damaged as error:
            hint = _heal(name) if error.healable else error.hint
            raise Damaged(f"{what}: {error.what}", hint=hint, healable=error.healable) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Damaged(f"{what}: {error}", hint=_heal(name), healable=True) from error

    def earlier(self) -> dict[str, bool]:
        """Models that an earlier life left here; True: a version of it was committed once.

        Raises: Overloaded, Damaged when nobody can look just now: that is no "none".
        """
        found: dict[str, bool] = {}
        try:
            for name in filter(_NAME.match, _listed(self.root)):
                there = _listed(self.root / name)
                is_committed = any(each.startswith(f"{_POINTERS}.") for each in there)
                if is_committed or any(map(is_sha, there)):
                    found[name] = is_committed
        except OSError as error:
            raise of_system(f"list {self.root.name}", error) from error
        return found

    def have(self) -> list[Package]:
        """Every package whose manifest can be read."""
        found = []
        for name in self.names():
            for sha in self.shas(name):
                folder = self.root / name / sha
                try:
                    manifest = package.read_manifest(folder)
                    size = package.size_of(folder, manifest)
                except (OSError, Rejected):
                    continue  # `models verify` says what is wrong with it
                found.append(Package(name, manifest.version, sha, size))
        return found

    def pack(self, sha: str) -> Iterator[bytes]:
        """The tar of a package again. It is right only when the last piece has come.

        Raises: Rejected when it is not installed, Damaged.
        """
        folder, digest = self._folder(sha), hashlib.sha256()
        try:
            for content in package.pack(folder, package.read_manifest(folder)):
                digest.update(content)
                yield content
        except Rejected as error:
            raise Damaged(error.what, hint=error.hint) from error
        if digest.hexdigest() != sha:
            raise changed(folder, digest.hexdigest())

    def check(self, sha: str) -> None:
        """Reads every byte of a package.

        Raises: Rejected when it is not installed, Damaged when it is no longer what was installed.
        """
        for _ in self.pack(sha):
            pass

    def has(self, sha: str) -> bool:
        """Whether a package is installed, and is what was installed; reads every byte of it."""
        if self.folder(sha) is None:
            return False
        try:
            self.check(sha)
        except (Damaged, Rejected):
            return False
        return True

    def _document(self, name: str) -> Document:
        return Document(self.root / name, _POINTERS, max_bytes=MAX_POINTERS_BYTES, disk=self._disk)

    def _folder(self, sha: str) -> Path:
        folder = self.folder(sha)
        if folder is None:
            raise Rejected(
                f"find package {sha[:16]}: it is not installed", hint="edge-agent models list"
            )
        return folder


def changed(folder: Path, got: str) -> Damaged:
    """What is said of a package that is no longer what was installed."""
    name = folder.parent.name
    return Damaged(
        f"model {name}: package {folder.name[:16]} is damaged: it is no longer what was installed, "
        f"its sha256 is now {got[:16]}",
        hint=f"reinstall it: install {name} again; check the disk (dmesg)",
        healable=True,
    )


def children(folder: Path) -> list[str]:
    """Names in a folder; none where it can't be looked into."""
    try:
        return _listed(folder)
    except OSError:  # whoever looks for one that has to be there says so
        return []


def _listed(folder: Path) -> list[str]:
    """None where there is no such folder. Raises: OSError."""
    try:
        return sorted(os.listdir(folder))[:MAX_NAMES]  # noqa: PTH208 - names are wanted, not paths
    except (FileNotFoundError, NotADirectoryError):
        return []


def _heal(name: str) -> str:
    return f"install {name} again; that names its version anew"


def _sha_or_none(word: Any) -> str:
    if not isinstance(word, str) or not (is_sha(word) or not word):
        raise ValueError(f"expected the sha256 of a package, got {str(word)[:80]!r}")
    return word
