"""What stands in the place of a cached file of metadata is put aside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.links.trust.trust import put_aside


def a_loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, a_loop], ids=["folder", "pipe", "loop"])
@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "root_history/1.root.json"])
def test_no_file_of_metadata_is_anything_else(
    tmp_path: Path, make: Callable[[Path], None], name: str
) -> None:
    (tmp_path / "root_history").mkdir()
    (tmp_path / "root.json").symlink_to("root_history/2.root.json")
    (tmp_path / "targets.json").write_text("{}")
    make(tmp_path / name)
    put_aside(tmp_path)
    assert not os.path.lexists(tmp_path / name)
    assert len(list((tmp_path / name).parent.glob("*.aside.*"))) == 1
    assert (tmp_path / "root.json").is_symlink()
    assert (tmp_path / "targets.json").read_text() == "{}"


def test_a_file_in_the_place_of_the_history_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "root_history").write_text("x")
    put_aside(tmp_path)
    assert not (tmp_path / "root_history").exists()
