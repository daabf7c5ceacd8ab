"""Model packages on disk: `<dir>/<name>/<version>/` with a manifest, ONNX files and golden samples.

    <dir>/us-chamber/current          the version that "" means, one line
    <dir>/us-chamber/1.0.0/manifest.toml, model.onnx, golden.npz

The id of a package is the sha256 of its canonical tar: names sorted, no times, no owners. Folders
are searched in order, those that ship with the agent last. Reads only; installing comes by rollout.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import edge_agent
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN, Manifest, parse_manifest
from edge_agent.stores.files import read_bounded

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

MANIFEST = "manifest.toml"
CURRENT = "current"
MAX_MANIFEST_BYTES = 1 << 20
MAX_CURRENT_BYTES = 256
MAX_FOLDERS = 4096  # names, and versions of a name, that one folder may hold
CHUNK_BYTES = 1 << 20

_name = re.compile(NAME_PATTERN)
_version = re.compile(VERSION_PATTERN)


def shipped_folder() -> Path:
    """The models that come with the agent: in the wheel, or in the checkout beside it."""
    package = Path(edge_agent.__file__).parent
    inside = package / "_data" / "models"
    return inside if inside.is_dir() else package.parent / "models"


class Models:
    """The read side of the store. dirs: searched in order; shipped: the agent's own come last."""

    def __init__(self, dirs: Sequence[Path], *, shipped: bool) -> None:
        self._dirs = [*dirs, *([shipped_folder()] if shipped else [])]

    def resolve(self, name: str, version: str) -> Path:
        """The folder of a package; version "" is `current`, or the only one there is.

        Raises: Rejected, naming what is there.
        """
        there = self._folders(name) if _name.match(name) else {}
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

    def manifest(self, folder: Path) -> Manifest:
        """Raises: Rejected."""
        origin = f"{folder.parent.name}/{folder.name}/{MANIFEST}"
        try:
            fields = _toml.loads(read_bounded(folder / MANIFEST, MAX_MANIFEST_BYTES).decode())
        except OSError as error:
            raise Rejected(
                f"read manifest {origin}: {error.strerror}", hint="install the package again"
            ) from error
        except (_toml.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Rejected(f"read manifest {origin}: {error}", hint="repack the model") from error
        manifest = parse_manifest(fields, origin=origin)
        if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
            raise Rejected(
                f"read manifest {origin}: expected the name and version of its folders, "
                f"got {manifest.name} {manifest.version}",
                hint=f"move the package to {manifest.name}/{manifest.version}",
            )
        return manifest

    def identity(self, folder: Path) -> str:
        """sha256 hex of the canonical tar.

        Raises: Rejected.
        """
        digest = hashlib.sha256()
        for chunk in self.pack(folder):
            digest.update(chunk)
        return digest.hexdigest()

    def pack(self, folder: Path) -> Iterator[bytes]:
        """The package as a canonical tar, in chunks: the manifest and every file that it names.

        Raises: Rejected.
        """
        manifest = self.manifest(folder)
        named = {MANIFEST}
        for variant in manifest.variants:
            named |= {variant.file, variant.golden}
        return _tar([folder / name for name in sorted(named)])

    def versions(self) -> dict[str, list[str]]:
        """Every model that is there, with its versions in ascending order."""
        names = {name for folder in self._dirs for name in _children(folder) if _name.match(name)}
        found = {name: sorted(self._folders(name), key=version_key) for name in sorted(names)}
        return {name: versions for name, versions in found.items() if versions}

    def _folders(self, name: str) -> dict[str, Path]:
        """Version to folder; the first folder that has a version wins."""
        found: dict[str, Path] = {}
        for folder in self._dirs:
            for version in _children(folder / name):
                package = folder / name / version
                if _version.match(version) and (package / MANIFEST).is_file():
                    found.setdefault(version, package)
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


def _tar(files: Sequence[Path]) -> Iterator[bytes]:
    """Raises: Rejected."""
    total = 0
    for path in files:
        try:
            size = path.stat().st_size
            header = _header(path.name, size)
            yield header
            sent = 0
            with path.open("rb") as file:
                while chunk := file.read(min(CHUNK_BYTES, size - sent)):
                    sent += len(chunk)
                    yield chunk
        except OSError as error:
            raise Rejected(
                f"pack model: file {path.name}: {error.strerror}", hint="install the package again"
            ) from error
        if sent != size:
            raise Rejected(f"pack model: file {path.name}: expected {size} bytes, got {sent}")
        padding = -size % tarfile.BLOCKSIZE
        yield bytes(padding)
        total += len(header) + size + padding
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(total + end) % tarfile.RECORDSIZE)


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, 0
    return entry.tobuf(format=tarfile.PAX_FORMAT)
