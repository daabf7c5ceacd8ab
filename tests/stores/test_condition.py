"""Whether a folder can be written: what is said fits the cause, and so does the fix."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.stores.condition import explain, is_readable, look, make, mount_of
from edge_agent.stores.files import Disk, make_way


class Refusing(Disk):
    """A disk that answers one number to every write."""

    def __init__(self, number: int) -> None:
        self.number = number

    def write(self, _file: object, _content: bytes) -> None:
        raise OSError(self.number, os.strerror(self.number))


def test_a_folder_that_can_be_written_is_made_private_and_left_as_it_was(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert look(tmp_path / "a" / "b") is None
    finally:
        os.umask(old)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")]
    assert (modes, list((tmp_path / "a" / "b").iterdir())) == ([0o755, 0o700], [])


@pytest.mark.parametrize(
    ("number", "what", "fix"),
    [
        (errno.EROFS, "read-only", "mount -o remount,rw "),
        (errno.ENOSPC, "full", "make room on "),
        (errno.EDQUOT, "quota", "make room on "),
        (errno.EIO, "input/output error", "dmesg"),
        (errno.EMFILE, "too many open files", "short of it"),
    ],
)
def test_each_number_of_the_kernel_has_its_own_fix(
    tmp_path: Path, number: int, what: str, fix: str
) -> None:
    found = look(tmp_path, disk=Refusing(number))
    assert found is not None
    assert (what in found.what, fix in found.fix) == (True, True), found
    assert list(tmp_path.iterdir()) == []  # nothing stays of a try


@pytest.mark.parametrize(
    ("spoil", "what", "fix"),
    [
        (lambda path: path.write_text("x"), "a file is in the place of", "sudo mv "),
        (os.mkfifo, "a named pipe is in the place of", "sudo mv "),
        (lambda path: path.symlink_to(path), "leads nowhere", "ls -l "),
        (lambda path: path.symlink_to(path / "gone"), "leads nowhere", "ls -l "),
    ],
    ids=["file", "pipe", "loop", "dangling"],
)
def test_what_stands_in_the_place_of_a_folder_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], what: str, fix: str
) -> None:
    spoil(tmp_path / "state")
    for folder in (tmp_path / "state", tmp_path / "state" / "below"):
        found = look(folder)
        assert found is not None
        assert (what in found.what, fix in found.fix) == (True, True), found
        assert str(tmp_path / "state") in found.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_folder_of_somebody_else_names_both_and_the_one_that_lets_nobody_through(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    denied = PermissionError(errno.EACCES, "Permission denied")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    os.seteuid(65534)
    try:
        other, there = explain(denied, tmp_path / "state"), is_readable(tmp_path / "state")
        missing = explain(denied, tmp_path / "state2")
        (tmp_path / "state").stat()
    finally:
        os.seteuid(0)
    assert "it belongs to root, the agent runs as nobody" in other.what
    assert other.fix == f"sudo chown -R nobody: {tmp_path / 'state'}"
    assert there is False
    assert missing.fix == f"sudo install -d -o nobody -m 0700 {tmp_path / 'state2'}"


def test_the_mount_point_of_a_folder_that_is_not_there_yet_is_found(tmp_path: Path) -> None:
    assert os.path.ismount(mount_of(tmp_path / "not" / "there"))


def test_what_is_no_file_is_put_aside_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").write_text("x")
    for name in ("folder", "pipe", "loop"):
        aside = make_way(tmp_path / name)
        assert aside is not None
        assert os.path.lexists(aside)
        assert not os.path.lexists(tmp_path / name)
    assert (make_way(tmp_path / "file"), make_way(tmp_path / "none")) == (None, None)
    make(tmp_path / "folder")
