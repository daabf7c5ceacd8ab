"""Model packages by name and version: installed ones, folders of the operator, shipped ones.

    <dir>/us-chamber/current          the version that "" means, one line
    <dir>/us-chamber/1.0.0/manifest.toml, model.onnx, golden.npz

What a rollout installed goes before everything: its `current` is what "" means, for as long as it
has one. Then the folders in their order, those that ship with the agent last. Whenever a stream is
ordered, every byte of its package is read, hashed and compared with what it has to be
(`stores.known`); one that is anything else is not run. Reads only.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import edge_agent
from edge_agent.core.errors import Damaged, Overloaded, Rejected
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN, Manifest
from edge_agent.core.package import MANIFEST, MAX_FILES, is_sha
from edge_agent.held import of_reading
from edge_agent.stores import known, package
from edge_agent.stores.files import read_bounded
from edge_agent.stores.known import Law, Remembered
from edge_agent.stores.package import PackageLook
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
    """dirs: searched in order; shipped: the agent's own come last; installed: goes before all.

    remembered: what ran here before.
    """

    def __init__(
        self,
        dirs: Sequence[Path],
        *,
        shipped: bool,
        installed: Shelf | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        self._dirs = [*dirs, *([shipped_folder()] if shipped else [])]
        self._own = shipped_folder()
        self._installed = installed
        self.remembered = remembered
        self._looks: dict[Path, tuple[object, PackageLook]] = {}

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
            names = ", ".join(sorted(self.versions())) or "none"
            raise Rejected(
                f"find model {name!r}: expected one of: {names}",
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

        Raises: Rejected, Damaged.
        """
        return Models(self._dirs, shipped=False).resolve(name, "")

    def manifest(self, folder: Path) -> Manifest:
        """Raises: Rejected."""
        return package.read_manifest(folder)

    def identity(self, folder: Path) -> str:
        """`look`, its hash alone."""
        return self.look(folder).sha

    def look(self, folder: Path) -> PackageLook:
        """What a package is: its hash, which is what it has to be, and its manifest, of the same
        bytes. Reads every byte, unless this object has done so and no file has changed since.

        Raises: Rejected; Damaged when it is not what it has to be, or can't be read just now.
        """
        law = self.law(folder)
        try:
            found = self._look(folder)
        except Rejected as error:
            if not law.sha:
                raise
            raise Damaged(
                f"model {folder.parent.name} {folder.name[:16]} is damaged: {error.what}",
                hint=self.hint(folder), healable=True,
            ) from error  # fmt: skip
        if not law.sha or law.sha == found.sha:
            return found
        if is_sha(folder.name):
            raise changed(folder, found.sha)
        raise Damaged(
            f"model {folder.parent.name} {folder.name} is damaged: its sha256 is "
            f"{found.sha[:16]}, {law.says} {law.sha[:16]}",
            hint=self.hint(folder), healable=True,
        )  # fmt: skip

    def law(self, folder: Path) -> Law:
        """What a package has to be.

        Raises: Damaged when who says it can't be read; Rejected when it lies among the shipped ones
        and is none of them.
        """
        key = folder.parent.name, folder.name
        if is_sha(folder.name):
            return Law(folder.name, "it was installed as")
        if self._is_own(folder):
            sha = known.shipped().shas.get(key, "")
            if not sha:
                raise Rejected(
                    f"model {key[0]} {key[1]} is none of those that come with the agent",
                    hint=f"move it to a folder of your own that models.dirs names, or "
                    f"{known.REINSTALL_AGENT}",
                )
            return Law(sha, "the agent came with")
        if sha := known.sum_of(folder):
            return Law(sha, f"{known.SUM} says")
        if sha := self.remembered.first_of(folder) if self.remembered else "":
            return Law(sha, "what ran here under that version was")
        if os.path.lexists(folder) and key in (shas := known.shipped().shas):
            return Law(shas[key], "the version of that name that comes with the agent is")
        return known.NOBODY

    def good(self, name: str) -> list[tuple[Path, str]]:
        """Versions in the folders that ran well here, newest first, each with its hash then."""
        ran = self.remembered.good(name) if self.remembered is not None else ()
        found = [(Path(one.folder), one.sha) for one in ran]
        homes = [Path(os.path.abspath(one)) for one in self._dirs]  # noqa: PTH100 - as noted
        return [(folder, sha) for folder, sha in found if folder.parent.parent in homes]

    def forget(self, folder: Path) -> None:
        """The next look reads every byte again."""
        self._looks.pop(folder, None)

    def facts(self, name: str, version: str) -> tuple[object, ...]:
        """What changes when the package that `resolve` names, or what it has to be, is replaced or
        mended. Reads no content of it.
        """
        try:
            folder = self.resolve(name, version)
        except (Rejected, Damaged) as error:
            return (error.what,)
        return (folder, *_stats(folder.parent / CURRENT, folder), *_stats(*_entries(folder)))

    def _is_own(self, folder: Path) -> bool:
        return folder.parent.parent == self._own

    def hint(self, folder: Path) -> str:
        """What to do about a package that is damaged."""
        if is_sha(folder.name):
            return f"reinstall it: install {folder.parent.name} again; check the disk (dmesg)"
        return known.REINSTALL_AGENT if self._is_own(folder) else known.hint_of(folder)

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
            found: dict[str, Path] = {}
            for folder in self._dirs:
                with contextlib.suppress(Damaged):
                    self._add(found, folder, name)
            return found

    def _folders(self, name: str) -> dict[str, Path]:
        """Version to folder; installed ones win, then the first folder that has a version.

        Raises: Damaged when nobody can say just now which ones are committed, or what is in a
        folder: a version of the same name behind it is another one.
        """
        found = self._pointed(name)
        for folder in self._dirs:
            self._add(found, folder, name)
        return found

    def _add(self, found: dict[str, Path], folder: Path, name: str) -> None:
        """Raises: Damaged."""
        for version in self._versions_in(folder, name):
            found.setdefault(version, folder / name / version)

    def _versions_in(self, folder: Path, name: str) -> Iterator[str]:
        """Also of packages that ought to be there and have lost their manifest, or all."""
        if folder == self._own:
            with contextlib.suppress(Damaged):  # `law` says so of each of them
                yield from (of for (one, of) in known.shipped().shas if one == name)
        for version in _seen(folder / name):
            place = folder / name / version
            if _version.match(version) and any(
                _stands(place / file) for file in (MANIFEST, known.SUM)
            ):
                yield version

    def _look(self, folder: Path) -> PackageLook:
        manifest = package.read_manifest(folder)
        facts = package.facts_of(folder, manifest)
        before, found = self._looks.pop(folder, (None, None))
        if found is None or not facts or before != facts:
            found = package.look(folder)
        while len(self._looks) >= MAX_REMEMBERED:
            del self._looks[next(iter(self._looks))]
        self._looks[folder] = facts, found
        return found

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
            if folder == self._own:
                if word := known.shipped().current.get(name, ""):
                    return word
                continue
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


def _entries(folder: Path) -> list[Path]:
    return [folder / name for name in _children(folder)[: MAX_FILES + 2]]


def _stats(*paths: Path) -> Iterator[tuple[object, ...]]:
    for path in paths:
        try:
            one = path.stat()
        except OSError as error:
            yield path.name, error.errno
        else:
            yield path.name, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns


def _seen(folder: Path) -> list[str]:
    """Names in a folder; none where there is no such folder. Raises: Damaged."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names are wanted, not paths
    except OSError as error:
        found = of_reading(f"look for models in {folder}", folder / folder.name, error)
        if isinstance(found, Damaged):
            raise found from error
        return []
    return names[:MAX_FOLDERS]


def _stands(path: Path) -> bool:
    """Something is there, or nobody may look."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # who opens it says why
    return True


def _children(folder: Path) -> list[str]:
    """Names in a folder; none where there is no such folder."""
    try:
        names = sorted(child.name for child in folder.iterdir())
    except OSError:
        return []
    return names[:MAX_FOLDERS]
