"""The header of a DICOM file against its bytes: how many images, and of what sub-sampling."""

from __future__ import annotations

import io
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid
from pydicom.pixels.encoders.base import RLELosslessEncoder

from edge_agent.core.errors import BadFrame, Rejected
from tests.sources import dicoms
from tests.sources.conftest import Opened
from tests.sources.hand import taken, told

SIZE = (16, 8)
PIXELS = SIZE[0] * SIZE[1]
COLOURS = [(200, 60, 30), (10, 20, 220), (90, 200, 10), (40, 40, 160), (250, 250, 5), (7, 99, 70)]
JPEG, J2K, RLE = uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.RLELossless
BIG = uid.ExplicitVRBigEndian


def level(number: int) -> int:
    return 8 * number


@lru_cache
def gray(number: int, syntax: str = JPEG) -> bytes:
    """A compressed image of one level, of an even number of bytes."""
    pixels = np.full(SIZE[::-1], level(number), np.uint8)
    if syntax == RLE:
        return bytes(
            RLELosslessEncoder.encode(
                pixels,
                rows=SIZE[1],
                columns=SIZE[0],
                samples_per_pixel=1,
                bits_allocated=8,
                bits_stored=8,
                pixel_representation=0,
                photometric_interpretation="MONOCHROME2",
                number_of_frames=1,
            )
        )
    made = io.BytesIO()
    if syntax == J2K:
        Image.fromarray(pixels).save(made, "JPEG2000", irreversible=False, no_jp2=True)
    else:
        Image.fromarray(pixels).save(made, "JPEG", quality=95)
    return made.getvalue() + b"\0" * (len(made.getvalue()) % 2)


def in_three(image: bytes) -> list[bytes]:
    third = len(image) // 6 * 2
    return [image[:third], image[third : 2 * third], image[2 * third :]]


def stored(rgb: tuple[int, int, int], kind: str, planar: int = 0) -> bytes:
    """An uncompressed image of one colour."""
    r, g, b = rgb
    y = 0.299 * r + 0.587 * g + 0.114 * b
    ybr = [round(v) for v in (y, (b - y) / 1.772 + 128, (r - y) / 1.402 + 128)]
    if kind == "YBR_FULL_422":
        return bytes([ybr[0], ybr[0], ybr[1], ybr[2]]) * (PIXELS // 2)
    one = np.full((PIXELS, 3), rgb if kind == "RGB" else ybr, np.uint8)
    return (one.T if planar else one).tobytes()


def levels(dicom: Opened, path: Path) -> tuple[list[int], str]:
    """The level of each frame, and what a probe says of their number."""
    source, facts = dicom(path)
    found = []
    for frame in told(source):
        assert not isinstance(frame, str), frame
        assert np.ptp(frame.pixels) <= 2, "one level all over"
        found.append(round(float(frame.pixels.mean())))
    return found, facts.details["frames"]


# ── NumberOfFrames ────────────────────────────────────────────────────────────────────────────

CLAIMS: list[tuple[dict[str, Any], str]] = [
    ({}, "6; 6 images, the header does not say how many"),
    ({"NumberOfFrames": None}, "6; 6 images, the header does not say how many"),
    ({"NumberOfFrames": 0}, "6; 6 images, the header says 0"),
    ({"NumberOfFrames": 1}, "6; 6 images, the header says 1"),
    ({"NumberOfFrames": -3}, "6; 6 images, the header says -3"),
    ({"NumberOfFrames": 5}, "6; 6 images, the header says 5"),
    ({"NumberOfFrames": 6}, "6"),
    ({"NumberOfFrames": 20}, "6; 6 images, the header says 20"),
    ({"NumberOfFrames": 2_000_000_000}, "6; 6 images, the header says 2000000000"),
]
SIX = [level(number) for number in range(6)]


@pytest.mark.parametrize(("claim", "words"), CLAIMS)
@pytest.mark.parametrize("coding", ["native", "fragment each", "three each", "three and table"])
def test_all_images_are_shown_whatever_the_header_says_of_their_number(
    dicom: Opened, tmp_path: Path, claim: dict[str, Any], words: str, coding: str
) -> None:
    images, table = [gray(number) for number in range(6)], None
    if coding == "three and table":
        table = [3 * number for number in range(6)]
    if coding.startswith("three"):
        images = [fragment for image in images for fragment in in_three(image)]
    pixels = images if coding != "native" else np.repeat(np.array(SIX, np.uint8), PIXELS).tobytes()
    path = dicoms.write_raw(
        tmp_path / "c.dcm",
        pixels,
        size=SIZE,
        syntax=dicoms.EXPLICIT if coding == "native" else JPEG,
        table=table,
        **claim,
    )
    assert levels(dicom, path) == (SIX, words)


@pytest.mark.parametrize("claim", [{}, {"NumberOfFrames": None}, {"NumberOfFrames": 1}])
def test_a_single_image_needs_no_number_of_frames(
    dicom: Opened, tmp_path: Path, claim: dict[str, Any]
) -> None:
    one = bytes([80]) * PIXELS
    path = dicoms.write_raw(tmp_path / "n.dcm", one, size=SIZE, **claim)
    assert levels(dicom, path) == ([80], "1")
    fragments = in_three(gray(10))
    path = dicoms.write_raw(tmp_path / "j.dcm", fragments, size=SIZE, syntax=JPEG, **claim)
    assert levels(dicom, path) == ([80], "1")


def test_a_number_that_is_none_does_not_keep_the_images_from_being_shown(
    dicom: Opened, tmp_path: Path
) -> None:
    images = [gray(number) for number in range(6)]
    path = dicoms.write_raw(tmp_path / "c.dcm", images, size=SIZE, syntax=JPEG, NumberOfFrames=12)
    number = b"\x28\x00\x08\x00IS\x02\x00"
    path.write_bytes(path.read_bytes().replace(number + b"12", number + b"1A"))
    assert levels(dicom, path) == (SIX, "6; 6 images, the header does not say how many")


# ── bytes of another sub-sampling ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("claim", [1, 2, 4, None])
@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_a_label_of_half_the_colour_over_all_of_it_is_refused_and_no_wrong_colour(
    dicom: Opened, tmp_path: Path, kind: str, claim: int | None
) -> None:
    count = claim or 2
    path = dicoms.write_raw(
        tmp_path / "c.dcm",
        stored(COLOURS[0], kind) * count,
        size=SIZE,
        NumberOfFrames=claim,
        PhotometricInterpretation="YBR_FULL_422",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
    )
    words = rf"got {count * 3 * PIXELS}, which fits .*{count} images? without sub-sampling, RGB or"
    with pytest.raises(Rejected, match=words):
        dicom(path)


@pytest.mark.parametrize(
    ("label", "bytes_a_pixel", "words"),
    [
        (
            "RGB",
            2,
            r"768 bytes .* 2 images of 3 bytes a pixel \(RGB\), got 512, .*sub-sampled colour",
        ),
        ("YBR_FULL", 1, r"got 256, which fits 2 images with 1 sample a pixel: its header"),
        (
            "MONOCHROME2",
            3,
            r"256 bytes .*got 768, which fits 6 images or 2 images with 3 samples a pixel",
        ),
    ],
)
def test_bytes_that_fit_the_count_only_by_another_label_are_refused(
    dicom: Opened, tmp_path: Path, label: str, bytes_a_pixel: int, words: str
) -> None:
    path = dicoms.write_raw(
        tmp_path / "c.dcm",
        bytes(2 * PIXELS * bytes_a_pixel),
        size=SIZE,
        NumberOfFrames=2,
        PhotometricInterpretation=label,
        SamplesPerPixel=1 if label == "MONOCHROME2" else 3,
        PlanarConfiguration=0,
    )
    with pytest.raises(Rejected, match=words):
        dicom(path)


def test_blank_bytes_behind_the_images_are_told_and_others_refused(
    dicom: Opened, tmp_path: Path
) -> None:
    two = bytes([80]) * (2 * PIXELS)
    path = dicoms.write_raw(tmp_path / "b.dcm", two + bytes(20), size=SIZE, NumberOfFrames=2)
    words = "2; 20 blank bytes behind the 2 images of the header"
    assert levels(dicom, path) == ([80, 80], words)
    for tail in (b"\1" * 20, bytes(PIXELS // 2), bytes(3 * PIXELS // 2)):
        dicoms.write_raw(path, two + tail, size=SIZE, NumberOfFrames=2)
        with pytest.raises(Rejected, match=rf"expected 256 bytes.*got {len(two + tail)}"):
            dicom(path)


def test_an_element_that_ends_behind_the_file_is_cut_off_though_the_frames_are_there(
    dicom: Opened, tmp_path: Path
) -> None:
    path = dicoms.write_raw(tmp_path / "b.dcm", bytes(3 * PIXELS), size=SIZE, NumberOfFrames=2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Rejected, match=r"expected 384 bytes of pixels, got 383: .*cut off"):
        dicom(path)


@pytest.mark.parametrize("syntax", [BIG, uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_frames_of_an_odd_number_of_bytes_are_shown_byte_by_byte(
    dicom: Opened, tmp_path: Path, syntax: str
) -> None:
    rgb = np.arange(3 * 5 * 3 * 3, dtype=np.uint8).reshape(3, 5, 3, 3)
    data = rgb.tobytes() + b"\0"
    if syntax == BIG:
        data = np.frombuffer(data, "u2").byteswap().tobytes()
    path = tmp_path / "odd.dcm"
    made = dicoms.dataset(rgb, syntax)
    made["PixelData"].VR, made.PixelData = "OW", data
    made.save_as(path, enforce_file_format=True, implicit_vr=None, little_endian=None)
    source, _ = dicom(path)
    for frame, expected in zip(taken(source, 3), rgb, strict=True):
        assert np.array_equal(frame.pixels[..., ::-1], expected)


def test_compressed_pixels_under_an_uncompressed_label_are_refused(
    dicom: Opened, tmp_path: Path
) -> None:
    path = dicoms.write_raw(tmp_path / "c.dcm", [gray(1)], size=SIZE, syntax=JPEG)
    label = JPEG.encode()
    path.write_bytes(
        path.read_bytes().replace(label, dicoms.EXPLICIT.encode().ljust(len(label), b"\0"))
    )
    with pytest.raises(
        Rejected, match=r"uncompressed pixels, of a stated length.*compressed ones, in fr"
    ):
        dicom(path)


def test_uncompressed_pixels_under_a_compressed_label_are_refused(
    dicom: Opened, tmp_path: Path
) -> None:
    path = tmp_path / "c.dcm"
    dicoms.write_raw(path, [gray(1)], size=SIZE, syntax=JPEG)
    undefined = b"OB\0\0\xff\xff\xff\xff"
    assert undefined in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(undefined, b"OB\0\0\x80\0\0\0"))
    with pytest.raises(Rejected, match=r"compressed pixels, in fragments.*got 128 bytes without"):
        dicom(path)


# ── fragments ─────────────────────────────────────────────────────────────────────────────────


def test_a_table_and_a_count_that_are_wrong_yield_to_the_images(
    dicom: Opened, tmp_path: Path
) -> None:
    images = [gray(number) for number in range(6)]
    path = tmp_path / "c.dcm"
    for table in ([0], [0, 2, 4], [0, 1, 2, 3, 4, 5]):
        dicoms.write_raw(path, images, size=SIZE, syntax=JPEG, table=table, NumberOfFrames=3)
        assert levels(dicom, path) == (SIX, "6; 6 images, the header says 3")


def test_empty_and_padded_fragments_are_no_images(dicom: Opened, tmp_path: Path) -> None:
    fragments = [b""]
    for number in range(6):
        first, second, third = in_three(gray(number))
        fragments += [first, second, b"", third + bytes(40), b""]
    path = dicoms.write_raw(tmp_path / "c.dcm", fragments, size=SIZE, syntax=JPEG)
    assert levels(dicom, path) == (SIX, "6; 6 images, the header does not say how many")


@pytest.mark.parametrize("claim", [None, 0, 1, 2])
@pytest.mark.parametrize("fragments", [[], [b""], [b"", b""]])
def test_fragments_of_nothing_are_no_image(
    dicom: Opened, tmp_path: Path, fragments: list[bytes], claim: int | None
) -> None:
    path = tmp_path / "c.dcm"
    dicoms.write_raw(path, fragments, size=SIZE, syntax=JPEG, NumberOfFrames=claim)
    with pytest.raises(Rejected, match="expected a fragment of pixels, got none"):
        dicom(path)


def test_a_clip_without_its_empty_offset_table_keeps_its_first_image(
    dicom: Opened, tmp_path: Path
) -> None:
    images = [gray(number) for number in range(6)]
    path = dicoms.write_raw(tmp_path / "c.dcm", images, size=SIZE, syntax=JPEG, NumberOfFrames=6)
    path.write_bytes(path.read_bytes().replace(b"\xfe\xff\x00\xe0\0\0\0\0", b"", 1))
    assert levels(dicom, path) == (SIX, "6")


def test_without_a_delimiter_only_a_number_that_is_reached_is_believed(
    dicom: Opened, tmp_path: Path
) -> None:
    images = [gray(number) for number in range(6)]
    path = tmp_path / "c.dcm"
    for claim, is_shown in ((6, True), (7, False), (5, False), (None, False)):
        dicoms.write_raw(path, images, size=SIZE, syntax=JPEG, NumberOfFrames=claim)
        path.write_bytes(path.read_bytes()[:-8])
        if is_shown:
            assert levels(dicom, path) == (SIX, "6")
            continue
        with pytest.raises(Rejected, match=r"got 6: the file is cut off"):
            dicom(path)


@pytest.mark.parametrize("claim", [None, 0, 1, 4])
def test_a_thumbnail_inside_an_image_does_not_split_it(
    dicom: Opened, tmp_path: Path, claim: int | None
) -> None:
    thumbnail, image = gray(1), gray(10)
    thumbnail += b"\0" * (len(thumbnail) % 2)
    head = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big")
    whole = image[:2] + head + thumbnail.rstrip(b"\0")
    begin, end = 2 + len(head), len(whole)
    whole += b"\0" * (2 + len(head) + len(thumbnail) - len(whole)) + image[2:]
    for cuts in ((), (end,), (begin,), (begin, end)):
        edges = [0, *cuts, len(whole)]
        fragments = [whole[here:there] for here, there in pairwise(edges)]
        path = tmp_path / "c.dcm"
        dicoms.write_raw(path, fragments, size=SIZE, syntax=JPEG, NumberOfFrames=claim)
        words = "1" if claim in (None, 1) else f"1; 1 image, the header says {claim}"
        assert levels(dicom, path) == ([80], words)


@pytest.mark.parametrize("cut", [40, 200, 300])
def test_an_image_that_was_cut_short_does_not_swallow_the_next_one(
    dicom: Opened, tmp_path: Path, cut: int
) -> None:
    images = [gray(3)[:cut], gray(4), b"none at all!"]
    path = dicoms.write_raw(tmp_path / "c.dcm", images, size=SIZE, syntax=JPEG)
    source, facts = dicom(path)
    assert facts.details["frames"] == "3; 3 images, the header does not say how many"
    first, second, third = told(source)
    assert "frame 1 of 3" in str(first)
    assert not isinstance(second, str)
    assert int(second.pixels[0, 0]) == level(4)
    assert "frame 3 of 3" in str(third)


@pytest.mark.parametrize("claim", [None, 1, 3])
def test_images_behind_each_other_in_one_fragment_are_not_the_first_in_silence(
    dicom: Opened, tmp_path: Path, claim: int | None
) -> None:
    images = b"".join(gray(number) for number in (3, 4, 5))
    path = tmp_path / "c.dcm"
    dicoms.write_raw(path, [images], size=SIZE, syntax=JPEG, NumberOfFrames=claim)
    with pytest.raises(Rejected, match=r"expected one image, got several.*in one fragment"):
        dicom(path)


# ── damage ────────────────────────────────────────────────────────────────────────────────────

DAMAGE = [b"\xff\xd8\xff damaged \xff\xd9", bytes(400), b"no image at all"]


@pytest.mark.parametrize("claim", [6, None])
@pytest.mark.parametrize("place", [0, 2, 5])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_image_costs_itself_wherever_it_is(
    dicom: Opened, tmp_path: Path, place: int, damage: bytes, claim: int | None
) -> None:
    images = [gray(number) for number in range(6)]
    images[place] = damage + b"\0" * (len(damage) % 2)
    path = tmp_path / "c.dcm"
    dicoms.write_raw(path, images, size=SIZE, syntax=JPEG, NumberOfFrames=claim)
    source, facts = dicom(path)
    assert facts.details["frames"].startswith("6")
    for number in range(6):
        if number == place:
            with pytest.raises(BadFrame, match=rf"decode frame {place + 1} of 6 .*damaged"):
                source.read(1.0)
        else:
            (frame,) = taken(source, 1)
            assert round(float(frame.pixels.mean())) == level(number)
            assert frame.pts_us == pytest.approx(number * 40_000, abs=2)


def test_a_damaged_first_image_of_sixteen_bits_costs_neither_itself_nor_the_range(
    dicom: Opened, tmp_path: Path
) -> None:
    clip = np.repeat(np.array([500, 100, 300, 500], np.uint16), PIXELS).reshape(4, *SIZE[::-1])
    made = dicoms.dataset(clip, dicoms.EXPLICIT)
    made.compress(RLE, generate_instance_uid=False)
    path = tmp_path / "c.dcm"
    made.save_as(path, enforce_file_format=True)
    data = bytearray(path.read_bytes())
    first = data.index(b"\x02\0\0\0\x40\0\0\0")  # the header of the first image: two segments
    data[first : first + 4] = b"\x09\0\0\0"
    path.write_bytes(bytes(data))
    source, facts = dicom(path)
    assert facts.details["levels"].startswith("100 to 500")
    with pytest.raises(BadFrame, match="decode frame 1 of 4"):
        source.read(1.0)
    assert [int(frame.pixels[0, 0]) for frame in taken(source, 3)] == [0, 128, 255]


def test_a_clip_of_which_nothing_decodes_is_refused_with_the_way_out(
    dicom: Opened, tmp_path: Path
) -> None:
    path = dicoms.write_raw(tmp_path / "c.dcm", [DAMAGE[0]] * 40, size=SIZE, syntax=JPEG)
    with pytest.raises(Rejected, match=r"pixels that decode, got a frame of JPEG .*copy the file"):
        dicom(path)


# ── generated ─────────────────────────────────────────────────────────────────────────────────

KINDS = ["RGB", "YBR_FULL", "YBR_FULL_422"]
CLAIMED = st.sampled_from(["right", "right", None, 0, 1, 2, 3, 4, 5, 9])
QUICK = settings(
    deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def is_told(says: str, count: int, claimed: int | None) -> bool:
    if count == (1 if claimed is None else claimed):
        return says == str(count)
    return says.startswith(f"{count}; {count} image") and "header" in says


@QUICK
@given(
    labels=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    planar=st.integers(0, 1),
    counts=st.tuples(st.integers(1, 6), CLAIMED),
)
def test_uncompressed_pixels_are_exact_or_refused(
    dicom: Opened, tmp_path: Path, labels: tuple[str, str], planar: int, counts: tuple[int, Any]
) -> None:
    label, kind = labels
    if "YBR_FULL_422" not in labels:
        kind = label  # RGB and YBR_FULL have equal lengths: the label is all that there is
    count, claimed = counts[0], counts[0] if counts[1] == "right" else counts[1]
    # Two lies that bear each other out are beyond any look at lengths.
    needed, there = (2 if one == "YBR_FULL_422" else 3 for one in (label, kind))
    assume(label == kind or there * count != needed * (claimed or 1))
    path = dicoms.write_raw(
        tmp_path / "c.dcm",
        b"".join(stored(rgb, kind, planar) for rgb in COLOURS[:count]),
        size=SIZE,
        NumberOfFrames=claimed,
        PhotometricInterpretation=label,
        SamplesPerPixel=3,
        PlanarConfiguration=planar,
    )
    try:
        source, facts = dicom(path)
    except Rejected:
        is_sure = label == kind and count == claimed
        assert not is_sure or (label == "YBR_FULL_422" and planar), "a true header is shown"
        return
    assert label == kind
    frames = [frame for frame in told(source) if not isinstance(frame, str)]
    for frame, rgb in zip(frames, COLOURS[:count], strict=True):
        assert np.abs(frame.pixels[..., ::-1].astype(int) - rgb).max() <= 2
    assert is_told(facts.details["frames"], count, claimed)


@QUICK
@given(
    images=st.tuples(
        st.sampled_from([JPEG, J2K, RLE]), st.lists(st.integers(1, 3), min_size=1, max_size=5)
    ),
    header=st.tuples(CLAIMED, st.sampled_from(["none", "right", "per fragment", "first only"])),
    padding=st.sampled_from([0, 2, 30]),
)
def test_compressed_images_are_exact_and_counted(
    dicom: Opened,
    tmp_path: Path,
    images: tuple[str, list[int]],
    header: tuple[Any, str],
    padding: int,
) -> None:
    syntax, cuts = images
    fragments: list[bytes] = []
    starts = []
    for number, pieces in enumerate(cuts):
        image = gray(number, syntax) + bytes(padding)
        starts.append(len(fragments))
        step = max(len(image) // pieces // 2 * 2, 64)
        fragments += [image[at : at + step] for at in range(0, len(image), step)]
    said = {"none": [], "right": starts, "per fragment": list(range(len(fragments)))}
    count, claimed = len(cuts), len(cuts) if header[0] == "right" else header[0]
    path = dicoms.write_raw(
        tmp_path / "c.dcm",
        fragments,
        size=SIZE,
        syntax=syntax,
        table=said.get(header[1], [0]),
        NumberOfFrames=claimed,
    )
    try:
        source, facts = dicom(path)
    except Rejected:
        assert syntax == RLE, "split in two, which no file should have"
        assert max(cuts) > 1
        return
    found = [
        one if isinstance(one, str) else round(float(one.pixels.mean())) for one in told(source)
    ]
    expected: list[str | int] = [level(number) for number in range(count)]
    if syntax == RLE and max(cuts) > 1:
        assert all(isinstance(one, str) or one in expected for one in found)
        return
    assert found == expected
    assert is_told(facts.details["frames"], count, claimed)
