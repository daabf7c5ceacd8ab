"""Who may come in: sockets, peers, host names. Decisions are functions; sockets are bound here.

Writes need the UNIX socket and a known peer. Loopback HTTP answers only to its own names, so that
no web page can reach it by a name that was rebound to 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import socket
import stat
import struct
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.core.errors import ConfigError

ADMIN_GROUP: Final = "edge-agent-admin"
LOOPBACK: Final = "127.0.0.1"
MAX_SOCKET_PATH_BYTES = 107  # sun_path less its end
BACKLOG = 64
MAX_GROUPS = 256  # Python reads at most 1,024 bytes of a socket option, 4 for each
SO_PEERGROUPS: Final = 59  # asm-generic/socket.h, since Linux 4.13

_OWN_NAMES: Final = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)


class Peer(NamedTuple):
    """The process at the other end of the UNIX socket."""

    pid: int
    uid: int
    gids: frozenset[int]


def may_write(peer: Peer, *, own_uid: int, admin_gid: int | None) -> bool:
    """Root, the service's own user, or a member of the admin group."""
    return peer.uid in {0, own_uid} or (admin_gid is not None and admin_gid in peer.gids)


def is_own_name(host: str | None) -> bool:
    """Whether a Host header names this loopback."""
    return host is not None and _OWN_NAMES.fullmatch(host) is not None


def peer_of(sock: socket.socket) -> Peer:
    """Raises: OSError when the other end is gone."""
    layout = struct.Struct("3i")
    pid, uid, gid = layout.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    )
    gids = {gid}
    with contextlib.suppress(OSError):  # an old kernel, or more of them: the first has to do
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MAX_GROUPS)
        gids.update(number for (number,) in struct.iter_unpack("I", raw))
    return Peer(pid, uid, frozenset(gids))


def admin_gid() -> int | None:
    """The id of the admin group, None when this machine has none. Blocks."""
    try:
        return grp.getgrnam(ADMIN_GROUP).gr_gid
    except KeyError:
        return None


def make_runtime_dir(folder: Path) -> None:
    """0700 when we make it; what others prepared is only closed to everybody else. Blocks.

    Raises: ConfigError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & stat.S_IRWXO:
            folder.chmod(mode & ~stat.S_IRWXO)
    except OSError as error:
        raise ConfigError(
            "runtime_dir",
            f"make {folder}: {error.strerror}",
            hint="name a directory that this user may write",
        ) from error


def bind_unix(path: Path, *, mode: int = 0o660) -> socket.socket:
    """A listening socket at `path`; a stale one in its place goes. Blocks.

    Call it only under the lock of the state directory: whoever holds it has no living neighbour.

    Raises: ConfigError.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            "runtime_dir",
            f"bind {path}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes",
            hint="name a shorter runtime_dir",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if path.exists() and not path.is_socket():
            raise FileExistsError(0, "something that is no socket is in the way")
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(mode)
        sock.listen(BACKLOG)  # nobody could connect before the mode was right
    except OSError as error:
        sock.close()
        raise ConfigError(
            "runtime_dir",
            f"bind {path}: {error.strerror}",
            hint="name a directory that this user may write",
        ) from error
    return sock


def bind_loopback(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; port 0 takes a free one.

    Raises: OSError when the port is taken or not allowed.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((LOOPBACK, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock
