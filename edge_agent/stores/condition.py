"""Whether a folder can be written, and why not: in words, with the fix that fits the cause.

What the kernel answers is one number; what a person has to do depends on it, on whose the folder
is, and on what stands in its place. Blocks; nothing here is for the event loop.
"""

from __future__ import annotations

import errno
import os
import pwd
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.core.errors import SHORT
from edge_agent.held import KINDS
from edge_agent.stores.files import DISK, Disk, gone_if_it_fails

PROBE_BYTES: Final = 4096
MAX_LOOKED: Final = 256  # names of a folder


class Condition(NamedTuple):
    """what: of the folder, to stand behind its name. fix: one action, with the path in it.

    is_full: what is there can be read and written over, and something may be given back.
    """

    what: str
    fix: str
    is_full: bool = False


def look(folder: Path, *, disk: Disk = DISK) -> Condition | None:
    """Makes the folder where there is none, and writes and flushes a page in it; None: it can be
    used. Nothing of that stays. Raises nothing for what is wrong with the disk.
    """
    beside = folder / f".probe.{secrets.token_hex(4)}"  # swept at a start, if the power goes
    try:
        make(folder)
        with gone_if_it_fails(beside, disk), disk.create(beside) as file:
            disk.write(file, bytes(PROBE_BYTES))
            disk.sync(file)
        disk.unlink(beside)
    except OSError as error:
        return explain(error, folder)
    return None


def look_inside(folder: Path) -> Condition | None:
    """A file in it, or in a folder of it, that is not ours to read and write: the agent was run
    once as somebody else. None: there is none.
    """
    places = [folder, *(folder / name for name in _children(folder))]
    for place in places[: 1 + MAX_LOOKED]:
        for name in _children(place):
            child = place / name
            want = os.R_OK | os.W_OK | (os.X_OK if child.is_dir() else 0)
            if os.path.lexists(child) and not os.access(child, want, effective_ids=True):
                return _whose(folder, PermissionError(errno.EACCES, "", str(child)))
    return None


def _children(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))[:MAX_LOOKED]  # noqa: PTH208 - names are wanted
    except OSError:
        return []


def make(folder: Path) -> None:
    """A private folder (0700); those above it are nobody's to write but ours. Raises: OSError."""
    for parent in reversed(folder.parents):
        if not parent.exists():
            parent.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_readable(folder: Path) -> bool:
    """Whether we can see what is in it and read its files; True of one that is not there."""
    try:
        for name in os.listdir(folder)[:MAX_LOOKED]:  # noqa: PTH208 - names are wanted
            if (folder / name).is_file():
                (folder / name).open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return True


def is_listed(folder: Path) -> bool:
    """Whether we can see what is in it; True of one that is not there."""
    try:
        os.listdir(folder)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return True


def explain(error: OSError, folder: Path) -> Condition:
    """What an error of the kernel means for a folder of ours."""
    number = error.errno or 0
    if number in (errno.EACCES, errno.EPERM):
        return _whose(folder, error)
    if number in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENOENT, errno.EISDIR):
        return _in_the_way(folder, error)
    make_words = _WORDS.get(number)
    if make_words is not None:
        return make_words(folder)
    reason = (error.strerror or str(error)).lower()
    if number in SHORT:
        return Condition(reason, "this machine is short of it at the moment; look what holds it")
    return Condition(reason, "check the disk: sudo dmesg | tail, sudo smartctl -a its device")


def _read_only(folder: Path) -> Condition:
    mount = mount_of(folder)
    return Condition(
        "its file system is read-only",
        f"an error of the disk does that (sudo dmesg | grep -i error): check it with fsck, then "
        f"sudo mount -o remount,rw {mount}",
    )


def _full(folder: Path) -> Condition:
    fix = f"make room on {mount_of(folder)} (df -h, and df -i for its inodes)"
    return Condition("its disk is full", fix, is_full=True)


def _over_quota(folder: Path) -> Condition:
    fix = f"raise it, or make room on {mount_of(folder)} (quota -u {_me()})"
    return Condition("the disk quota of its user is used up", fix, is_full=True)


def _too_long(_folder: Path) -> Condition:
    return Condition("its path is too long", "set a shorter state_dir")


_WORDS: Final[dict[int, Callable[[Path], Condition]]] = {
    errno.EROFS: _read_only,
    errno.ENOSPC: _full,
    errno.EDQUOT: _over_quota,
    errno.ENAMETOOLONG: _too_long,
}


def _whose(folder: Path, error: OSError) -> Condition:
    """The first one on the way that does not let us in, or the folder that is another's."""
    me = _me()
    for place in (*reversed(folder.parents), folder):
        try:
            found = place.stat()
        except OSError:
            return Condition(
                f"user {me} may not make it in {place.parent}",
                f"sudo install -d -o {me} -m 0700 {folder}",
            )
        if place != folder and not os.access(place, os.X_OK, effective_ids=True):
            return Condition(f"user {me} may not pass through {place}", f"sudo chmod a+x {place}")
    named = _named(error, folder)
    if found.st_uid != os.geteuid():
        words = f"it belongs to {_user(found.st_uid)}, the agent runs as {me}"
        return Condition(words, f"sudo chown -R {_owner()} {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        words = f"its mode {stat.S_IMODE(found.st_mode):04o} keeps its own user {me} out"
        return Condition(words, f"sudo chmod u+rwx {folder}")
    if named is not None and named.exists() and named.lstat().st_uid != os.geteuid():
        words = f"{named.name} belongs to {_user(named.lstat().st_uid)}, the agent runs as {me}"
        return Condition(words, f"sudo chown -R {_owner()} {folder}")
    words = (error.strerror or "permission denied").lower()
    return Condition(
        words, f"look at its attributes and rules: lsattr -d {folder}; getfacl {folder}"
    )


def _in_the_way(folder: Path, error: OSError) -> Condition:
    """Something stands where the folder, or one above it, has to be."""
    for place in (*reversed(folder.parents), folder):
        if place.is_dir():
            continue
        if place.is_symlink():
            return Condition(
                f"{place} is a link that leads nowhere",
                f"make what it names, or remove it: ls -l {place}",
            )
        if os.path.lexists(place):
            return Condition(
                f"{kind_of(place)} is in the place of {place}", f"sudo mv {place} {place}.aside"
            )
        return Condition(f"{place} is not there", f"sudo install -d -o {_me()} -m 0700 {folder}")
    named = _named(error, folder)
    if named is not None and os.path.lexists(named) and not named.is_file():
        words = f"{kind_of(named)} is in the place of {named.name}"
        return Condition(words, f"sudo mv {named} {named}.aside")
    return Condition((error.strerror or str(error)).lower(), f"look at it: ls -la {folder}")


def kind_of(path: Path) -> str:
    """In words: a folder, a named pipe, a file. Raises: OSError."""
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    mode = path.stat().st_mode
    return next((words for is_it, words in KINDS if is_it(mode)), "a file")


def mount_of(folder: Path) -> Path:
    """The mount point that a folder is on, as far as it is there."""
    there = Path(os.path.realpath(folder))
    while not os.path.ismount(there) and there != there.parent:
        there = there.parent
    return there


def _named(error: OSError, folder: Path) -> Path | None:
    """The file in the folder that the error is of, if it is of one."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    path = Path(name) if name else folder
    return path if folder in path.parents else None


def _me() -> str:
    return _user(os.geteuid())


def _owner() -> str:
    """As `chown` takes it: a number without a name has no group by itself."""
    me = _me()
    return f"{me}:{os.getegid()}" if me.isdigit() else f"{me}:"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
