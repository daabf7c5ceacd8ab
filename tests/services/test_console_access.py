from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.core.errors import ConfigError
from edge_agent.services.console.access import (
    Peer,
    bind_loopback,
    bind_unix,
    is_own_name,
    make_runtime_dir,
    may_write,
    peer_of,
)


@pytest.mark.parametrize(
    ("uid", "gids", "admin_gid", "expected"),
    [
        (0, {0}, None, True),
        (900, {900}, None, True),
        (1000, {1000, 27}, 77, False),
        (1000, {1000, 77}, 77, True),
        (1000, {1000, 77}, None, False),
        (901, {900}, None, False),
    ],
)
def test_root_the_service_and_its_admins_may_write(
    uid: int, gids: set[int], admin_gid: int | None, expected: bool
) -> None:
    peer = Peer(1, uid, frozenset(gids))
    assert may_write(peer, own_uid=900, admin_gid=admin_gid) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:9810", True),
        ("LocalHost:8000", True),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:80", False),
        ("evil.example", False),
        ("127.0.0.1:9810@evil.example", False),
        ("localhost\n", False),
        ("", False),
        (None, False),
    ],
)
def test_only_loopback_names_are_ours(host: str | None, expected: bool) -> None:
    assert is_own_name(host) is expected


def test_the_kernel_tells_who_the_peer_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert {os.getegid(), *os.getgroups()} <= peer.gids


def test_the_kernel_tells_every_group_of_the_peer(tmp_path: Path) -> None:
    """A member of the admin group was refused: the question was too long, and its error hidden."""
    more = list(range(60_000, 60_200)) if os.geteuid() == 0 else None  # root alone may choose them
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
        subprocess.run([sys.executable, "-c", code], extra_groups=more, check=True, timeout=20)
        with server.accept()[0] as connection:
            peer = peer_of(connection)
    assert set(more or os.getgroups()) <= peer.gids
    assert more is None or may_write(peer._replace(uid=1), own_uid=2, admin_gid=60_199)


def test_a_runtime_dir_is_private_and_one_that_was_prepared_keeps_its_group(tmp_path: Path) -> None:
    made, prepared = tmp_path / "a" / "made", tmp_path / "prepared"
    prepared.mkdir()
    prepared.chmod(0o755)
    for folder in (made, prepared):
        make_runtime_dir(folder)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE(prepared.stat().st_mode) == 0o750


def test_a_runtime_dir_that_cannot_be_made_is_the_operators(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="runtime_dir: make"):
        make_runtime_dir(tmp_path / "file" / "run")


def test_a_stale_socket_is_replaced_and_the_mode_is_set(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind_unix(path).close()
    with bind_unix(path), socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        client.connect(str(path))


def test_what_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with pytest.raises(ConfigError, match="no socket is in the way"):
        bind_unix(path)
    assert path.read_text() == "kept"


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 107 bytes") as caught:
        bind_unix(tmp_path / ("x" * 120))
    assert caught.value.hint == "name a shorter runtime_dir"


def test_a_loopback_port_can_be_free_or_taken() -> None:
    with bind_loopback(0) as first:
        host, port = first.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(OSError, match="in use"):
            bind_loopback(port)
