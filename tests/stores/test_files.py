from __future__ import annotations

import gc
from pathlib import Path

import pytest

from edge_agent.core.errors import Rejected
from edge_agent.stores.files import read_bounded, write_atomic


def test_what_is_written_is_there_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"one")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"one", 0o600)
    write_atomic(path, b"two", mode=0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_while_it_is_replaced_sees_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomic(path, b"old")
    with path.open("rb") as file:
        write_atomic(path, b"new")
        assert file.read() == b"old"
    assert path.read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()  # a file cannot replace a folder
    with pytest.raises(OSError, match="state"):
        write_atomic(path, b"new")
    assert [child.name for child in tmp_path.iterdir()] == ["state"]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"kept")
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert target.read_bytes() == b"kept"
    assert not link.is_symlink()


def test_a_write_leaves_no_descriptor_open(tmp_path: Path) -> None:
    gc.collect()  # what earlier tests left to it must not go meanwhile
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(5):
        write_atomic(tmp_path / "state", str(number).encode())
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_read_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    assert len(read_bounded(path, 100)) == 100
    with pytest.raises(Rejected, match="read file: expected at most 99 bytes"):
        read_bounded(path, 99)
