"""A model package as a folder of files: read its manifest, pack it, take it out of its tar.

Knows one package and where it lies, never which others there are. The form of the tar is
`core.package`'s; whoever unpacks says which sha256 the tar must have.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from edge_agent.core import package
from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import Manifest, parse_manifest
from edge_agent.core.package import MANIFEST, MAX_MANIFEST_BYTES, PIECE_BYTES, Member, Piece, is_sha
from edge_agent.held import Held, hold, of_reading, open_plain
from edge_agent.stores.files import DISK, Disk, read_bounded

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


class PackageLook(NamedTuple):
    """A package as it was read. sha: sha256 hex of its tar. manifest: of these very bytes."""

    sha: str
    manifest: Manifest


Keep = Callable[[Manifest], Collection[str]]  # which files are wanted


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a package `<name>/<version>/` or `<name>/<sha256>/`.

    Raises: Rejected, also when it is another model's; Damaged when it can't be read just now.
    """
    return _of_folder(folder, load_manifest(folder / MANIFEST, _origin(folder)))


def _origin(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}/{MANIFEST}"


def _of_folder(folder: Path, manifest: Manifest) -> Manifest:
    """Raises: Rejected."""
    version = manifest.version if is_sha(folder.name) else folder.name
    if (manifest.name, manifest.version) != (folder.parent.name, version):
        raise Rejected(
            f"read manifest {_origin(folder)}: expected the name and version of its folders, "
            f"got {manifest.name} {manifest.version}",
            hint=f"move the package to {manifest.name}/{manifest.version}",
        )
    return manifest


def load_manifest(path: Path, origin: str) -> Manifest:
    """origin: how messages call it.

    Raises: Rejected; Damaged when it can't be read just now.
    """
    try:
        content = read_bounded(path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise of_reading(f"read manifest {origin}", path, error) from error
    return decode_manifest(content, origin)


def decode_manifest(content: bytes, origin: str) -> Manifest:
    """Raises: Rejected."""
    try:
        fields: dict[str, Any] = _toml.loads(content.decode())
    except (_toml.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(f"read manifest {origin}: {error}", hint="repack the model") from error
    return parse_manifest(fields, origin=origin)


def held(folder: Path, keep: Keep = lambda _: ()) -> tuple[Held, Manifest]:
    """Reads every byte of a package once; what `keep` names can be used as it was hashed.

    Raises: Rejected; Damaged when it can't be read just now; Overloaded when there is no memory.
    """
    first = read_manifest(folder)
    names = package.names_of(first)
    found = hold(folder, names, set(keep(first)) - {MANIFEST})
    try:
        manifest = _of_folder(folder, decode_manifest(found.manifest, _origin(folder)))
        if manifest != first:
            raise Rejected(
                f"read manifest {_origin(folder)}: it changed while it was read", hint="try again"
            )
    except Rejected:
        found.close()
        raise
    return found, manifest


def look(folder: Path) -> PackageLook:
    """What a package is; reads every byte.

    Raises: Rejected; Damaged when it can't be read just now.
    """
    found, manifest = held(folder)
    with found:
        return PackageLook(found.sha, manifest)


def pack(folder: Path, manifest: Manifest) -> Iterator[bytes]:
    """The package as its tar, in pieces: the manifest and every file that it names.

    Raises: Rejected.
    """
    length = 0
    for name in package.names_of(manifest):
        path = folder / name
        try:
            size = path.stat().st_size
            yield package.header(name, size)
            sent = 0
            with open_plain(path, doing="pack") as file:
                while content := file.read(min(PIECE_BYTES, size - sent)):
                    sent += len(content)
                    yield content
        except OSError as error:
            raise Rejected(
                f"pack model: file {name}: {error.strerror}", hint="install the package again"
            ) from error
        if sent != size:
            raise Rejected(f"pack model: file {name}: expected {size} bytes, got {sent}")
        yield package.padding(size)
        length += len(package.header(name, size)) + size + len(package.padding(size))
    yield package.ending(length)


def identity(folder: Path, manifest: Manifest) -> str:
    """sha256 hex of its tar; reads every byte.

    Raises: Rejected; Damaged when it can't be read just now.
    """
    with hold(folder, package.names_of(manifest)) as found:
        return found.sha


def size_of(folder: Path, manifest: Manifest) -> int:
    """How long its tar is; reads no byte of it.

    Raises: OSError.
    """
    names = package.names_of(manifest)
    return package.length_of((folder / name).stat().st_size for name in names)


def facts_of(folder: Path, manifest: Manifest) -> list[tuple[int, ...]]:
    """What changes when somebody writes into its files; nothing when one can't be looked at."""
    try:
        stats = [(folder / name).stat() for name in package.names_of(manifest)]
    except OSError:
        return []
    return [(one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats]


def sha_of(tar: BinaryIO, *, max_bytes: int = package.MAX_PACKAGE_BYTES) -> str:
    """sha256 hex of a tar of the one form.

    Raises: Rejected for any other, OSError.
    """
    digest = hashlib.sha256()
    for _ in package.read(_taking(tar, digest), max_bytes=max_bytes):
        pass
    return digest.hexdigest()


def unpack(tar: BinaryIO, into: Path, sha: str, *, disk: Disk = DISK) -> Manifest:
    """Every file of a tar into an empty folder, durably; nothing is promised unless it returns.

    Raises: Rejected when it is not in the one form, not what its manifest says or not `sha`;
    OSError.
    """
    digest = hashlib.sha256()
    files = _Files(into, disk)
    try:
        for piece in package.read(_taking(tar, digest)):
            files.put(piece)
        files.finish()
    finally:
        files.close()
    if digest.hexdigest() != sha:
        raise Rejected(
            f"read package: expected sha256 {sha}, got {digest.hexdigest()}", hint="fetch it again"
        )
    disk.sync_folder(into)
    if MANIFEST not in {member.name for member in files.members}:
        raise Rejected(f"read package: expected a file {MANIFEST}", hint=package.REPACK)
    manifest = load_manifest(into / MANIFEST, f"{sha[:16]}/{MANIFEST}")
    package.check_members(manifest, files.members)
    return manifest


class _Files:
    """The files of one package, one after the other, each on the disk before the next begins."""

    def __init__(self, into: Path, disk: Disk) -> None:
        self.members: list[Member] = []
        self._into = into
        self._disk = disk
        self._file: BinaryIO | None = None

    def put(self, piece: Piece) -> None:
        if self._file is None or piece.member != self.members[-1]:
            self.finish()
            self.members.append(piece.member)
            self._file = self._disk.create(self._into / piece.member.name)
        self._disk.write(self._file, piece.content)

    def finish(self) -> None:
        if self._file is not None:
            self._disk.sync(self._file)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _taking(tar: BinaryIO, digest: hashlib._Hash) -> package.Take:
    """What is read is hashed as it is read, so that nobody can change it in between."""

    def take(size_bytes: int) -> bytes:
        content = tar.read(size_bytes)
        digest.update(content)
        return content

    return take
