"""A watched folder: name order, files that come, grow, are bad or vanish."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.core.errors import SourceLost
from edge_agent.core.frames import Frame
from edge_agent.host import SystemClock
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import told


def put(folder: Path, name: str, level: int, *, frames: int = 1) -> Path:
    """A gray clip of one level, by which a test knows it again."""
    clip = dicoms.moving(frames)[..., 0] * 0 + level
    return dicoms.write(folder / name, clip.astype("u1"))


def levels(frames: list[Frame | str]) -> list[int | str]:
    return [int(one.pixels[0, 0]) if isinstance(one, Frame) else one for one in frames]


def test_files_are_shown_once_in_name_order(dicom: Opened, tmp_path: Path) -> None:
    for name, level in (("b.dcm", 20), ("a.dcm", 10), ("c.dcm", 30)):
        put(tmp_path, name, level, frames=2)
    source, facts = dicom(tmp_path)
    assert facts.details["files"] == "3 in the watched folder"
    assert levels(list(told(source, reads=40))) == [10, 10, 20, 20, 30, 30]
    assert source.read(0.05) is None, "a watched folder has no end"


def test_a_new_file_is_shown_when_it_has_come(dicom: Opened, tmp_path: Path) -> None:
    source, facts = dicom(tmp_path)
    assert (facts.size, facts.expected_fps) == (None, None)
    assert list(told(source, reads=10)) == []
    put(tmp_path, "one.dcm", 50)
    assert levels(list(told(source, reads=20))) == [50]
    put(tmp_path, "another.dcm", 60)
    assert levels(list(told(source, reads=20))) == [60]


def test_a_file_that_still_grows_is_left_alone(dicom: Opened, tmp_path: Path) -> None:
    whole = put(tmp_path, "whole", 70).read_bytes()
    (tmp_path / "whole").unlink()
    source, _ = dicom(tmp_path)
    growing = tmp_path / "growing.dcm"
    for share in range(1, 11):
        growing.write_bytes(whole[: len(whole) * share // 10])
        assert list(told(source, reads=4)) == [], "0.4 s: it has just changed again"
    assert levels(list(told(source, reads=10))) == [70]


def test_an_old_file_is_shown_at_first_sight(dicom: Opened, tmp_path: Path) -> None:
    path = put(tmp_path, "old.dcm", 90)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    source, facts = dicom(tmp_path, clock=SystemClock())
    assert facts.size == (32, 24)
    assert levels(list(told(source, reads=1))) == [90]


def test_a_bad_file_is_told_once_by_its_place_and_the_others_go_on(
    dicom: Opened, tmp_path: Path
) -> None:
    put(tmp_path, "a.dcm", 10)
    (tmp_path / "b_Testmann.dcm").write_text("no such thing")
    put(tmp_path, "c.dcm", 30)
    source, _ = dicom(tmp_path, loop=True, pace="real", fps=10.0)
    shown = levels(list(told(source, reads=27)))
    bad = [one for one in shown if isinstance(one, str)]
    assert len(bad) == 1
    assert bad[0].startswith("open file 2 of 3 in the watched folder: expected a DICOM file, got ")
    assert [one for one in shown if one not in bad][:5] == [10, 30, 10, 30, 10]
    assert source.files_bad == 1
    assert list(source.problems) == bad
    put(tmp_path, "b_Testmann.dcm", 20)
    assert 20 in levels(list(told(source, reads=40))), "mended, it is tried again"


def test_only_files_of_the_pattern_are_looked_at(dicom: Opened, tmp_path: Path) -> None:
    put(tmp_path, "a.dcm", 10)
    put(tmp_path, ".b.dcm", 20)
    (tmp_path / "notes.txt").write_text("none of ours")
    (tmp_path / "c.dcm").mkdir()
    source, _ = dicom(tmp_path, pattern="*.dcm")
    assert levels(list(told(source, reads=20))) == [10]


def test_a_loop_goes_round_and_takes_new_files_in(dicom: Opened, tmp_path: Path) -> None:
    put(tmp_path, "a.dcm", 10)
    put(tmp_path, "c.dcm", 30)
    source, _ = dicom(tmp_path, loop=True, pace="real", fps=10.0)
    assert levels(list(told(source, reads=30)))[:4] == [10, 30, 10, 30]
    put(tmp_path, "b.dcm", 20)
    later = levels(list(told(source, reads=60)))
    at = later.index(20)
    assert later[at - 1 : at + 3] == [10, 20, 30, 10]


def test_a_folder_that_is_taken_away_is_lost_and_found_again(dicom: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    put(folder, "a.dcm", 10)
    source, _ = dicom(folder)
    assert levels(list(told(source, reads=20))) == [10]
    folder.rename(tmp_path / "unplugged")
    with pytest.raises(SourceLost, match="list the watched folder") as lost:
        list(told(source, reads=20))
    assert str(folder) not in str(lost.value), "a folder may be named after a patient"
    with pytest.raises(SourceLost):
        source.open()
    put(tmp_path / "unplugged", "b.dcm", 20)
    (tmp_path / "unplugged").rename(folder)
    source.open()
    assert levels(list(told(source, reads=20))) == [20], "what was shown is not shown again"


def test_a_file_that_vanishes_before_its_turn_is_passed_over(dicom: Opened, tmp_path: Path) -> None:
    for name, level in (("a", 10), ("b", 20), ("c", 30)):
        os.utime(put(tmp_path, name, level), (1_500_000_000, 1_500_000_000))
    source, _ = dicom(tmp_path, clock=SystemClock())
    (tmp_path / "b").unlink()
    assert levels([one for one in told(source, reads=3) if isinstance(one, Frame)]) == [10, 30]
