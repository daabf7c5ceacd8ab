"""Looks at a camera's device node before OpenCV does, which never says why it can't open one.

Only a node of video4linux is opened: for some other devices (a watchdog) that alone is too much.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import pwd
import stat
from collections.abc import Iterator

from edge_agent import cameras
from edge_agent.cameras import HERE, Roots
from edge_agent.core import v4l2
from edge_agent.core.errors import Rejected, SourceLost

AGAIN = "the next try follows"
AT_WHERE = "correct source.where"
AT_BUSY = "one program at a time can have its pictures: find the other (sudo fuser -v /dev/video*)"
AT_SERVICE = "the service may not open devices: DeviceAllow=char-video4linux rw in its unit"
AT_DRIVER = "plug it in again; see its driver's words (dmesg)"
AT_INTERLACED = "moving edges are combed; let the grabber or the machine before it deinterlace"
GONE = (errno.ENXIO, errno.ENODEV, errno.EIO, errno.ENOENT)


def check(path: str, where: str, roots: Roots = HERE) -> None:
    """A camera that OpenCV may try. where: how it is spoken of.

    Raises: SourceLost when it may come by itself: it is not there, gone, busy, or we may not open
    it; Rejected when this is no camera.
    """
    mode = _present(path, where, roots)
    kind = next((words for is_it, words in _KINDS if is_it(mode.st_mode)), "")
    if kind == "a folder":
        raise _no_camera(where, kind, roots)
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise _denied(where, mode)
    if kind or os.major(mode.st_rdev) != v4l2.MAJOR:
        raise _no_camera(where, kind or "another kind of device", roots)
    with _opened(path, where) as fd:
        _check_camera(fd, path, where, roots)


def details(path: str) -> dict[str, str]:
    """What its driver says of a camera that is open elsewhere; words for `streams probe`."""
    try:
        with _opened(path, path) as fd:
            able = v4l2.capability(_asked(fd, v4l2.QUERYCAP, bytes(v4l2.CAPABILITY_BYTES)))
            said = {"camera": f"{able.card} ({able.driver})"}
            order = v4l2.fields(_asked(fd, v4l2.G_FMT, v4l2.format_question(able.caps)))
    except (OSError, SourceLost, ValueError):
        return {}
    return said | ({"fields": f"{order}: {AT_INTERLACED}"} if order else {})


_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a plain file"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a disk"),
)


def _present(path: str, where: str, roots: Roots) -> os.stat_result:
    """Raises: SourceLost."""
    try:
        return os.stat(path)  # noqa: PTH116 - bytes that are no text
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
    if number == errno.EACCES:
        raise SourceLost(
            f"open {where}: no permission for a folder on the way to it",
            hint=f"let the service's user ({_user()}) into that folder",
        )
    is_link = number == errno.ENOENT and os.path.islink(path)  # noqa: PTH114 - as above
    got = "a link to a device that is not there" if is_link else "it is not there"
    there = v4l2.listed(cameras.by_id(roots), cameras.nodes(roots))
    raise SourceLost(
        f"open {where}: {got}; {there}", hint=f"plug it in, or {AT_WHERE}; {AGAIN}"
    ) from None


def _denied(where: str, found: os.stat_result) -> SourceLost:
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    mode = stat.S_IMODE(found.st_mode)
    return SourceLost(
        f"open {where}: no permission: it belongs to group {group}, mode {mode:04o}",
        hint=v4l2.permission(group, mode, _user()),
    )


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _no_camera(where: str, got: str, roots: Roots) -> Rejected:
    there = v4l2.listed(cameras.by_id(roots), cameras.nodes(roots))
    return Rejected(
        f"open {where}: expected a camera, got {got}; {there}", hint=f"{AT_WHERE}; {AGAIN}"
    )


@contextlib.contextmanager
def _opened(path: str, where: str) -> Iterator[int]:
    """Raises: SourceLost."""
    try:
        if os.major(os.stat(path).st_rdev) != v4l2.MAJOR:  # noqa: PTH116 - bytes that are no text
            raise SourceLost(f"open {where}: it was exchanged meanwhile", hint=AGAIN)
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise _not_opened(where, error) from None
    try:
        if os.major(os.fstat(fd).st_rdev) != v4l2.MAJOR:  # and again
            raise SourceLost(f"open {where}: it was exchanged meanwhile", hint=AGAIN)
        yield fd
    finally:
        os.close(fd)


def _not_opened(where: str, error: OSError) -> SourceLost:
    if error.errno == errno.EBUSY:
        return SourceLost(f"open {where}: it is busy, another program has it", hint=AT_BUSY)
    if error.errno in (errno.EPERM, errno.EACCES):
        return SourceLost(f"open {where}: the system does not let this service", hint=AT_SERVICE)
    if error.errno in GONE:
        return SourceLost(f"open {where}: no device answers behind its name", hint=AT_DRIVER)
    return SourceLost(f"open {where}: {error.strerror}", hint=AT_DRIVER)


def _check_camera(fd: int, path: str, where: str, roots: Roots) -> None:
    """Raises: SourceLost, Rejected."""
    try:
        able = v4l2.capability(_asked(fd, v4l2.QUERYCAP, bytes(v4l2.CAPABILITY_BYTES)))
    except (OSError, ValueError) as error:
        if getattr(error, "errno", errno.ENOTTY) in (errno.ENOTTY, errno.EINVAL):
            raise _no_camera(where, "another kind of device", roots) from None
        raise SourceLost(f"open {where}: its driver does not answer", hint=AT_DRIVER) from None
    if not able.is_camera:
        own = cameras.sibling(os.path.realpath(path), roots)
        if own:
            raise Rejected(
                f"open {where}: expected a camera, got {able.kind}; its pictures are at {own}",
                hint=f"source.where = {own!r}, or its name in /dev/v4l/by-id",
            )
        raise _no_camera(where, able.kind, roots)
    with contextlib.suppress(OSError):
        _check_free(fd, able.caps, where)


def _check_free(fd: int, caps: int, where: str) -> None:
    """Raises: SourceLost; OSError from a driver that does not know the question."""
    try:
        _asked(fd, v4l2.REQBUFS, v4l2.release_question(caps))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise SourceLost(
                f"open {where}: it is busy, another program has it", hint=AT_BUSY
            ) from None
        raise


def _asked(fd: int, question: int, content: bytes) -> bytes:
    """Raises: OSError."""
    return fcntl.ioctl(fd, question, content)
