from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.structs import ImagesSource
from edge_agent.core.errors import SourceEnded, SourceLost
from edge_agent.core.frames import Frame
from edge_agent.core.order import natural
from edge_agent.sources.images import ImageFrames
from tests.sources.hand import HandClock, taken, told


def put(folder: Path, name: str, level: int, *, colour: bool = True) -> None:
    picture = np.full((6, 8, 3) if colour else (6, 8), level, np.uint8)
    assert cv2.imwrite(str(folder / name), picture)


def opened(folder: Path | str, clock: HandClock | None = None, **settings: Any) -> ImageFrames:
    config = ImagesSource(path=str(folder), **{"pace": "fast", **settings})
    source = ImageFrames(config, clock or HandClock())
    source.open()
    return source


def shown(source: ImageFrames, reads: int = 50) -> list[int | str]:
    return [
        int(one.pixels.flat[0]) if isinstance(one, Frame) else one
        for one in told(source, reads=reads)
    ]


def test_images_come_in_the_order_people_number_them(tmp_path: Path) -> None:
    for number in (10, 2, 1, 33):
        put(tmp_path, f"image{number}.png", number)
    source = opened(tmp_path)
    assert shown(source) == [1, 2, 10, 33]
    with pytest.raises(SourceEnded, match="ended after 4 images"):
        source.read(1.0)


@given(st.lists(st.integers(0, 10**30), unique=True))
def test_natural_order_is_that_of_the_numbers_up_to_18_digits(numbers: list[int]) -> None:
    small = sorted(number % 10**18 for number in numbers)
    names = [f"frame {number} of us.png" for number in small]
    assert sorted(names, key=natural) == names


@given(st.lists(st.text(max_size=20)))
def test_any_names_can_be_put_in_order(names: list[str]) -> None:
    backwards = names[::-1]
    assert sorted(names, key=natural) == sorted(backwards, key=natural)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "PNG"])
def test_formats_are_read_as_they_are(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, f"gray.{suffix}", 77, colour=False)
    put(tmp_path, f"tone.{suffix}", 88)
    gray, tone = taken(opened(tmp_path), 2)
    assert (gray.pixels.shape, tone.pixels.shape) == ((6, 8), (6, 8, 3))
    assert gray.pixels.flags.c_contiguous
    assert np.all(gray.pixels == 77)
    assert np.all(tone.pixels == 88)


def test_sixteen_bits_and_transparency_become_plain_eight_bits(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4), 0xABCD, np.uint16))
    assert cv2.imwrite(str(tmp_path / "b.png"), np.full((4, 4, 4), 99, np.uint8))
    deep, clear = taken(opened(tmp_path), 2)
    assert deep.pixels.dtype == np.uint8
    assert deep.pixels.shape == (4, 4)
    assert abs(int(deep.pixels[0, 0]) - 0xAB) <= 1
    assert clear.pixels.shape == (4, 4, 3)


def test_they_are_paced_and_stamped_when_due(tmp_path: Path) -> None:
    put(tmp_path, "a.png", 1)
    put(tmp_path, "b.png", 2)
    clock = HandClock()
    source = opened(tmp_path, clock, pace="real", loop=True)
    frames = taken(source, 21)
    assert frames[-1].captured_us - frames[0].captured_us == 20 * 100_000, "10 a second by default"
    assert [frame.number for frame in frames] == list(range(1, 22))
    assert all(frame.replay for frame in frames)
    assert source.read(0.02) is None


def test_facts_name_the_folder_and_nothing_in_it(tmp_path: Path) -> None:
    put(tmp_path, "Testmann.png", 1)
    facts = ImageFrames(ImagesSource(path=str(tmp_path), fps=4.0), HandClock()).open()
    assert (facts.where, facts.expected_fps, facts.size) == ("images folder", 4.0, (8, 6))
    assert not facts.live
    assert "Testmann" not in repr(facts)


def bomb(side: int) -> bytes:
    """A PNG of side x side px in a few bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">L", zlib.crc32(kind + body))
        return struct.pack(">L", len(body)) + kind + body + check

    size = struct.pack(">LLBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


def test_a_bad_image_is_told_by_its_place_and_the_others_go_on(tmp_path: Path) -> None:
    put(tmp_path, "1.png", 1)
    (tmp_path / "2 Testmann.png").write_bytes(b"not a png at all")
    (tmp_path / "3.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.png").write_bytes(bomb(40_000))
    (tmp_path / "6.png").write_bytes(b"\x89PNG" + b"x" * 5000)
    put(tmp_path, "7.png", 7)
    first, *bad, last = shown(opened(tmp_path, max_file_bytes=4000))
    assert (first, last) == (1, 7)
    for number, (words, cause) in enumerate(
        zip(bad, ["foreign bytes"] * 3 + ["px, got far more", "at most 4000 bytes"], strict=True),
        start=2,
    ):
        assert f"image {number} of 7 in images folder" in str(words)
        assert cause in str(words)
        assert "Testmann" not in str(words)


@pytest.mark.parametrize(
    ("side", "words"), [(9_000, "got 9000 x 9000"), (12_000, "got 12000 x"), (20_000, "far more")]
)
def test_a_large_image_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, words: str
) -> None:
    (tmp_path / "a.png").write_bytes(bomb(side))
    (told_of,) = shown(opened(tmp_path))
    assert words in str(told_of)


def test_the_operators_calibration_is_on_each_frame(tmp_path: Path) -> None:
    put(tmp_path, "a.png", 1)
    (frame,) = taken(opened(tmp_path, roi=(1, 1, 4, 4), spacing_mm=(0.5, 0.5)), 1)
    assert (frame.calibration.roi, frame.calibration.spacing_from) == ((1, 1, 4, 4), "config")
    (frame,) = taken(opened(tmp_path), 1)
    assert (frame.calibration.spacing_mm, frame.calibration.reason) == (
        None,
        "an image says nothing of its scale",
    )
    (frame,) = taken(opened(tmp_path, roi=(0, 0, 9, 9)), 1)
    assert "does not fit frames of 8x6 px" in frame.calibration.reason


def test_a_folder_that_is_not_there_or_empty_is_lost(tmp_path: Path) -> None:
    with pytest.raises(SourceLost, match="expected a folder of images"):
        opened(tmp_path / "none")
    (tmp_path / "letter.txt").write_text("no image")
    with pytest.raises(SourceLost, match=r"expected images \(\.png"):
        opened(tmp_path)


def test_a_folder_that_is_taken_away_is_lost_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "usb"
    folder.mkdir()
    put(folder, "a.png", 1)
    source = opened(folder, loop=True)
    taken(source, 3)
    folder.rename(tmp_path / "gone")
    with pytest.raises(SourceLost):
        taken(source, 3)
    (tmp_path / "gone").rename(folder)
    source.close()
    source.close()
    with pytest.raises(SourceLost, match="not open"):
        source.read(0.1)
    source.open()
    assert taken(source, 1)[0].number == 1
