"""Files that are either old or new after a power cut, and reads that have a bound.

`Disk` holds the few effects that every durable change is made of. What has to survive a power cut
calls nothing else, so that a test can put a recorder in its place and cut after each of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_agent.core.errors import Rejected
from edge_agent.held import open_plain


class Disk:
    """Each method is one effect, and raises OSError. What it writes is not durable before `sync`,
    what it names, renames and removes not before `sync_folder`.
    """

    def create(self, path: Path, *, mode: int = 0o600) -> BinaryIO:
        """A new file, never one that is there and never through a link."""

        def opener(name: str, flags: int) -> int:
            return os.open(name, flags | os.O_NOFOLLOW, mode)

        return open(path, "xb", buffering=0, opener=opener)

    def extend(self, path: Path) -> BinaryIO:
        """A file that is there, to write behind its end."""
        return open(path, "r+b", buffering=0, opener=_at_its_end)

    def write(self, file: BinaryIO, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]

    def reserve(self, file: BinaryIO, size_bytes: int) -> None:
        """Blocks of the disk, held by this file."""
        os.posix_fallocate(file.fileno(), 0, size_bytes)

    def cut(self, file: BinaryIO, size_bytes: int) -> None:
        """Takes away what is behind, and goes there."""
        file.truncate(size_bytes)
        file.seek(size_bytes)

    def sync(self, file: BinaryIO) -> None:
        os.fsync(file.fileno())

    def rename(self, old: Path, new: Path) -> None:
        """Over a file that is there; never over a folder that holds anything."""
        os.replace(old, new)  # noqa: PTH105 - one effect, one call

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def sync_folder(self, path: Path) -> None:
        """Makes the names in a folder durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: Path, max_bytes: int) -> bytes:
        """As `read_bounded`; here so that a test can have a disk that does not read."""
        return read_bounded(path, max_bytes)

    def pause(self, seconds: float) -> None:
        """Until what failed is tried again."""
        time.sleep(seconds)


DISK = Disk()


def write_atomic(path: Path, content: bytes, *, mode: int = 0o600, disk: Disk = DISK) -> None:
    """Writes beside `path`, flushes to the disk, renames over it, flushes the folder.

    Raises: OSError; then the old content is still there and nothing else.
    """
    with written_beside(path, content, mode=mode, disk=disk) as beside:
        disk.rename(beside, path)
    disk.sync_folder(path.parent)


def write_once(path: Path, content: bytes, *, mode: int = 0o600, disk: Disk = DISK) -> bool:
    """As `write_atomic`, but never over what is there, and then False: of two who make it at once,
    one does.

    Raises: OSError.
    """
    if os.path.lexists(path):
        return False
    with written_beside(path, content, mode=mode, disk=disk) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without links; nobody else is at it, most likely
            disk.rename(beside, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(beside)
    disk.sync_folder(path.parent)
    return True


@contextmanager
def written_beside(
    path: Path, content: bytes, *, mode: int = 0o600, disk: Disk = DISK
) -> Iterator[Path]:
    """What `path` shall hold, flushed, in `.NAME.XXXXXXXX` beside it, for a rename over it.

    Raises: OSError; then nothing of it stays, unless the power goes (`stores.leftovers`).
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with gone_if_it_fails(beside, disk):
        with disk.create(beside, mode=0o600) as file:
            disk.write(file, content)
            os.fchmod(file.fileno(), mode)
            disk.sync(file)
        yield beside


@contextmanager
def gone_if_it_fails(path: Path, disk: Disk = DISK) -> Iterator[None]:
    """A new file that is not finished does not stay."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # why it failed is what has to be said
            disk.unlink(path)
        raise


def make_folder(path: Path, *, disk: Disk = DISK) -> None:
    """A folder of ours (0700) that is there after a power cut too, with those above it. A file in
    its own place is put aside: no write would ever succeed below it.

    Raises: OSError.
    """
    if path.is_dir():
        return
    if path.exists():
        disk.rename(path, path.with_name(f"{path.name}.aside.{secrets.token_hex(4)}"))
    _make_folder(path, disk)


def _make_folder(path: Path, disk: Disk) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent, disk)
    with contextlib.suppress(FileExistsError):  # another process of ours was quicker
        disk.mkdir(path)
    disk.sync_folder(path.parent)


def make_way(path: Path, *, disk: Disk = DISK) -> Path | None:
    """What stands in the place of a file and is none is put aside, as `NAME.aside.XXXXXXXX`; where
    it is now, or None. A folder, a pipe or a loop of links there would fail every write for ever.

    Raises: OSError.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError:
        if not path.is_symlink():
            raise
    else:
        if stat.S_ISREG(mode):
            return None
    aside = path.with_name(f"{path.name}.aside.{secrets.token_hex(4)}")
    disk.rename(path, aside)
    return aside


def remove_tree(path: Path, *, disk: Disk = DISK) -> int:
    """A folder and all that is in it, links not followed; the bytes that were in its files.

    Raises: OSError.
    """
    freed = 0
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.is_symlink():
            freed += remove_tree(child, disk=disk)
        else:
            freed += child.lstat().st_size
            disk.unlink(child)
    disk.rmdir(path)
    return freed


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable.

    Raises: OSError.
    """
    DISK.sync_folder(folder)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a file, never more than `max_bytes`.

    Raises: Rejected when it is larger, or no plain file; OSError.
    """
    with open_plain(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise Rejected(f"read {path.name}: expected at most {max_bytes} bytes, got more")
    return content


def _at_its_end(name: str, flags: int) -> int:
    descriptor = os.open(name, flags | os.O_NOFOLLOW)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor
