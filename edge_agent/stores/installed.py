"""Installed model packages by their content, and which version of each model is current.

    <root>/us-chamber/<sha256>/manifest.toml ...   complete, or not there
    <root>/us-chamber/pointers.json                current and previous, replaced in one write
    <root>/us-chamber/pointers.copy.json           the same again, see `stores.document`
    <root>/.incoming/<sha256>/                     a download, with room held for its unpacking
    <root>/.making/ .dropping/                     what a power cut may leave; `collect` sweeps it

A package gets its name by one rename, after every byte of it is on the disk; it loses its name by
one rename before the first file goes. So a power cut leaves old or new, and whatever was cut off is
done again by calling the same method again. One process changes at a time (flock); any may read.
Only a commit or a roll-back moves a pointer. Never decides what is wanted, nor what is good.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.core.errors import SHORT, Damaged, NoRoom, Overloaded, Rejected, of_system
from edge_agent.core.package import MAX_PACKAGE_BYTES, is_sha
from edge_agent.held import open_plain
from edge_agent.stores import package
from edge_agent.stores.files import (
    DISK,
    Disk,
    gone_if_it_fails,
    make_folder,
    remove_tree,
)
from edge_agent.stores.shelf import POINTERS, POINTERS_COPY, Package, Pointers, Shelf, children

_LEFT = tuple(f".{name}." for name in (POINTERS, POINTERS_COPY))
ROOM = "room"  # holds blocks of the disk until the package is unpacked into them
KEEP_FREE_BYTES = 64 << 20  # of the disk, for whoever else writes
LOCK_TRIES, LOCK_PAUSE_S = 1200, 0.05


class Installed(Shelf):
    """The store, for those who change it too. Every method blocks; none is for the event loop.

    limit_bytes: of all packages, and of the downloads that have room reserved.
    Each method that changes raises Damaged when the disk fails, Overloaded when it is full.
    """

    def __init__(
        self,
        root: Path,
        *,
        limit_bytes: int,
        keep_free_bytes: int = KEEP_FREE_BYTES,
        disk: Disk = DISK,
    ) -> None:
        super().__init__(root, disk=disk)
        self._limit_bytes = limit_bytes
        self._keep_free_bytes = keep_free_bytes
        self._incoming = root / ".incoming"
        self._making = root / ".making"
        self._dropping = root / ".dropping"

    def reserve(self, sha: str, size_bytes: int) -> Path:
        """The folder of a download, with as much of the disk held as its package will take.

        Called again it keeps what was downloaded. Raises: Overloaded with what would make room;
        Rejected.
        """
        _check_sha(sha)
        if not 0 < size_bytes <= MAX_PACKAGE_BYTES:
            raise Rejected(
                f"install package {sha[:16]}: expected 1 to {MAX_PACKAGE_BYTES} bytes, "
                f"got {size_bytes}"
            )
        folder = self._incoming / sha
        with self._changing(f"reserve room for package {sha[:16]}"):
            if _size(folder / ROOM) >= size_bytes:
                return folder
            self._check_room(sha, size_bytes)
            make_folder(folder, disk=self._disk)
            self._hold(folder / ROOM, size_bytes)
        return folder

    def admit(self, tar: Path, sha: str) -> Path:
        """Unpacks a package and gives it its name, durably. One that is there and sound stays.

        Raises: Rejected when the tar is not that package.
        """
        _check_sha(sha)
        with self._changing(f"install package {sha[:16]}"):
            there = self.folder(sha)
            if there is not None and self.has(sha):
                return there
            making = self._making / sha
            self._remove(making)
            self._remove(self._incoming / sha / ROOM)
            make_folder(making, disk=self._disk)
            try:
                with open_plain(tar) as file:
                    manifest = package.unpack(file, making, sha, disk=self._disk)
                return self._name(making, manifest.name, there)
            except BaseException:
                self._remove(making)
                raise

    def commit(self, name: str, sha: str) -> None:
        """Makes `sha` current, and previous what was; in one write. Nothing when it is current.

        Raises: Rejected when that package is not installed.
        """
        with self._changing(f"commit model {name}"):
            if not (is_sha(sha) and (self.root / name / sha).is_dir()):
                raise Rejected(f"commit model {name}: package {sha[:16]} is not installed")
            before = self._pointers_or_rotten(name)
            if before is None or before.current != sha:
                before = before or Pointers()
                self._point(name, Pointers(current=sha, previous=before.current))

    def _pointers_or_rotten(self, name: str) -> Pointers | None:
        """None: rotten in both copies, they name nothing any more. Raises: Overloaded, Damaged."""
        try:
            return self.pointers(name)
        except Damaged as error:
            if not error.healable:  # nobody can read them now: what they name is not lost
                raise
            return None

    def roll_back(self, name: str, *, leaving: str = "", to_folders: bool = False) -> str:
        """Makes current what is previous, in one write. Returns it; "": what the folders say.

        leaving: only when this one is current, so that it can be asked for again after a cut.
        to_folders: a version in the folders of the configuration is there to go back to.
        Raises: Rejected when there is nothing to go back to.
        """
        with self._changing(f"roll back model {name}"):
            before = self.pointers(name)
            if leaving and before.current != leaving:
                return before.current
            is_there = (self.root / name / before.previous).is_dir()
            if not before.current or not (is_there if before.previous else to_folders):
                raise Rejected(
                    f"roll back model {name}: there is no previous version",
                    hint="edge-agent models list",
                )
            self._point(name, Pointers(current=before.previous))
            return before.previous

    def revert(self, name: str, leaving: str, target: str) -> None:
        """Makes `target` current and nothing previous, in one write; "": what the folders say.

        Only while `leaving` is current, so that it can be asked for again. Raises: Rejected when
        `target` is not installed.
        """
        with self._changing(f"roll back model {name}"):
            before = self._pointers_or_rotten(name)
            if before is not None and before.current != leaving:
                return
            if target and not (is_sha(target) and (self.root / name / target).is_dir()):
                raise Rejected(f"roll back model {name}: package {target[:16]} is not installed")
            self._point(name, Pointers(current=target))

    def collect(self, keep: Collection[str] = ()) -> int:
        """Removes what no pointer and nobody in `keep` names, and what was cut off; bytes freed."""
        freed = 0
        with self._changing("collect packages"):
            for place in (self._making, self._dropping):
                freed += sum(self._remove(place / name) for name in children(place))
            for sha in children(self._incoming):
                freed += 0 if sha in keep else self._drop(self._incoming / sha)
            for name in self.names():
                freed += self._collect(name, keep)
        return freed

    def forget_incoming(self, sha: str) -> None:
        """A download is over, or given up."""
        _check_sha(sha)
        with self._changing(f"forget download {sha[:16]}"):
            if (self._incoming / sha).is_dir():
                self._drop(self._incoming / sha)

    # ── parts of the above, all under the lock ────────────────────────────────────────────────

    def _check_room(self, sha: str, size_bytes: int) -> None:
        have = self.have()
        rooms = [other for other in children(self._incoming) if other != sha]
        used = sum(one.bytes for one in have)
        used += sum(_size(self._incoming / other / ROOM) for other in rooms)
        idle = ", ".join(f"{one.name} {one.version}" for one in have if not _is_pointed(self, one))
        hint = f"nothing uses {idle}: collect them" if idle else "edge-agent models list"
        if used + size_bytes > self._limit_bytes:
            raise NoRoom(
                f"install package {sha[:16]}: expected {size_bytes} bytes of room, "
                f"{used} of {self._limit_bytes} are used",
                hint=f"{hint}, or raise rollouts.store_bytes",
            )
        disk = os.statvfs(self.root)
        free, wanted = disk.f_bavail * disk.f_frsize, 2 * size_bytes + self._keep_free_bytes
        if free < wanted:  # the download, and then the package beside it
            raise NoRoom(
                f"install package {sha[:16]}: expected {wanted} bytes free on the disk, got {free}",
                hint=f"{hint}, or free the disk",
            )

    def _hold(self, room: Path, size_bytes: int) -> None:
        self._remove(room)
        with gone_if_it_fails(room, self._disk), self._disk.create(room) as file:
            self._disk.reserve(file, size_bytes)
            self._disk.sync(file)
        self._disk.sync_folder(room.parent)

    def _name(self, making: Path, name: str, damaged: Path | None) -> Path:
        """All of it is on the disk; from this rename on, it is installed."""
        folder = self.root / name / making.name
        make_folder(folder.parent, disk=self._disk)
        if damaged is not None:
            self._drop(damaged)
        self._disk.rename(making, folder)
        self._disk.sync_folder(folder.parent)
        self._disk.sync_folder(making.parent)
        return folder

    def _point(self, name: str, pointers: Pointers) -> None:
        content = json.dumps({"schema": 1, **pointers._asdict()})
        self._document(name).write(content.encode())

    def _collect(self, name: str, keep: Collection[str]) -> int:
        freed = 0
        for leftover in children(self.root / name):
            if leftover.startswith(_LEFT):
                freed += self._remove(self.root / name / leftover)
        try:
            pointed = self.pointers(name)
        except (Damaged, Overloaded):
            return freed  # any of them may be the one
        with contextlib.suppress(Damaged, Overloaded):  # the next one tries again
            self._document(name).mend()
        for sha in self.shas(name):
            if sha not in keep and sha not in pointed:
                freed += self._drop(self.root / name / sha)
        return freed

    def _drop(self, path: Path) -> int:
        """It loses its name durably before the first file of it goes."""
        target = self._dropping / path.name
        make_folder(self._dropping, disk=self._disk)
        self._remove(target)
        self._disk.rename(path, target)
        self._disk.sync_folder(path.parent)
        self._disk.sync_folder(self._dropping)
        return self._remove(target)

    def _remove(self, path: Path) -> int:
        """What has no name that counts; nothing when it is not there."""
        if path.is_dir() and not path.is_symlink():
            return remove_tree(path, disk=self._disk)
        if not os.path.lexists(path):
            return 0
        size = _size(path)
        self._disk.unlink(path)
        return size

    @contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        try:
            make_folder(self.root, disk=self._disk)
            with _locked(self.root / ".lock", what):
                yield
        except OSError as error:
            if error.errno in SHORT:
                raise of_system(what, error) from error
            hint = f"check {self.root}: its rights, its disk (dmesg)"
            raise of_system(what, error, hint) from error


def _is_pointed(shelf: Shelf, one: Package) -> bool:
    try:
        return one.sha in shelf.pointers(one.name)
    except (Damaged, Overloaded):
        return True


def _check_sha(sha: str) -> None:
    if not is_sha(sha):
        raise Rejected(f"find package: expected its sha256 in hex, got {sha[:80]!r}")


def _size(path: Path) -> int:
    """0 where there is no such file."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    """Waits for its turn; the kernel gives the lock back when its holder dies.

    Raises: Overloaded after a minute, OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for attempt in range(LOCK_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if attempt + 1 == LOCK_TRIES:
                raise Overloaded(
                    f"{what}: another process has been changing the store for "
                    f"{LOCK_TRIES * LOCK_PAUSE_S:.0f} s",
                    hint="edge-agent models history",
                )
            time.sleep(LOCK_PAUSE_S)
        yield
    finally:
        os.close(descriptor)
