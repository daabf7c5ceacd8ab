"""What lies in a watched folder and below it, looked at again and again at little cost.

A folder is listed anew when its own mtime says that something came or went, a file is looked at
again while it is young; everything is looked at only now and then. Links to folders are not
followed, and the depth, the folders and the entries are bounded.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.core.arrivals import Signature
from edge_agent.core.errors import SourceLost

MAX_DEPTH: Final = 8  # folders below the watched one
MAX_FOLDERS: Final = 10_000
MAX_ENTRIES: Final = 200_000  # files by name, of all folders
HOT_US: Final = 3_000_000  # a folder that changed is listed so long: its mtime is coarse
UNFINISHED: Final = (
    *(".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp"),
    *(".incomplete", ".inprogress", ".writing", ".lock", ".lck", "~"),
)
NOT_OURS: Final = ("lost+found", "system volume information", "$recycle.bin")


class Look(msgspec.Struct, kw_only=True):
    """found: files that were looked at. gone: paths where none is any more."""

    found: dict[str, Signature]
    gone: list[str]


class _Branch(msgspec.Struct, kw_only=True):
    """One folder. since_us: when this mtime was first seen. aside: names that are no clip's."""

    depth: int
    mtime_ns: int = -1
    since_us: int = 0
    files: set[str] = msgspec.field(default_factory=set)
    folders: list[str] = msgspec.field(default_factory=list)
    aside: int = 0
    links: int = 0
    is_cut: bool = False
    is_closed: bool = False  # may not be listed


class Tree:
    """`look` gives what changed since the last one. Paths are relative to the root."""

    def __init__(self, root: Path, pattern: str) -> None:
        self._root = root
        self._pattern = pattern
        self._branches: dict[str, _Branch] = {}
        self._entries = 0

    @property
    def folders(self) -> int:
        """Below the watched one."""
        return max(0, len(self._branches) - 1)

    @property
    def aside(self) -> int:
        """Files that are not finished by their name."""
        return sum(branch.aside for branch in self._branches.values())

    def bounds(self) -> list[str]:
        """What is not looked at, in words."""
        branches = self._branches.values()
        said = []
        if any(branch.is_cut for branch in branches):
            said.append(
                f"more than {MAX_DEPTH} folders deep, {MAX_FOLDERS} folders or {MAX_ENTRIES} files"
            )
        if closed := sum(branch.is_closed for branch in branches):
            said.append(f"{closed} folders that the agent's user may not list")
        return said

    @property
    def links(self) -> int:
        """Links to folders, not followed."""
        return sum(branch.links for branch in self._branches.values())

    def look(self, now_us: int, young: Collection[str], *, is_full: bool) -> Look:
        """young: files to be looked at in any case. is_full: all of them.

        Raises: SourceLost when the watched folder can't be listed.
        """
        look = Look(found={}, gone=[])
        fresh = set(young)
        listed: set[str] = set()
        reached = [""]
        for folder in reached:  # grows while it is walked
            branch = self._branches.setdefault(folder, _Branch(depth=_depth(folder)))
            try:
                if self._has_news(folder, branch, now_us) or is_full:
                    listed.add(folder)
                    self._list(folder, branch, look, fresh=None if is_full else fresh)
            except OSError as error:
                self._fail(folder, branch, error, look)
            reached += branch.folders
        for folder in self._branches.keys() - set(reached):
            branch = self._branches.pop(folder)
            self._entries -= len(branch.files)
            look.gone += branch.files
        for path in fresh:
            if path.rpartition("/")[0] not in listed:
                self._look_again(path, look)
        return look

    def _fail(self, folder: str, branch: _Branch, error: OSError, look: Look) -> None:
        if not folder:
            raise SourceLost(
                f"list the watched folder: {error.strerror}",
                hint="mount it again, or correct source.path",
            ) from None
        branch.is_closed = isinstance(error, PermissionError)
        self._entries -= len(branch.files)
        look.gone += branch.files
        branch.files, branch.folders, branch.mtime_ns = set(), [], -1

    def _has_news(self, folder: str, branch: _Branch, now_us: int) -> bool:
        mtime_ns = (self._root / folder).stat().st_mtime_ns
        if mtime_ns != branch.mtime_ns:
            branch.mtime_ns, branch.since_us = mtime_ns, now_us
            return True
        return now_us - branch.since_us < HOT_US

    def _list(self, folder: str, branch: _Branch, look: Look, fresh: set[str] | None) -> None:
        """fresh: files that are looked at though they are known; None: all."""
        before, self._entries = branch.files, self._entries - len(branch.files)
        branch.files, branch.folders = set(), []
        branch.aside = branch.links = 0
        branch.is_cut = branch.is_closed = False
        for path, entry in self._files(folder, branch):
            if fresh is not None and path in before and path not in fresh:
                branch.files.add(path)
                continue
            try:
                look.found[path] = _signature(entry.stat())
                branch.files.add(path)
            except OSError:  # gone between the listing and the look
                continue
        self._entries += len(branch.files)
        look.gone += before - branch.files

    def _files(self, folder: str, branch: _Branch) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Files that may be shown; notes what else there is."""
        count = 0
        with os.scandir(self._root / folder) as entries:
            for entry in entries:
                if self._entries + count >= MAX_ENTRIES:
                    branch.is_cut = True
                    return
                count += 1
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self._note_folder(path, entry.name, branch)
                elif not fnmatch(entry.name, self._pattern):
                    continue
                elif entry.name.lower().endswith(UNFINISHED) or entry.name.startswith("~"):
                    branch.aside += 1
                elif _is_file(entry):
                    yield path, entry
                elif entry.is_symlink():
                    branch.links += 1

    def _note_folder(self, path: str, name: str, branch: _Branch) -> None:
        if name.lower() in NOT_OURS:
            return
        is_full = len(self._branches) + len(branch.folders) > MAX_FOLDERS
        if branch.depth >= MAX_DEPTH or (is_full and path not in self._branches):
            branch.is_cut = True
        else:
            branch.folders.append(path)

    def _look_again(self, path: str, look: Look) -> None:
        try:
            status = (self._root / path).stat()
        except OSError:
            status = None
        if status is not None and stat.S_ISREG(status.st_mode):
            look.found[path] = _signature(status)
        else:
            look.gone.append(path)


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _signature(status: os.stat_result) -> Signature:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
