"""What is inside of each compressed frame, palettes, and where the bits of a sample are."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid

from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.frames import Frame
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import taken, told

BASELINE = uid.JPEGBaseline8Bit
RED = np.full((64, 48, 3), (255, 0, 0), np.uint8)
NEAR = 4  # levels
LABELS = ("RGB", "YBR_FULL", "YBR_FULL_422")
FRESH = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def coded(picture: Any, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(picture, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def without(data: bytes, marker: bytes) -> bytes:
    at = data.find(marker)
    return (
        data
        if at < 0
        else data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    )


def adobe(data: bytes, transform: int) -> bytes:
    return data[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) + data[2:]


def marked(picture: Any, marker: str, sampling: int) -> bytes:
    """YCbCr under a marker or none, or RGB by its marker or by its components' names."""
    if marker in ("rgb", "names"):
        bare = without(without(coded(picture, keep_rgb=True), b"\xff\xee"), b"\xff\xe0")
        return adobe(bare, 0) if marker == "rgb" else bare
    data = coded(picture, subsampling=sampling)
    if marker == "jfif":
        return data
    bare = without(data, b"\xff\xe0")
    return adobe(bare, 1) if marker == "ybr" else bare


def written(
    path: Path,
    frames: list[bytes],
    label: str,
    syntax: str = BASELINE,
    size: tuple[int, int] = (48, 64),
    **elements: Any,
) -> Path:
    own: dict[str, Any] = {"PhotometricInterpretation": label, "NumberOfFrames": len(frames)}
    if not label.startswith("MONO"):
        own |= {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
    even = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    return dicoms.write_raw(path, even, size=size, syntax=syntax, **{**own, **elements})


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("marker", ["none", "jfif", "ybr", "rgb", "names"])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_red_is_red_whatever_the_label_says(
    dicom: Opened, tmp_path: Path, label: str, marker: str, sampling: int
) -> None:
    path = written(tmp_path / "c.dcm", [marked(RED, marker, sampling)], label)
    source, facts = dicom(path)
    off = np.abs(taken(source, 1)[0].pixels.astype(int) - (0, 0, 255)).max()
    if (label, marker, sampling) == (
        "RGB",
        "none",
        0,
    ):  # nothing says what it is: the label is told
        assert "RGB by the label alone" in facts.details["levels"]
        return
    assert off <= NEAR
    assert facts.details["levels"] == "as stored"


@pytest.mark.parametrize("kind", ["JPEG", "JPEG2000"])
@pytest.mark.parametrize("label", LABELS)
def test_the_planes_of_a_header_are_nothing_to_a_compressed_frame(
    dicom: Opened, tmp_path: Path, kind: str, label: str
) -> None:
    """It came out sheared, in other colours: its pixels were taken for planes."""
    picture = np.zeros((64, 48, 3), np.uint8)
    picture[:32], picture[32:, 24:] = (200, 60, 30), 255
    options = {"no_jp2": True, "mct": 1} if kind == "JPEG2000" else {"quality": 95}
    syntax = uid.JPEG2000Lossless if kind == "JPEG2000" else BASELINE
    path = written(
        tmp_path / "c.dcm", [coded(picture, kind, **options)], label, syntax, PlanarConfiguration=1
    )
    source, _ = dicom(path)
    shown = taken(source, 1)[0].pixels[..., ::-1].astype(int)
    for place in ((5, 5), (60, 5), (60, 44)):
        assert np.abs(shown[place] - picture[place]).max() <= NEAR


def test_a_damaged_frame_is_told_with_what_is_wrong(dicom: Opened, tmp_path: Path) -> None:
    good = coded(RED)
    source, _ = dicom(written(tmp_path / "c.dcm", [good, good[: len(good) // 2]], "YBR_FULL_422"))
    assert taken(source, 1)
    with pytest.raises(BadFrame, match=r"frame 2 of 2 .*damaged bytes: .*end"):
        taken(source, 1)


def test_sub_sampled_rgb_is_refused(dicom: Opened, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="components are sub-sampled as only YCbCr is"):
        dicom(written(tmp_path / "c.dcm", [adobe(marked(RED, "none", 2), 0)], "RGB"))


@pytest.mark.parametrize("label", [*LABELS, "YBR_RCT", "YBR_ICT"])
@pytest.mark.parametrize("transform", [0, 1])
def test_a_jpeg_2000_is_rgb_unless_it_is_neither_transformed_nor_said_to_be(
    dicom: Opened, tmp_path: Path, label: str, transform: int
) -> None:
    is_ybr = label.startswith("YBR_FULL") and not transform
    picture = (76, 85, 255) * np.ones((64, 48, 1)) if is_ybr else RED
    data = coded(picture, "JPEG2000", no_jp2=True, mct=transform)
    source, facts = dicom(written(tmp_path / "c.dcm", [data], label, uid.JPEG2000Lossless))
    assert np.abs(taken(source, 1)[0].pixels.astype(int) - (0, 0, 255)).max() <= NEAR
    is_told = label in ("YBR_RCT", "YBR_ICT") and not transform
    assert ("none of the" in facts.details["levels"]) == is_told


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"size": (64, 48)}, "is 48 x 64, the header says 64 x 48"),
        ({"size": (24, 32)}, "is 48 x 64, the header says 24 x 32"),
        ({"size": (96, 128)}, "is 48 x 64, the header says 96 x 128"),
        ({"label": "MONOCHROME2"}, "has 3 components, the header says 1 samples"),
        ({"label": "RGB", "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}, "has 8 bits"),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "JPEG 2000"])
def test_another_image_than_the_header_tells_of_is_refused_in_both_numbers(
    dicom: Opened, tmp_path: Path, elements: dict[str, Any], words: str, kind: str
) -> None:
    is_new = kind == "JPEG 2000"
    data = coded(RED, "JPEG2000", no_jp2=True) if is_new else coded(RED)
    syntax = uid.JPEG2000Lossless if is_new else BASELINE
    given: dict[str, Any] = {"label": "RGB", "syntax": syntax, **elements}
    with pytest.raises(Rejected, match=f"the {kind} {words}") as refused:
        dicom(written(tmp_path / "c.dcm", [data], **given))
    assert refused.value.hint


def test_a_later_frame_of_another_size_costs_that_frame(dicom: Opened, tmp_path: Path) -> None:
    frames = [coded(RED), coded(RED[::2, ::2]), coded(RED[..., 0]), coded(RED)]
    source, _ = dicom(written(tmp_path / "c.dcm", frames, "YBR_FULL_422"))
    taken(source, 1)
    with pytest.raises(BadFrame, match=r"frame 2 of 4.*the JPEG is 24 x 32, the header says 48 x"):
        source.read(1.0)
    with pytest.raises(BadFrame, match=r"frame 3 of 4.*has 1 components, the header says 3"):
        source.read(1.0)
    assert np.abs(taken(source, 1)[0].pixels.astype(int) - (0, 0, 255)).max() <= NEAR


def test_eight_bits_of_a_jpeg_in_words_of_sixteen_are_shown(dicom: Opened, tmp_path: Path) -> None:
    gray = np.tile(np.arange(48, dtype=np.uint8) * 5, (64, 1))
    elements: dict[str, Any] = {"BitsAllocated": 16, "BitsStored": 8, "HighBit": 7}
    source, _ = dicom(
        written(tmp_path / "c.dcm", [coded(gray, quality=100)], "MONOCHROME2", **elements)
    )
    assert np.abs(taken(source, 1)[0].pixels.astype(int) - gray).max() <= NEAR


# ── damage ────────────────────────────────────────────────────────────────────────────────────

TEXTURED = np.kron(np.random.default_rng(1).integers(150, 255, (30, 40, 3)), np.ones((8, 8, 1)))
CODINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": (BASELINE, {}),
    "optimised": (BASELINE, {"optimize": True}),
    "restarts": (BASELINE, {"restart_marker_rows": 1}),
    "progressive": (BASELINE, {"progressive": True}),
    "JPEG 2000": (uid.JPEG2000Lossless, {"no_jp2": True}),
}


def damaged(data: bytes, how: str, share: float) -> bytes:
    at = 700 + int((len(data) - 700) * share)
    if how == "cut":
        return data[:at]
    if how == "cut with an end":
        return data[:at] + b"\xff\xd9"
    filling = b"\0" if how == "zeros" else b"\xff"
    return data[:at] + filling * min(4096, len(data) - at - 2) + data[at + 4096 : -2] + data[-2:]


@FRESH
@given(
    coding=st.sampled_from(list(CODINGS)),
    how=st.sampled_from(["cut", "cut with an end", "zeros", "ones"]),
    share=st.floats(0.05, 0.7),
)
def test_a_damaged_frame_costs_that_frame_alone(
    dicom: Opened, tmp_path: Path, coding: str, how: str, share: float
) -> None:
    syntax, options = CODINGS[coding]
    kind = "JPEG2000" if syntax == uid.JPEG2000Lossless else "JPEG"
    whole = coded(TEXTURED, kind, **options)
    frames = [whole, damaged(whole, how, share), whole]
    label = "RGB" if kind == "JPEG2000" else "YBR_FULL_422"
    source, _ = dicom(written(tmp_path / "c.dcm", frames, label, syntax, size=(320, 240)))
    found = list(told(source))
    assert [isinstance(one, Frame) for one in found] == [True, False, True]
    assert "frame 2 of 3" in str(found[1])


@pytest.mark.parametrize("change", ["cut", "zeros"])
def test_a_damaged_rle_frame_costs_that_frame(dicom: Opened, tmp_path: Path, change: str) -> None:
    clip = np.random.default_rng(3).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    path = dicoms.write(tmp_path / "c.dcm", clip, syntax=uid.RLELossless)
    data = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=3))
    middle = len(frames[1]) // 2
    rest = frames[1][middle + 600 :] if change == "zeros" else b""
    frames[1] = frames[1][:middle] + (b"\0" * 600 if rest else b"") + rest
    data.PixelData = pydicom.encaps.encapsulate(frames)
    data.save_as(path)
    source, _ = dicom(path)
    found = list(told(source))
    assert [isinstance(one, Frame) for one in found] == [True, False, True]


@pytest.mark.parametrize("level", [0, 127, 128, 255])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_flat_frame_is_whole(dicom: Opened, tmp_path: Path, coding: str, level: int) -> None:
    syntax, options = CODINGS[coding]
    kind = "JPEG2000" if syntax == uid.JPEG2000Lossless else "JPEG"
    data = coded(np.full((240, 320), level), kind, **options)
    source, _ = dicom(written(tmp_path / "c.dcm", [data], "MONOCHROME2", syntax, size=(320, 240)))
    assert (taken(source, 1)[0].pixels == level).all()


# ── palettes ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["OBXXXX1A", "gdcm-US-ALOKA-16"])
def test_a_big_endian_palette_is_the_little_endian_one(dicom: Opened, name: str) -> None:
    shipped = {"OBXXXX1A": "OBXXXX1A_expb.dcm"}.get(name, f"{name}_big.dcm")
    shown = []
    for file in (f"{name}.dcm", shipped):
        source, facts = dicom(dicoms.shipped(file))
        shown.append(taken(source, 1)[0].pixels)
        assert facts.details["levels"] == "palette"
    assert np.array_equal(shown[0], shown[1])
    assert shown[0].max() > 100


def coloured(path: Path, syntax: str, **elements: Any) -> Path:
    """Stored values 0 to 255 under palettes of 16 bits: red as it is, green turned, blue none."""
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    ramp = [level << 8 for level in range(256)]
    tables = {"Red": ramp, "Green": ramp[::-1], "Blue": [0] * 256}
    own: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, levels in tables.items():
        own[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        own[f"{colour}PaletteColorLookupTableData"] = struct.pack(f"{order}256H", *levels)
    made = dicoms.dataset(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), dicoms.EXPLICIT)
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    for keyword, value in {**own, **elements}.items():
        if value is not None:
            setattr(made, keyword, value)
    made.save_as(path, enforce_file_format=True, little_endian=order == "<", implicit_vr=False)
    return path


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_a_palette_is_read_in_the_order_of_its_file(
    dicom: Opened, tmp_path: Path, syntax: str
) -> None:
    source, _ = dicom(coloured(tmp_path / "p.dcm", syntax))
    pixels = taken(source, 1)[0].pixels.reshape(-1, 3)
    levels = np.arange(256)
    assert np.array_equal(pixels, np.stack([levels * 0, 255 - levels, levels], 1))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"GreenPaletteColorLookupTableData": None}, "a green palette table, got none"),
        ({"BluePaletteColorLookupTableData": b"\1\0" * 50}, "512 bytes in the blue .*, got 100"),
        ({"RedPaletteColorLookupTableDescriptor": None}, "descriptor of the red palette, got none"),
    ],
)
def test_a_palette_that_is_missing_or_short_is_named(
    dicom: Opened, tmp_path: Path, elements: dict[str, Any], words: str
) -> None:
    with pytest.raises(Rejected, match=words) as refused:
        dicom(coloured(tmp_path / "p.dcm", uid.ExplicitVRLittleEndian, **elements))
    assert refused.value.hint


# ── where the bits are ────────────────────────────────────────────────────────────────────────


@FRESH
@given(
    stored=st.integers(9, 16),
    shift=st.integers(0, 7),
    kind=st.sampled_from([np.uint16, np.int16]),
    other=st.integers(0, 0xFFFF),
    seed=st.integers(0, 99),
)
def test_a_value_is_in_the_bits_that_the_header_says(
    dicom: Opened, tmp_path: Path, *, stored: int, shift: int, kind: type, other: int, seed: int
) -> None:
    """Whatever is in the bits above and below: an overlay, or nothing."""
    shift = min(shift, 16 - stored)
    lowest = -(1 << stored - 1) if kind is np.int16 else 0
    values = np.random.default_rng(seed).integers(lowest, lowest + (1 << stored), (1, 8, 8))
    values[0, 0, :2] = lowest, lowest + (1 << stored) - 1
    mask = (1 << stored) - 1 << shift
    packed: Any = ((values << shift) & mask | other & ~mask & 0xFFFF).astype(np.uint16).view(kind)
    path = dicoms.write(tmp_path / "b.dcm", packed, BitsStored=stored, HighBit=stored + shift - 1)
    source, facts = dicom(path)
    share = (values[0] - lowest) / ((1 << stored) - 1)
    assert np.array_equal(taken(source, 1)[0].pixels, np.rint(share * 255).astype(np.uint8))
    assert facts.details["levels"].startswith(
        f"{lowest} to {lowest + (1 << stored) - 1}, the range"
    )


@pytest.mark.parametrize(("stored", "high"), [(12, 10), (12, 16), (12, 0), (16, 14)])
def test_a_high_bit_that_makes_no_sense_is_refused(
    dicom: Opened, tmp_path: Path, stored: int, high: int
) -> None:
    pixels = np.zeros((1, 4, 4), np.uint16)
    path = dicoms.write(tmp_path / "b.dcm", pixels, BitsStored=stored, HighBit=high)
    with pytest.raises(Rejected, match=rf"a high bit of {stored - 1} to 15 for .*, got {high}"):
        dicom(path)
