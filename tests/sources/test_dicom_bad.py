"""Wrong files: each is refused in words, and nothing of its patient gets out."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from edge_agent.core.errors import BadFrame, Rejected, SourceEnded, SourceLost
from edge_agent.core.frames import Frame
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import taken, told

NOT_DECODED = [
    (uid.JPEGLossless, r"JPEG Lossless, .*1\.2\.840\.10008\.1\.2\.4\.57.*dcmdjpeg in\.dcm"),
    (uid.JPEGLosslessSV1, r"JPEG Lossless, .*1\.2\.840\.10008\.1\.2\.4\.70.*dcmdjpeg in\.dcm"),
    (uid.JPEGLSLossless, r"JPEG-LS Lossless.*4\.80.*dcmdjpls in\.dcm"),
    (uid.HTJ2KLossless, r"High-Throughput JPEG 2000.*4\.201.*gdcmconv --raw"),
    (uid.MPEG2MPML, r'MPEG2.*4\.100.*source of kind "video"'),
    (uid.MPEG4HP41, r'MPEG-4.*4\.102.*source of kind "video"'),
]


@pytest.mark.parametrize(("syntax", "words"), NOT_DECODED)
def test_a_coding_without_decoder_is_named_with_the_way_out(
    dicom: Opened, tmp_path: Path, syntax: str, words: str
) -> None:
    path = dicoms.write(tmp_path / "clip.dcm", dicoms.moving(), syntax=syntax)
    with pytest.raises(Rejected, match=words):
        dicom(path)


def test_a_header_alone_of_a_lossless_jpeg_is_named_too(dicom: Opened) -> None:
    with pytest.raises(Rejected, match=r"JPEG Lossless.*4\.70.*dcmdjpeg"):
        dicom(dicoms.shipped("SC_rgb_jpeg_gdcm.dcm"))


def test_a_deflated_file_is_not_inflated(dicom: Opened) -> None:
    with pytest.raises(Rejected, match=r"Deflated.*dcmconv \+te"):
        dicom(dicoms.shipped("image_dfl.dcm"))


def test_twelve_bit_jpeg_is_refused_with_the_way_out(dicom: Opened) -> None:
    with pytest.raises(Rejected, match=r"JPEG Extended.*12 bits.*dcmdjpeg"):
        dicom(dicoms.shipped("JPGExtended.dcm"))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_a_clip_that_was_cut_off_is_refused_before_it_is_shown(
    dicom: Opened, tmp_path: Path, share: float, syntax: str
) -> None:
    whole = dicoms.write(tmp_path / "whole.dcm", dicoms.moving(20), syntax=syntax).read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(Rejected, match=r"cut off or damaged.*copy the file again"):
        dicom(path)


def test_a_cut_off_copy_of_the_sample_says_how_many_frames_are_there(
    dicom: Opened, tmp_path: Path
) -> None:
    whole = dicoms.shipped("examples_ybr_color.dcm").read_bytes()
    path = tmp_path / "cut.dcm"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Rejected, match=r"expected 30 frames, got \d+: the file is cut off"):
        dicom(path)


def test_a_file_cut_off_in_its_header_is_refused(dicom: Opened, tmp_path: Path) -> None:
    whole = dicoms.write(tmp_path / "whole.dcm", dicoms.moving()).read_bytes()
    path = tmp_path / "cut.dcm"
    for size in range(0, 1000, 13):
        path.write_bytes(whole[:size])
        with pytest.raises(Rejected):
            dicom(path)


@pytest.mark.parametrize("content", [b"", b"Dear colleague,\n" * 100, b"\0" * 500])
def test_what_is_no_dicom_file_is_refused(dicom: Opened, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "letter.dcm"
    path.write_bytes(content)
    with pytest.raises(Rejected, match=r"expected a DICOM file, got something else.*export it"):
        dicom(path)


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Rows": 65535, "Columns": 65535}, r"1 to 16384 px a side, got 65535 x 65535"),
        ({"Rows": 0}, r"got 32 x 0"),
        ({"Rows": 16384, "Columns": 16384}, r"bytes a frame, got 16384 x 16384"),
        ({"Rows": 4000}, r"cut off or damaged"),
        ({"BitsAllocated": 32, "BitsStored": 32}, r"8 or 16 bits allocated, got 32"),
        ({"BitsStored": 9}, r"got 8 with 9 stored"),
        ({"PhotometricInterpretation": "Testmann"}, r"YBR_RCT, got an unregistered value"),
        ({"PhotometricInterpretation": ""}, r"YBR_RCT, got none"),
        ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, r"YBR_RCT, got YBR_PARTIAL_422"),
        ({"PhotometricInterpretation": "HSV"}, r"YBR_RCT, got HSV"),
        ({"PhotometricInterpretation": "TESTMANN"}, r"YBR_RCT, got an unregistered value"),
        ({"PhotometricInterpretation": "CMYK", "SamplesPerPixel": 4}, r"got CMYK"),
        ({"PhotometricInterpretation": "YBR_ICT"}, r"RGB or YBR_FULL for uncom.*got YBR_ICT"),
        (
            {"PhotometricInterpretation": "YBR_FULL_422", "Columns": 31},
            r"even number.*, 31 columns",
        ),
        (
            {"PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 1},
            r"interleaved YBR_FULL_422 .*planar configuration 1",
        ),
        (
            {"PhotometricInterpretation": "YBR_FULL", "BitsAllocated": 16},
            r"RGB for uncompressed pixels of 16 bits, got YBR_FULL",
        ),
        ({"PlanarConfiguration": 2}, r"a planar configuration of 0 or 1, got 2"),
        ({"SamplesPerPixel": 2}, r"3 samples per pixel, got 2"),
        ({"PhotometricInterpretation": "MONOCHROME2"}, r"1 samples per pixel, got 3"),
        ({"SamplesPerPixel": 4}, r"3 samples per pixel, got 4"),
        ({"PixelData": None}, r"without whole pixel data"),
        ({"Rows": None, "Columns": None}, r"an image or a clip, got a DICOM file that is neither"),
    ],
)
def test_an_absurd_header_is_refused_in_numbers(
    dicom: Opened, tmp_path: Path, elements: dict[str, Any], words: str
) -> None:
    path = dicoms.write(tmp_path / "clip.dcm", dicoms.moving(), **elements)
    with pytest.raises(Rejected, match=words) as refused:
        dicom(path)
    assert refused.value.hint
    assert "Testmann" not in str(refused.value)


def test_a_file_over_the_bound_is_not_read(dicom: Opened, tmp_path: Path) -> None:
    path = dicoms.write(tmp_path / "clip.dcm", dicoms.moving())
    with pytest.raises(Rejected, match=r"at most 1000 bytes, got \d+.*source\.max_file_bytes"):
        dicom(path, max_file_bytes=1000)


@pytest.mark.timeout(10)
def test_a_pipe_is_refused_and_nobody_waits_for_it(dicom: Opened, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.raises(Rejected, match="expected a file, got a device, pipe or socket"):
        dicom(tmp_path / "pipe.dcm")


@pytest.mark.parametrize("path", ["/nonexistent/clip.dcm", "x" * 5000, "nul\0byte"])
def test_a_path_that_leads_nowhere_is_lost(dicom: Opened, path: str) -> None:
    with pytest.raises(SourceLost):
        dicom(path)


def test_one_damaged_frame_is_told_at_its_place_and_the_clip_goes_on(
    dicom: Opened, tmp_path: Path
) -> None:
    data = pydicom.dcmread(dicoms.shipped("examples_ybr_color.dcm"))
    jpegs = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=30))
    jpegs[4] = b"\xff\xd8 " + b"no jpeg " * 50 + b"\xff\xd9"
    data.PixelData = pydicom.encaps.encapsulate(jpegs)
    data.save_as(tmp_path / "clip.dcm")
    source, _ = dicom(tmp_path / "clip.dcm")
    assert len(taken(source, 4)) == 4
    with pytest.raises(BadFrame, match=r"decode frame 5 of 30 of .*: damaged bytes"):
        source.read(1.0)
    after = taken(source, 25)
    assert [frame.number for frame in after] == list(range(5, 30))


def test_frames_that_are_all_bad_come_at_their_pace_and_not_in_a_busy_loop(
    dicom: Opened, tmp_path: Path
) -> None:
    data = pydicom.dcmread(dicoms.shipped("examples_ybr_color.dcm"))
    jpegs = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=30))
    data.PixelData = pydicom.encaps.encapsulate([jpegs[0], *[b"\xff\xd8 none \xff\xd9"] * 29])
    data.save_as(tmp_path / "clip.dcm")
    source, _ = dicom(tmp_path / "clip.dcm", pace="real", loop=True)
    started_us = source._clock.boot_us()
    assert len(list(told(source, reads=60))) == 60
    assert source._clock.boot_us() - started_us == pytest.approx(59 * 33_333, abs=1000)


def test_nothing_of_a_patient_leaves_a_source(
    dicom: Opened, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    """In no frame, no fact, no message, no log, on no stream; whatever is wrong with the file."""
    caplog.set_level(logging.DEBUG)
    clip = dicoms.moving()
    whole = dicoms.write(tmp_path / "Testmann_Irmgard.dcm", clip).read_bytes()
    dicoms.write(tmp_path / "Testmann1", clip, syntax=uid.MPEG2MPML)
    dicoms.write(tmp_path / "Testmann2", clip, Rows=0)
    dicoms.write(tmp_path / "Testmann3", clip, StudyInstanceUID="Testmann")
    dicoms.write(tmp_path / "Testmann4", clip, syntax=uid.JPEGBaseline8Bit)
    dicoms.write(tmp_path / "Testmann5", clip, PhotometricInterpretation="Irmgard")
    syntax = b"1.2.840.10008.1.2.1\0"
    (tmp_path / "Testmann6").write_bytes(whole.replace(syntax, b"Irmgard Testmann.1.2"))
    for size in range(300, len(whole), 197):
        (tmp_path / f"Testmann_cut_{size}").write_bytes(whole[:size])
    source, facts = dicom(tmp_path)
    said: list[str] = []
    said += [repr(facts), *map(repr, source.problems)]
    shown = 0
    for one in told(source, reads=300):
        if isinstance(one, Frame):
            shown += 1
            said.append(repr([getattr(one, name) for name in one.__struct_fields__]))
        else:
            said.append(one)
    said += [*source.problems, caplog.text, *capfd.readouterr()]
    assert shown == 10, "the good file, and the one whose study has another UID"
    everything = "\n".join(said)
    assert "file 1 of " in everything
    leaked = [secret for secret in dicoms.SECRETS if secret in everything]
    assert not leaked
    assert str(tmp_path / "Testmann") not in everything


CLIP = io.BytesIO()
dicoms.dataset(
    dicoms.moving(3, (8, 8)),
    dicoms.EXPLICIT,
    SequenceOfUltrasoundRegions=dicoms.regions({}, {"RegionDataType": 2}),
    WindowCenter=10,
    WindowWidth=20,
).save_as(CLIP, enforce_file_format=True)
RLE = io.BytesIO()
_rle = dicoms.dataset(dicoms.moving(3, (8, 8)), dicoms.EXPLICIT)
_rle.compress(uid.RLELossless, generate_instance_uid=False)
_rle.save_as(RLE, enforce_file_format=True)
CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=6)), min_size=1, max_size=12
)


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(base=st.sampled_from([CLIP.getvalue(), RLE.getvalue()]), changes=CHANGES)
def test_any_damage_ends_in_frames_or_in_an_error_of_ours(
    dicom: Opened, tmp_path: Path, base: bytes, changes: list[tuple[int, bytes]]
) -> None:
    damaged = bytearray(base)
    for place, patch in changes:
        start = 132 + place % (len(base) - 132)
        damaged[start : start + len(patch)] = patch
    path = tmp_path / "damaged.dcm"
    path.write_bytes(bytes(damaged[: len(base)]))
    with contextlib.suppress(Rejected, SourceLost, SourceEnded):  # anything else is a bug of ours
        source, _ = dicom(path)
        for frame in told(source, reads=5):
            if isinstance(frame, Frame):
                assert frame.pixels.dtype == np.uint8
                assert frame.pixels.ndim in (2, 3)
