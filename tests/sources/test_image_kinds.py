"""Kinds of images, of pages and of damage: the right picture, or a frame that is told as bad."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from edge_agent.config.structs import ImagesSource
from edge_agent.core.errors import BadFrame, SourceEnded
from edge_agent.core.frames import Frame, Pixels
from edge_agent.sources.images import ImageFrames
from tests.sources.hand import HandClock

RGB = (200, 60, 30)
RAMP = np.tile(np.linspace(0, 1, 256), (64, 1))


def stored(image: Image.Image, kind: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **more)
    return buffer.getvalue()


def plain(mode: str = "RGB", size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.new("RGB", size, RGB).convert(mode)


def noise(mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.integers(150, 255, (15, 20, 3)), np.ones((8, 8, 1)))
    return Image.fromarray(blocks.astype(np.uint8)).convert(mode)


def with_tag(tiff: bytes, tag: int, value: int) -> bytes:
    """The same file, little-endian and of one page, that says otherwise."""
    data = bytearray(tiff)
    (place,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, place)
    for at in range(place + 2, place + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, at)[0] == tag:
            struct.pack_into("<I", data, at + 8, value)
            return bytes(data)
    raise AssertionError(tag)


def told(folder: Path) -> tuple[dict[str, str], list[Pixels | str]]:
    """The details of the facts, and pictures or what is said instead of them."""
    source = ImageFrames(ImagesSource(path=str(folder), pace="fast"), HandClock())
    details = dict(source.open().details)
    seen: list[Pixels | str] = []
    for _ in range(200):
        try:
            frame = source.read(1.0)
        except BadFrame as bad:
            seen.append(str(bad))
        except SourceEnded:
            break
        else:
            assert isinstance(frame, Frame)
            assert frame.pixels.dtype == np.uint8
            assert frame.pixels.flags.c_contiguous
            seen.append(frame.pixels)
    return details, seen


def shown(folder: Path, data: bytes, name: str = "a.png") -> list[Pixels | str]:
    (folder / name).write_bytes(data)
    return told(folder)[1]


def only(folder: Path, data: bytes, name: str = "a.png") -> Pixels:
    (pixels,) = shown(folder, data, name)
    assert not isinstance(pixels, str), pixels
    return pixels


# ── colours ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("mode", "kind", "more"),
    [
        ("RGB", "PNG", {}),
        ("RGB", "BMP", {}),
        ("RGB", "TIFF", {"compression": "jpeg", "quality": 95}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "JPEG2000", {}),
        ("RGB", "PPM", {}),
        ("RGB", "JPEG", {"quality": 95}),
        ("RGB", "JPEG", {"quality": 95, "progressive": True}),
        ("CMYK", "JPEG", {"quality": 95}),
        ("CMYK", "TIFF", {}),
        ("P", "PNG", {}),
        ("P", "TIFF", {}),
        ("P", "GIF", {}),
        ("RGBA", "PNG", {}),
        ("RGBA", "TIFF", {}),
    ],
)
def test_a_colour_is_that_colour_in_every_kind_of_file(
    tmp_path: Path, mode: str, kind: str, more: dict[str, Any]
) -> None:
    image = plain(mode) if mode != "P" else plain().convert("P", palette=Image.Palette.ADAPTIVE)
    pixels = only(tmp_path, stored(image, kind, **more))  # named .png, whatever it is
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - RGB[::-1]).max() <= 5


def test_gray_stays_gray_and_one_bit_is_black_and_white(tmp_path: Path) -> None:
    halves = Image.fromarray(np.tile(np.arange(64) < 32, (8, 1)).astype(np.uint8) * 255)
    for kind in ("PNG", "TIFF", "BMP"):
        pixels = only(tmp_path, stored(halves.convert("1"), kind))
        assert pixels.shape == (8, 64)
        assert (pixels[0, 0], pixels[0, 63]) == (255, 0)
    assert only(tmp_path, stored(Image.new("L", (8, 8), 77), "JPEG")).shape == (8, 8)


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    rgba = np.full((16, 16, 4), (*RGB, 255), np.uint8)
    rgba[:, 8:, 3], rgba[:, 4:8, 3] = 0, 51
    pixels = only(tmp_path, stored(Image.fromarray(rgba), "PNG"))
    assert pixels[0, 0].tolist() == list(RGB[::-1])
    assert pixels[0, 4].tolist() == [6, 12, 40]
    assert pixels[0, 8].tolist() == [0, 0, 0]
    gray = only(tmp_path, stored(Image.fromarray(rgba).convert("LA"), "PNG"))
    assert gray.ndim == 2
    assert gray[0, 8] == 0 < gray[0, 0]
    keyed = only(tmp_path, stored(Image.new("L", (8, 8), 9), "PNG", transparency=9))
    assert keyed.tolist() == np.zeros((8, 8)).tolist()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    corner = np.full((48, 64, 3), 40, np.uint8)
    corner[:16, :16] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = only(tmp_path, stored(Image.fromarray(corner), kind, exif=exif))
    assert pixels.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    down, right = {
        1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)
    }[orientation]  # fmt: skip
    assert pixels[-down * 3 or 2, -right * 3 or 2, 2] > 200
    assert (pixels[..., 2] > 150).mean() == pytest.approx(256 / 3072, abs=0.02)


# ── levels ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(("top", "bits"), [(65535, 16), (4095, 12), (1023, 10), (255, 8)])
def test_sixteen_bits_are_shown_by_those_that_are_used(
    tmp_path: Path, kind: str, top: int, bits: int
) -> None:
    """Found with the 12-bit pictures of a camera: they were nearly black."""
    values = (RAMP * top).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(stored(Image.fromarray(values), kind))
    details, (pixels,) = told(tmp_path)
    assert f"uses {bits} of 16 bits" in details["levels"]
    assert np.array_equal(pixels, values >> (bits - 8))


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(".png", 3), (".png", 4), (".tiff", 3), (".tiff", 4), (".jp2", 3), (".ppm", 3)],
)
def test_deep_colour_keeps_the_levels_that_it_uses(
    tmp_path: Path, suffix: str, channels: int
) -> None:
    values = np.repeat((RAMP * 4095).astype(np.uint16)[..., None], channels, axis=2)
    values[..., 0] //= 2
    if channels == 4:
        values[..., 3] = 0xFFFF
    assert cv2.imwrite(str(tmp_path / f"a{suffix}"), values)
    details, (pixels,) = told(tmp_path)
    assert "uses 12 of 16 bits" in details["levels"]
    assert np.array_equal(pixels, values[..., :3] >> 4)


def test_a_float_picture_is_of_one_or_of_whole_levels(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(stored(Image.fromarray(RAMP.astype(np.float32)), "TIFF"))
    details, (pixels,) = told(tmp_path)
    assert "real values from 0 to 1" in details["levels"]
    assert np.array_equal(pixels, np.rint(RAMP * 255))
    odd = Image.fromarray((RAMP * -7).astype(np.float32))
    (told_of,) = shown(tmp_path, stored(odd, "TIFF"), "a.tif")
    assert "real values from -7 to -0" in str(told_of)


def test_all_pictures_of_a_folder_have_one_rule(tmp_path: Path) -> None:
    for number in range(40):
        level = 3000 if number == 39 else 300 + number
        picture = Image.fromarray(np.full((4, 4), level, np.uint16))
        (tmp_path / f"{number}.png").write_bytes(stored(picture, "PNG"))
    details, seen = told(tmp_path)
    assert "uses 12 of 16 bits" in details["levels"]
    assert [int(one.flat[0]) for one in seen if not isinstance(one, str)] == [
        *((300 + number) >> 4 for number in range(39)),
        3000 >> 4,
    ]


def test_a_picture_that_needs_a_wider_rule_says_so_and_is_shown(tmp_path: Path) -> None:
    for number in range(40):
        level = 4000 if number == 13 else 300
        picture = Image.fromarray(np.full((4, 4), level, np.uint16))
        (tmp_path / f"{number:02}.png").write_bytes(stored(picture, "PNG"))
    _, seen = told(tmp_path)
    words = [one for one in seen if isinstance(one, str)]
    assert len(words) == 1
    assert "image 14 of 40 in images folder: uses 12 of 16 bits" in words[0]
    assert "the ones looked at first: uses 9 of 16 bits" in words[0]
    levels = [one if isinstance(one, str) else int(one.flat[0]) for one in seen]
    assert levels == [300 >> 1] * 13 + words + [4000 >> 4] + [300 >> 4] * 26


def test_white_at_zero_is_turned(tmp_path: Path) -> None:
    for values in (np.full((4, 4), 0, np.uint8), np.full((4, 4), 0, np.uint16)):
        data = with_tag(stored(Image.fromarray(values), "TIFF"), 262, 0)
        assert only(tmp_path, data).flat[0] == 255


# ── pages ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_every_page_is_a_frame(tmp_path: Path, kind: str) -> None:
    """Found with a loop that was exported as one TIFF: its first page was shown, and no word."""
    pages = [Image.new("L", (16, 12), 40 * number + 40) for number in range(5)]
    more = {"lossless": True} if kind == "WEBP" else {}
    data = stored(pages[0], kind, save_all=True, append_images=pages[1:], **more)
    (tmp_path / "a.png").write_bytes(data)
    (tmp_path / "b.png").write_bytes(stored(plain(), "PNG"))
    details, seen = told(tmp_path)
    assert details["pages"] == "5 of the first image"
    assert [int(one.flat[0]) for one in seen if not isinstance(one, str)] == [
        *range(40, 201, 40),
        RGB[2],
    ]


def test_a_preview_inside_a_file_is_no_frame(tmp_path: Path) -> None:
    pages = [Image.new("L", (16, 12), 90), Image.new("L", (4, 3), 90)]
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, True) as file:
        pages[0].save(file, "TIFF")
        file.newFrame()
        pages[1].save(file, "TIFF", tiffinfo={254: 1})
    assert only(tmp_path, buffer.getvalue()).shape == (12, 16)


# ── damage ────────────────────────────────────────────────────────────────────────────────────

FILES = {
    "jpeg": stored(noise(), "JPEG"),
    "progressive": stored(noise(), "JPEG", progressive=True),
    "png": stored(noise(), "PNG"),
    "tiff": stored(noise(), "TIFF"),
    "lzw": stored(noise(), "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": stored(noise(), "TIFF", compression="jpeg"),
    "bmp": stored(noise(), "BMP"),
    "gif": stored(noise("P"), "GIF"),
    "webp": stored(noise(), "WEBP"),
    "jpeg2000": stored(noise(), "JPEG2000"),
    "ppm": stored(noise(), "PPM"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_cut_is_never_a_picture(tmp_path: Path, kind: str) -> None:
    data = FILES[kind]
    assert np.asarray(only(tmp_path, data)).shape == (120, 160, 3)
    for share in (0.02, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99):
        seen = shown(tmp_path, data[: int(len(data) * share)])
        assert len(seen) == 1, share
        assert "damaged or foreign bytes" in str(seen[0]), share
    assert np.array_equal(only(tmp_path, data + b"behind"), only(tmp_path, data))


@pytest.mark.parametrize("place", [0.3, 0.5, 0.8])
def test_a_jpeg_with_a_hole_is_refused(tmp_path: Path, place: float) -> None:
    """Found with a copy that was broken off and carried on: libjpeg fills the hole with noise."""
    hole = bytearray(FILES["jpeg"])
    begin = int(len(hole) * place)
    hole[begin : begin + 256] = bytes(256)
    (told_of,) = shown(tmp_path, bytes(hole))
    assert "damaged or foreign bytes (a " in str(told_of)


@given(st.sampled_from(["png"]), st.integers(0, 10**6), st.integers(1, 255))
def test_a_png_with_one_wrong_byte_is_refused(kind: str, place: int, flip: int) -> None:
    from edge_agent.sources.images.decoding import Picture  # noqa: PLC0415

    data = bytearray(FILES[kind])
    data[place % len(data)] ^= flip
    with pytest.raises(BadFrame):
        Picture(bytes(data), "image 1").values(0)


def png(size: tuple[int, int], raw: bytes, *, depth: int = 8, colour: int = 0) -> bytes:
    head = struct.pack(">LLBBBBB", *size, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("lack", [1, 9, 30])
def test_a_png_whose_rows_end_early_is_refused(tmp_path: Path, lack: int) -> None:
    assert only(tmp_path, png((8, 8), b"\0" * 72)).shape == (8, 8)
    (told_of,) = shown(tmp_path, png((8, 8), b"\0" * (72 - lack)))
    assert "damaged" in str(told_of)


def test_a_cut_file_of_pages_shows_those_before_and_says_where_it_ends(tmp_path: Path) -> None:
    pages = [noise("P") for _ in range(3)]
    for number, page in enumerate(pages):
        page.putpixel((0, 0), number)
    data = stored(pages[0], "GIF", save_all=True, append_images=pages[1:], optimize=False)
    seen = shown(tmp_path, data[:-1])
    assert [isinstance(one, str) for one in seen] == [False, False, False, True]
    assert "its end is missing, after 3 pages" in str(seen[-1])


def test_a_tiff_that_leaves_rows_out_is_refused(tmp_path: Path) -> None:
    whole = Image.new("L", (64, 64), 7)
    for tag, value in ((273, 0), (279, 0), (278, 16)):
        (told_of,) = shown(tmp_path, with_tag(stored(whole, "TIFF"), tag, value))
        assert "damaged" in str(told_of)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0" * 128 + b"DICM" + b"\0" * 99, 'got a DICOM file -> show it with kind = "dicom"'),
        (b"Testmann, Irmgard", "damaged or foreign bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "damaged or foreign bytes"),
        (b"", "damaged or foreign bytes"),
    ],
)
def test_what_is_no_image_is_told_as_that(tmp_path: Path, data: bytes, words: str) -> None:
    (told_of,) = shown(tmp_path, data)
    assert words in str(told_of)
    assert "Testmann" not in str(told_of)


def test_files_beside_the_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(stored(plain(), "PNG"))
    (tmp_path / "Testmann.heic").write_bytes(b"x")
    details, _ = told(tmp_path)
    assert details["images"] == "1, 1 files beside them are named as no image"


def test_a_page_of_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    (told_of,) = shown(tmp_path, png((9000, 9000), b"", depth=16, colour=2))
    assert "got 9000 x 9000" in str(told_of)
