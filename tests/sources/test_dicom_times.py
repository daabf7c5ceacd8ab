"""The times of real clips: stamps and due times as the header gives them, origins in words."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import taken

FRAME_TIME, VECTOR = Tag(0x0018, 0x1063), Tag(0x0018, 0x1065)
FRAMES = 11
EVEN = [0] + [100] * 10
UNEVEN = [0, 20, 20, 20, 20, 20, 200, 20, 20, 20, 20]
EVERY_20 = [20 * number for number in range(FRAMES)]


@pytest.mark.parametrize(
    ("elements", "stamps_ms", "words"),
    [
        (
            {"FrameIncrementPointer": VECTOR, "FrameTimeVector": EVEN, "FrameTime": "33.33"},
            [100 * number for number in range(FRAMES)],
            "10 fps from FrameTimeVector",
        ),
        (
            {"FrameIncrementPointer": VECTOR, "FrameTimeVector": UNEVEN, "FrameTime": None},
            [0, 20, 40, 60, 80, 100, 300, 320, 340, 360, 380],
            "26.32 fps on average from FrameTimeVector, 20 to 200 ms apart",
        ),
        (
            {"FrameTime": None},
            [1000 / 30 * number for number in range(FRAMES)],
            "30 fps from default",
        ),
        (
            {"FrameIncrementPointer": FRAME_TIME, "FrameTime": "0", "CineRate": "15"},
            [1000 / 15 * number for number in range(FRAMES)],
            "15 fps from CineRate; not played: FrameTime 0 ms",
        ),
        (
            {"FrameIncrementPointer": FRAME_TIME, "FrameTimeVector": EVEN, "FrameTime": "50"},
            [50 * number for number in range(FRAMES)],
            "20 fps from FrameTime",
        ),
        (
            {"FrameIncrementPointer": FRAME_TIME, "FrameTime": "0.0333"},
            [1000 / 30 * number for number in range(FRAMES)],
            "30 fps from default; not played: FrameTime 0.0333 ms (30030 fps), expected 0.1 to 240",
        ),
        (
            {"FrameTime": "33.33", "CineRate": "60", "RecommendedDisplayFrameRate": "60"},
            [33.33 * number for number in range(FRAMES)],
            "30 fps from FrameTime",
        ),
        (
            {
                "FrameIncrementPointer": [Tag(0x0020, 0x9128), VECTOR],
                "FrameTimeVector": UNEVEN[:-1],
            },
            [40 * number for number in range(FRAMES)],
            "25 fps from FrameTime; not played: FrameTimeVector of 10 values for 11 frames",
        ),
        (
            {"FrameTime": None, "FrameIncrementPointer": Tag(0x0020, 0x9128)},
            [1000 / 30 * number for number in range(FRAMES)],
            "30 fps from default; not played: FrameIncrementPointer to (0020,9128)",
        ),
    ],
)
def test_frames_are_stamped_and_due_as_the_header_says(
    dicom: Opened, tmp_path: Path, elements: dict[str, Any], stamps_ms: list[float], words: str
) -> None:
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving(FRAMES, (48, 16)), **elements)
    source, facts = dicom(path, pace="real")
    assert facts.details["rate"].startswith(words)
    frames = taken(source, FRAMES)
    assert [frame.pts_us for frame in frames] == [round(1000 * ms) for ms in stamps_ms]
    due_us = [frame.captured_us - frames[0].captured_us for frame in frames]
    assert due_us == [frame.pts_us for frame in frames]


def test_a_configured_rate_wins_and_stamps_follow_it(dicom: Opened, tmp_path: Path) -> None:
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving(FRAMES, (48, 16)), FrameTimeVector=UNEVEN)
    source, facts = dicom(path, pace="real", fps=50.0)
    assert (facts.expected_fps, facts.details["rate"]) == (50.0, "50 fps from config")
    frames = taken(source, FRAMES)
    assert [frame.pts_us for frame in frames] == [1000 * ms for ms in EVERY_20]


def test_fast_gives_the_same_stamps_at_once(dicom: Opened, tmp_path: Path) -> None:
    path = dicoms.write(
        tmp_path / "c.dcm", dicoms.moving(FRAMES, (48, 16)), FrameTime=None, FrameTimeVector=UNEVEN
    )
    source, _ = dicom(path, pace="fast")
    frames = taken(source, FRAMES)
    assert frames[-1].pts_us == 380_000
    assert frames[-1].captured_us == frames[0].captured_us


def test_a_loop_and_the_next_file_follow_a_frame_later(dicom: Opened, tmp_path: Path) -> None:
    for name, ms in (("a", 100.0), ("b", 20.0)):
        dicoms.write(tmp_path / name, dicoms.moving(2), FrameTime=ms)
    source, _ = dicom(tmp_path, pace="real", loop=True)
    while source.read(1.0) is None:
        continue
    stamps = [frame.captured_us for frame in taken(source, 7)]
    gaps_ms = [(later - sooner) / 1000 for sooner, later in pairwise(stamps)]
    assert gaps_ms == [100, 20, 20, 100, 100, 20], "each file at its own rate"


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "fast", "1e-30", "\\\\"])
def test_a_time_of_any_text_is_told_or_passed_over(
    dicom: Opened, tmp_path: Path, text: str
) -> None:
    made = dicoms.dataset(dicoms.moving(), dicoms.EXPLICIT, FrameTime="123456")
    path = tmp_path / "c.dcm"
    made.save_as(path, enforce_file_format=True)
    raw = path.read_bytes()
    at = raw.index(b"123456")
    path.write_bytes(raw[:at] + text.ljust(6).encode() + raw[at + 6 :])
    source, facts = dicom(path, pace="real")
    assert facts.expected_fps == 30.0
    assert facts.details["rate"].startswith("30 fps from default; not played: FrameTime")
    assert [frame.pts_us for frame in taken(source, 3)] == [0, 33_333, 66_667]


def groups(*moments: str) -> list[Dataset]:
    items = []
    for moment in moments:
        content, item = Dataset(), Dataset()
        content.FrameAcquisitionDateTime = moment
        item.FrameContentSequence = [content]
        items.append(item)
    return items


@pytest.mark.parametrize(
    ("seconds", "stamps_ms", "words"),
    [
        (
            ["00.9", "00.94", "01.1"],
            [0, 40, 200],
            "10 fps on average from FrameAcquisitionDateTime",
        ),
        (["58.95+0100", "59.0+0100", "59.05+0100"], [0, 50, 100], "20 fps from FrameAcq"),
        (["00", "00", "00"], [0, 100 / 3, 200 / 3], "30 fps from default; not played: FrameAcq"),
        (["00", "", "01"], [0, 100 / 3, 200 / 3], "30 fps from default; not played: FrameAcq"),
        (["", "", ""], [0, 100 / 3, 200 / 3], "30 fps from default"),
        (["99", "98", "x"], [0, 100 / 3, 200 / 3], "30 fps from default; not played: FrameAcq"),
    ],
)
def test_the_moments_of_an_enhanced_clip_are_its_times(
    dicom: Opened, tmp_path: Path, seconds: list[str], stamps_ms: list[float], words: str
) -> None:
    moments = [text and f"202401022359{text}" for text in seconds]
    made = dicoms.dataset(dicoms.moving(3), dicoms.EXPLICIT, FrameTime=None)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = uid.EnhancedUSVolumeStorage
    made.PerFrameFunctionalGroupsSequence = groups(*moments)
    made.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    source, facts = dicom(tmp_path / "c.dcm")
    assert facts.details["rate"].startswith(words)
    assert [frame.pts_us for frame in taken(source, 3)] == [round(1000 * ms) for ms in stamps_ms]
