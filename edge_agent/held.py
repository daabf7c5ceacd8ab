"""Files that are hashed as they are read, and used as they were hashed.

Between a look at a file and its use it may change: a disk rots, somebody copies over it. So what is
read goes through the hash into memory of this process, and whoever needs a path gets that of the
memory. A disk that gives other bytes the next time changes nothing any more.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.core import package
from edge_agent.core.errors import Damaged, Overloaded, Rejected, of_system

PIECE_BYTES: Final = 1 << 20
KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
ABSENT: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)
DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


def open_plain(path: Path, *, doing: str = "read") -> BinaryIO:
    """A plain file, to read. What stands in its place is refused: a pipe would be waited for, a
    device never ends. It is looked at before it is opened, because for some devices that is enough.

    Raises: Rejected; OSError.
    """
    _check_plain(path, doing, path.stat().st_mode)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_plain(path, doing, os.fstat(descriptor).st_mode)  # exchanged in between
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_plain(path: Path, doing: str, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    got = next((words for is_it, words in KINDS if is_it(mode)), "something else")
    raise Rejected(
        f"{doing} {path.name}: expected a plain file, got {got}",
        hint="name a file, or move it away",
    )


def of_reading(what: str, path: Path, error: OSError) -> Rejected | Damaged:
    """What is said of a file of a package that can't be read.

    Rejected: it is not there. Damaged, and not `healable`: nobody can read it just now, which says
    nothing of what is in it; it is tried again.
    """
    words = f"{what}: {error.strerror or error}"
    if error.errno in ABSENT:
        return Rejected(words, hint="reinstall it: a file of the package is missing")
    if error.errno in DENIED:
        return Damaged(words, hint=f"let the user of the service read {path.parent}")
    found = of_system(what, error)
    return Damaged(words, hint=found.hint)


class Held:
    """What was read of a package. sha: sha256 hex of its tar, of all files. Close it after use.

    manifest: the bytes of its manifest. Of the other files those that were asked for are kept, in
    memory that no file system knows.
    """

    def __init__(self) -> None:
        self.sha = ""
        self.manifest = b""
        self._kept: dict[str, int] = {}

    def __enter__(self) -> Held:  # noqa: PYI034 - Self is 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def path(self, name: str) -> Path:
        """Of the memory of a file that was kept; good until `close`.

        Raises: KeyError.
        """
        return Path(f"/proc/self/fd/{self._kept[name]}")

    def open(self, name: str) -> BinaryIO:
        """A file that was kept, from its beginning.

        Raises: KeyError.
        """
        return self.path(name).open("rb")

    def keep(self, name: str) -> Callable[[bytes], None]:
        """Who takes the pieces of a file, one after the other."""
        descriptor = self._kept[name] = os.memfd_create("edge-agent-package", os.MFD_CLOEXEC)

        def take(content: bytes) -> None:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]

        return take

    def close(self) -> None:
        """Again is harmless."""
        while self._kept:
            os.close(self._kept.popitem()[1])


def hold(folder: Path, names: Sequence[str], keep: Collection[str] = ()) -> Held:
    """Reads every byte of a package. names: all its files, as they stand in its tar.

    Raises: Rejected when one is missing, is no plain file or changes meanwhile; Damaged when one
    can't be read just now; Overloaded when there is no memory to keep it in.
    """
    held, digest, length = Held(), hashlib.sha256(), 0
    with contextlib.ExitStack() as undone:
        undone.callback(held.close)
        for name in names:
            size = _one(folder / name, held, digest, is_kept=name in keep)
            length += len(package.header(name, size)) + size + len(package.padding(size))
        digest.update(package.ending(length))
        held.sha = digest.hexdigest()
        undone.pop_all()
    return held


def _one(path: Path, held: Held, digest: hashlib._Hash, *, is_kept: bool) -> int:
    """The size of a file, which has gone through the hash."""
    what = f"read model {path.parent.parent.name}: file {path.name}"
    bound = package.MAX_FILE_BYTES
    takers: list[Callable[[bytes], None]] = [digest.update]
    if path.name == package.MANIFEST:
        bound, manifest = package.MAX_MANIFEST_BYTES, bytearray()
        takers.append(manifest.extend)
    elif is_kept:
        takers.append(_memory(what, held.keep(path.name)))
    try:
        with open_plain(path, doing=f"read model {path.parent.parent.name}: file") as file:
            size = os.fstat(file.fileno()).st_size
            if size > bound:
                raise Rejected(f"{what}: expected at most {bound} bytes, got {size}")
            digest.update(package.header(path.name, size))
            read = _through(file, size, takers)
    except OSError as error:
        raise of_reading(what, path, error) from error
    if read != size:
        raise Rejected(f"{what}: expected {size} bytes, got {read}", hint="reinstall it")
    digest.update(package.padding(size))
    if path.name == package.MANIFEST:
        held.manifest = bytes(manifest)
    return size


def _through(file: BinaryIO, size: int, takers: Sequence[Callable[[bytes], None]]) -> int:
    """At most so many bytes, and one more to know of it. Raises: OSError."""
    read = 0
    while content := file.read(min(PIECE_BYTES, size - read) or 1):
        read += len(content)
        if read > size:
            return read
        for take in takers:
            take(content)
    return read


def _memory(what: str, take: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """A taker whose errors are those of memory, not of the file that is read."""

    def taken(content: bytes) -> None:
        try:
            take(content)
        except OSError as error:
            raise Overloaded(
                f"{what}: no memory for {error.strerror}", hint="stop what else runs here"
            ) from error

    return taken
