"""Whole DICOM files: what they show, at what pace, and with which facts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import uid
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array

from edge_agent.core.dicom_rules import pseudonym
from edge_agent.core.errors import ConfigError, SourceEnded, SourceLost
from edge_agent.host import SystemClock
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import KEY, HandClock, taken


def test_the_sample_clip_is_whole_uncalibrated_and_without_millimetres(dicom: Opened) -> None:
    source, facts = dicom("sample:ultrasound", loop=True)
    assert facts.where == "sample:ultrasound"
    assert facts.size == (320, 240)
    assert facts.expected_fps == pytest.approx(30.0, abs=0.01)
    assert not facts.live
    assert "outside its image" in facts.details["calibration"]
    frames = taken(source, 61)
    assert [frame.number for frame in frames] == list(range(1, 62))
    assert frames[0].calibration.roi is None
    assert frames[0].calibration.spacing_mm is None
    assert "outside its image of 320 x 240 px" in frames[0].calibration.reason
    assert all(frame.replay for frame in frames)
    assert frames[0].pixels is frames[30].pixels, "a short looped clip is decoded once"
    assert not frames[0].pixels.flags.writeable
    assert frames[0].pts_us == frames[30].pts_us == 0
    assert frames[29].pts_us == pytest.approx(29 * 33_333, abs=30)


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless],
)
def test_colour_comes_out_as_bgr_pixel_by_pixel(dicom: Opened, tmp_path: Path, syntax: str) -> None:
    clip = dicoms.moving()
    source, _ = dicom(dicoms.write(tmp_path / "clip.dcm", clip, syntax=syntax))
    for frame, rgb in zip(taken(source, 5), clip, strict=True):
        assert frame.pixels.flags.c_contiguous
        assert np.array_equal(frame.pixels[..., ::-1], rgb)


def test_gray_stays_gray_and_monochrome1_is_inverted(dicom: Opened, tmp_path: Path) -> None:
    gray = dicoms.moving()[..., 1]
    source, _ = dicom(dicoms.write(tmp_path / "2.dcm", gray))
    assert np.array_equal(taken(source, 1)[0].pixels, gray[0])
    inverted = dicoms.write(tmp_path / "1.dcm", gray, PhotometricInterpretation="MONOCHROME1")
    source, facts = dicom(inverted)
    assert np.array_equal(taken(source, 1)[0].pixels, 255 - gray[0])
    assert facts.details["levels"].endswith("inverted")


SHIPPED = [
    "examples_ybr_color.dcm",  # JPEG baseline, YBR_FULL_422
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",  # JPEG baseline, YBR_FULL
    "SC_rgb_dcmtk_+eb+cr.dcm",  # JPEG baseline, RGB
    "examples_jpeg2k.dcm",  # JPEG 2000, YBR_RCT
    "SC_rgb_gdcm_KY.dcm",  # JPEG 2000 lossy
    "SC_rgb_rle_2frame.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "ExplVR_BigEnd.dcm",
    "SC_rgb_small_odd.dcm",  # frames of odd length
]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_coding_shows_what_pydicom_itself_decodes(dicom: Opened, name: str) -> None:
    path = dicoms.shipped(name)
    reference = pixel_array(path)
    first = reference if reference.ndim == 3 else reference[0]
    source, _ = dicom(path)
    assert np.array_equal(taken(source, 1)[0].pixels, first[..., ::-1])


def test_a_palette_becomes_the_colours_that_it_stands_for(dicom: Opened) -> None:
    path = dicoms.shipped("examples_palette.dcm")
    data = pydicom.dcmread(path)
    rgb = apply_color_lut(data.pixel_array, data)
    source, facts = dicom(path)
    assert np.array_equal(taken(source, 1)[0].pixels[..., ::-1], (rgb >> 8).astype(np.uint8))
    assert facts.details["levels"] == "palette"


def test_sixteen_bits_are_shown_through_the_window_of_the_file(
    dicom: Opened, tmp_path: Path
) -> None:
    values = np.array([[[0, 900, 1000, 1100, 4000]]], np.uint16)
    window: dict[str, Any] = {"WindowCenter": 1000, "WindowWidth": 201}
    source, facts = dicom(dicoms.write(tmp_path / "w.dcm", values, BitsStored=12, **window))
    assert taken(source, 1)[0].pixels.tolist() == [[0, 1, 128, 255, 255]]
    assert facts.details["levels"] == "window 1000/201 of the file"


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_without_a_window_the_range_of_the_clip_is_shown(
    dicom: Opened, tmp_path: Path, kind: type
) -> None:
    clip: NDArray[Any] = np.zeros((40, 4, 4), kind)
    clip[0, 0, 0], clip[-1, 3, 3] = 100, 1100
    source, facts = dicom(dicoms.write(tmp_path / "r.dcm", clip))
    frames = taken(source, 40)
    assert frames[0].pixels[0, 0] == 23
    assert frames[-1].pixels[3, 3] == 255, "one scale for the whole clip"
    assert facts.details["levels"] == "0 to 1100, the range of 16 of 40 frames"


def test_twelve_bit_colour_is_scaled(dicom: Opened, tmp_path: Path) -> None:
    clip = np.full((1, 2, 2, 3), 4095, np.uint16)
    source, facts = dicom(dicoms.write(tmp_path / "c.dcm", clip, BitsStored=12))
    assert taken(source, 1)[0].pixels.tolist() == [[[255] * 3] * 2] * 2
    assert facts.details["levels"] == "12 bits scaled to 8"


def test_a_clip_of_many_fragments_and_no_offset_table_is_put_together(
    dicom: Opened, tmp_path: Path
) -> None:
    jpegs = list(
        pydicom.encaps.generate_frames(
            pydicom.dcmread(dicoms.shipped("examples_ybr_color.dcm")).PixelData, number_of_frames=30
        )
    )
    whole, _ = dicom("sample:ultrasound")
    expected = [frame.pixels for frame in taken(whole, 4)]
    for pieces, has_table in ((3, False), (3, True), (1, False)):
        data = pydicom.dcmread(dicoms.shipped("examples_ybr_color.dcm"))
        data.PixelData = pydicom.encaps.encapsulate(
            jpegs[:4], fragments_per_frame=pieces, has_bot=has_table
        )
        data.NumberOfFrames = 4
        data.save_as(tmp_path / "pieces.dcm")
        source, _ = dicom(tmp_path / "pieces.dcm")
        for frame, pixels in zip(taken(source, 4), expected, strict=True):
            assert np.array_equal(frame.pixels, pixels)


@pytest.mark.parametrize(
    ("change", "roi", "spacing_mm"),
    [
        ({}, (4, 2, 24, 20), (0.5, 0.4)),
        ({"RegionLocationMaxX1": 32}, None, None),
        ({"RegionDataType": 3}, None, None),
        ({"PhysicalUnitsXDirection": 4}, None, None),
        ({"RegionSpatialFormat": 2}, None, None),
        ({"PhysicalDeltaY": 0.0}, None, None),
    ],
)
def test_a_region_calibrates_only_by_the_rule(
    dicom: Opened, tmp_path: Path, change: dict[str, Any], roi: Any, spacing_mm: Any
) -> None:
    path = dicoms.write(
        tmp_path / "region.dcm",
        dicoms.moving(),
        SequenceOfUltrasoundRegions=dicoms.regions(change),
    )
    source, _ = dicom(path)
    found = taken(source, 1)[0].calibration
    assert found.roi == roi
    assert found.spacing_mm == (None if spacing_mm is None else pytest.approx(spacing_mm))
    assert bool(found.reason) == (roi is None)


def test_the_config_overrides_crop_and_spacing(dicom: Opened, tmp_path: Path) -> None:
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving())
    source, _ = dicom(path, roi=(1, 2, 3, 4), spacing_mm=(0.1, 0.2))
    found = taken(source, 1)[0].calibration
    assert (found.roi, found.spacing_mm, found.spacing_from) == ((1, 2, 3, 4), (0.1, 0.2), "config")
    source, _ = dicom(path, roi=(0, 0, 33, 4))
    assert "does not fit frames of 32x24 px" in taken(source, 1)[0].calibration.reason


def test_the_exam_is_a_pseudonym_under_the_key_of_the_node(dicom: Opened, tmp_path: Path) -> None:
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving())
    exams = []
    for key in (KEY, KEY, KEY[::-1]):
        source, _ = dicom(path, key=key)
        exams.append(taken(source, 1)[0].exam)
    assert exams[0] == exams[1] == pseudonym(dicoms.STUDY, KEY)
    assert exams[0] != exams[2]
    source, _ = dicom(dicoms.write(tmp_path / "n.dcm", dicoms.moving(), StudyInstanceUID=None))
    assert taken(source, 1)[0].exam == ""


@pytest.mark.parametrize(
    ("elements", "settings", "fps"),
    [
        ({"FrameTime": 20.0}, {}, 50.0),
        ({"FrameTime": None, "FrameTimeVector": [0, 50, 30, 40, 40]}, {}, 25.0),
        ({"FrameTime": None, "CineRate": 12}, {}, 12.0),
        ({"FrameTime": None, "RecommendedDisplayFrameRate": 7}, {}, 7.0),
        ({"FrameTime": 20.0}, {"fps": 5.0}, 5.0),
        ({"FrameTime": None}, {}, 30.0),
    ],
)
def test_a_clip_is_played_at_its_rate(
    dicom: Opened, tmp_path: Path, elements: dict[str, Any], settings: dict[str, Any], fps: float
) -> None:
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving(), **elements)
    source, facts = dicom(path, pace="real", loop=True, **settings)
    assert facts.expected_fps == pytest.approx(fps)
    stamps = [frame.captured_us for frame in taken(source, 11)]
    assert stamps[-1] - stamps[0] == pytest.approx(10e6 / fps, abs=2)


def test_a_read_times_out_when_no_frame_is_due(dicom: Opened, tmp_path: Path) -> None:
    source, _ = dicom(dicoms.write(tmp_path / "c.dcm", dicoms.moving()), pace="real", fps=2.0)
    taken(source, 1)
    assert source.read(0.1) is None
    assert source.read(0.3) is None
    assert source.read(0.2) is not None


def test_a_late_reader_gets_every_frame_of_the_recording(dicom: Opened, tmp_path: Path) -> None:
    clip = dicoms.moving(5)
    clock = HandClock()
    path = dicoms.write(tmp_path / "c.dcm", clip)
    source, _ = dicom(path, clock=clock, pace="real")
    for rgb in clip:
        (frame,) = taken(source, 1)
        assert frame.captured_us == clock.now_us
        assert np.array_equal(frame.pixels[..., ::-1], rgb)
        clock.now_us += 333_333


def test_a_recording_ends_once_and_can_be_opened_again(dicom: Opened, tmp_path: Path) -> None:
    source, _ = dicom(dicoms.write(tmp_path / "c.dcm", dicoms.moving()))
    taken(source, 5)
    for _ in range(2):
        with pytest.raises(SourceEnded, match="ended after 5 frames"):
            source.read(1.0)
    source.close()
    source.close()
    with pytest.raises(SourceLost, match="not open"):
        source.read(1.0)
    source.open()
    assert [frame.number for frame in taken(source, 5)] == [1, 2, 3, 4, 5]
    source.close()


def test_a_looped_file_that_is_taken_away_is_lost_and_found_again(
    dicom: Opened, tmp_path: Path
) -> None:
    path = dicoms.write(tmp_path / "c.dcm", dicoms.moving())
    source, _ = dicom(path, loop=True)
    taken(source, 12)
    path.unlink()
    with pytest.raises(SourceLost, match="gone or was replaced"):
        taken(source, 10)
    with pytest.raises(SourceLost, match="No such file"):
        source.open()
    dicoms.write(path, dicoms.moving(3))
    source.open()
    taken(source, 9)
    source.close()


def test_the_sample_runs_at_its_rate_on_a_real_clock(dicom: Opened) -> None:
    source, _ = dicom("sample:ultrasound", clock=SystemClock(), pace="real", loop=True)
    stamps = [frame.captured_us for frame in taken(source, 40)]
    assert (stamps[-1] - stamps[0]) / 39 == pytest.approx(33_333, rel=0.05)


@pytest.mark.parametrize("path", ["sample:mri", ""])
def test_an_unknown_sample_is_the_operators_to_mend(dicom: Opened, path: str) -> None:
    with pytest.raises(ConfigError, match="expected sample:ultrasound or a path, got"):
        dicom(path)
