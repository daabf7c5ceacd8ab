"""One image file, decoded page by page: what is in its bytes decides, not its name.

Pillow reads all kinds but says nothing of a PNG whose check sums are wrong, of a TIFF with strips
left out, or of damage inside a JPEG, and gives 16 bits of colour as 8: those are looked at here.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import (
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from edge_agent.core.errors import BadFrame
from edge_agent.core.frames import Pixels
from edge_agent.core.jpeg import Damaged
from edge_agent.core.jpeg_damage import damage

MAX_PIXELS = 64 << 20  # of one picture, looked up before it is decoded
MAX_PAGES = 10_000  # of one file
MAX_WALKED_BYTES = 64 << 10  # of a progressive JPEG: 0.2 s at most

# Imported, so that Pillow knows them; it looks for no other kind.
_PLUGINS = (GifImagePlugin, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin)
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "JPEG2000", "PPM")
ORIENTATION, SUBTYPE, BITS, PHOTOMETRIC = 274, 254, 258, 262  # TIFF tags
STRIP, TILE, HEIGHT, ROWS_PER_STRIP, PLANAR = (273, 279), (324, 325), 257, 278, 284
REDUCED_OR_MASK = 1 | 4  # of SUBTYPE: a preview of another page, or its mask
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
COLOUR = ("P", "RGB", "RGBX", "CMYK", "YCbCr")

PLAIN_COLOURS = {0: 1, 2: 3}  # samples a pixel by the colour type of a PNG: gray and RGB
PLAIN_CHUNKS = frozenset(
    (
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"gAMA",
        b"cHRM",
        b"sRGB",
        b"iCCP",
        b"pHYs",
        b"sBIT",
        b"bKGD",
        b"tIME",
    )
)

# What Pillow and its codecs raise on bytes that are wrong.
BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    OverflowError,
    EOFError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    cv2.error,
)

_PPM = re.compile(rb"P[36](?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+\d+(?:\s|#[^\n]*\n)+(\d+)\s")

Values = NDArray[Any]


class Picture:
    """A file of one page or many. where: words that name it, for messages.

    pages: how many are shown. rest: what is to be told after the last of them; "" nothing.
    Raises at construction: BadFrame.
    """

    def __init__(self, stored: bytes, where: str) -> None:
        self._stored = stored
        self._where = where
        self._plain_png = False
        self._image = self._opened()
        try:
            self._numbers, self.rest = self._pages()
        except Image.DecompressionBombError:
            raise self._too_large("far more") from None
        except BROKEN:
            raise self._damaged() from None

    @property
    def pages(self) -> int:
        return len(self._numbers)

    @property
    def is_independent(self) -> bool:
        """Whether a page can be read when one before it is damaged."""
        return bool(self._image.format == "TIFF")

    def is_deep(self, page: int) -> bool:
        """Whether a page has more than 8 bits; False also where it cannot be read."""
        try:
            self._image.seek(self._numbers[page])
            return self._image.mode[0] in "IF" or self._has_deep_colour()
        except (*BROKEN, Image.DecompressionBombError):
            return False

    def values(self, page: int) -> Values:
        """HxW gray or HxWx3 BGR: uint8; or deeper as stored, with the scale yet to be found.

        Raises: BadFrame.
        """
        try:
            self._image.seek(self._numbers[page])
            width, height = self._image.size
            if width * height > MAX_PIXELS:
                raise self._too_large(f"{width} x {height}")
            values = self._decoded(self._numbers[page])
        except Image.DecompressionBombError:
            raise self._too_large("far more") from None
        except Damaged as damaged:
            raise self._damaged(page, f" ({damaged})") from None
        except BROKEN:
            raise self._damaged(page) from None
        return np.ascontiguousarray(_turned(values, self._orientation()))

    def is_inverted(self) -> bool:
        """Whether the page just read has its white at 0, and Pillow left it so."""
        image = self._image
        if image.format != "TIFF" or image.mode[0] not in "IF":
            return False
        return bool(image.tag_v2.get(PHOTOMETRIC) == 0)

    def _opened(self) -> Any:
        """Raises: BadFrame."""
        try:
            if self._stored[:4] == b"\x89PNG":
                self._plain_png = _plain_png(self._stored)
            return Image.open(io.BytesIO(self._stored), formats=FORMATS)
        except Image.DecompressionBombError:
            raise self._too_large("far more") from None
        except (UnidentifiedImageError, *BROKEN):
            raise self._damaged() from None

    def _pages(self) -> tuple[list[int], str]:
        image = self._image
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: its previews
        numbers = list(range(min(count, MAX_PAGES)))
        if image.format == "TIFF" and count > 1:
            numbers = [number for number in numbers if not self._is_preview(number)] or [0]
        if count > MAX_PAGES:
            return numbers, f"the first {MAX_PAGES} of its {count} pages are shown"
        if image.format == "GIF" and not _is_whole_gif(self._stored):
            return numbers, f"its end is missing, after {count} pages"
        return numbers, ""

    def _is_preview(self, number: int) -> bool:
        self._image.seek(number)
        return bool(int(self._image.tag_v2.get(SUBTYPE) or 0) & REDUCED_OR_MASK)

    def _has_deep_colour(self) -> bool:
        image = self._image
        if image.mode[0] in "IF1P":
            return False
        if image.format == "PNG":
            return self._stored[24:25] == b"\x10" and self._stored[25] != 0
        if image.format == "TIFF":
            return max(image.tag_v2.get(BITS) or (8,)) > 8 and image.mode != "CMYK"
        if image.format == "JPEG2000":
            siz = self._stored.find(b"\xff\x4f\xff\x51")  # its first component, less one
            return image.mode == "RGB" and self._stored[siz + 42] & 0x7F >= 8
        if image.format == "PPM":
            most = _PPM.match(self._stored)
            return image.mode == "RGB" and most is not None and int(most[1]) > 255
        return False

    def _decoded(self, number: int) -> Values:
        image = self._image
        if image.format == "TIFF":
            _check_layout(image)
        if image.format in {"JPEG", "MPO"} and image.mode in {"L", "RGB"}:
            return _jpeg(self._stored, gray=image.mode == "L")
        if self._plain_png:
            return _by_opencv(self._stored, gray=image.mode == "L")
        is_deep_colour = self._has_deep_colour()
        image.load()
        if is_deep_colour:
            return self._deep_colour(number)
        if image.format == "JPEG" and (words := damage(self._stored, max_walked_bytes=0)):
            raise Damaged(words)
        return _levels(image)

    def _deep_colour(self, number: int) -> Values:
        """uint16: Pillow would keep the upper byte of each alone."""
        flags = cv2.IMREAD_UNCHANGED
        array = np.frombuffer(self._stored, np.uint8)
        is_read, found = cv2.imdecodemulti(array, flags, range=(number, number + 1))
        if not is_read or len(found) != 1 or found[0].dtype != np.uint16:
            raise ValueError("deep colour")
        values: Values = found[0]
        if values.ndim == 3 and values.shape[2] == 4:
            opaque = values[..., 3:].astype(np.uint32)
            values = (values[..., :3] * opaque // 0xFFFF).astype(np.uint16)
        return values

    def _orientation(self) -> int:
        """As cameras and scanners say it; of a TIFF, what is left after the decoder turned it."""
        if self._plain_png:
            return 1
        try:
            return int(self._image.getexif().get(ORIENTATION) or 1)
        except BROKEN:
            return 1

    def _too_large(self, words: str) -> BadFrame:
        return BadFrame(
            f"decode {self._where}: expected at most {MAX_PIXELS} px, got {words}",
            hint="scale it down",
        )

    def _damaged(self, page: int | None = None, words: str = "") -> BadFrame:
        if self._stored[128:132] == b"DICM":
            return BadFrame(
                f"decode {self._where}: expected an image, got a DICOM file",
                hint='show it with kind = "dicom"',
            )
        many = page is not None and len(self._numbers) > 1
        place = f"page {(page or 0) + 1} of {self.pages} of " if many else ""
        return BadFrame(
            f"decode {place}{self._where}: expected an image, got damaged or foreign bytes{words}",
            hint="remove it, or export it again as PNG",
        )


def _levels(image: Any) -> Values:
    """Of what Pillow has decoded. Raises: ValueError for colours of another kind."""
    mode = image.mode
    if mode[0] in "IF":
        return np.asarray(image)
    if mode in ALPHA or "transparency" in image.info:
        return _over_black(np.asarray(image.convert("RGBA")), gray=mode in {"L", "LA", "La"})
    if mode in {"1", "L"}:
        return np.asarray(image.convert("L"))
    if mode not in COLOUR:
        raise ValueError(mode)
    return _bgr(np.asarray(image.convert("RGB")))


def _jpeg(stored: bytes, *, gray: bool) -> Pixels:
    """By OpenCV, in a third of the time; which shows half a picture for a whole one if it may.

    Raises: Damaged.
    """
    try:
        found = _by_opencv(stored, gray=gray)
    except ValueError as error:
        words = damage(stored, max_walked_bytes=0)
        raise Damaged(words or str(error)) from None
    if words := damage(stored, found, max_walked_bytes=MAX_WALKED_BYTES):
        raise Damaged(words)
    return found


def _by_opencv(stored: bytes, *, gray: bool) -> Pixels:
    """8 bits, not turned. Raises: ValueError."""
    flags = cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR
    pixels = cv2.imdecode(np.frombuffer(stored, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("no decoder reads it")
    return np.asarray(pixels, np.uint8)


def _bgr(rgb: NDArray[np.uint8]) -> Pixels:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)


def _over_black(rgba: NDArray[np.uint8], *, gray: bool) -> Pixels:
    """What is transparent is black: what its pixels hold may never have been meant to be seen."""
    opaque = rgba[..., 3:].astype(np.uint16)
    shown = ((rgba[..., :3] * opaque + 127) // 255).astype(np.uint8)
    return shown[..., 0] if gray else _bgr(shown)


def _turned(values: Values, orientation: int) -> Values:
    """Upright, by the eight values of the tag."""
    if orientation in {5, 6, 7, 8}:
        values = values.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        values = values[::-1]
    if orientation in {2, 3, 6, 7}:
        values = values[:, ::-1]
    return values


def _plain_png(stored: bytes) -> bool:
    """Whether OpenCV may decode it, in half the time: 8 bits, whole, nothing that changes it.

    Raises: ValueError, struct.error, zlib.error for a chunk that is not whole, up to the last.
    """
    whole, at = memoryview(stored), 8
    kinds, data = set(), []
    while b"IEND" not in kinds:
        length, kind = struct.unpack_from(">L4s", stored, at)
        (told,) = struct.unpack_from(">L", stored, at + 8 + length)
        if zlib.crc32(whole[at + 4 : at + 8 + length]) != told:
            raise ValueError("check sum")
        kinds.add(kind)
        if kind == b"IDAT":
            data.append(whole[at + 8 : at + 8 + length])
        at += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">LLBBBBB", stored, 16)
    if depth != 8 or colour not in PLAIN_COLOURS or interlaced or not kinds <= PLAIN_CHUNKS:
        return False
    if width * height > MAX_PIXELS:
        return False
    _check_length(data, height * (1 + width * PLAIN_COLOURS[colour]))
    return True


def _check_length(data: Sequence[memoryview], expected: int) -> None:
    """Raises: ValueError, zlib.error."""
    inflate, found = zlib.decompressobj(), 0
    for piece in data:
        found += len(inflate.decompress(piece, expected - found + 1))
        if found > expected:
            return  # what is left over is in no picture
    if found < expected:
        raise ValueError("rows are missing")


def _is_whole_gif(stored: bytes) -> bool:
    """Whether its blocks lead to its end."""
    at = 13 + _colours(stored, 10)
    while at < len(stored) and stored[at] != 0x3B:
        if stored[at] == 0x2C:  # a page: place and size, colours, width of codes
            at += 11 + _colours(stored, at + 9)
        else:
            at += 2
        while at < len(stored) and stored[at]:
            at += 1 + stored[at]
        at += 1
    return at < len(stored)


def _colours(stored: bytes, at: int) -> int:
    """Bytes of a table of colours by its flags."""
    flags = stored[at] if at < len(stored) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_layout(image: Any) -> None:
    """A TIFF that leaves out some of its rows, or has them nowhere. Raises: ValueError."""
    tags = image.tag_v2
    is_tiled = TILE[0] in tags
    offsets, lengths = (tags.get(tag) for tag in (TILE if is_tiled else STRIP))
    if not offsets or not all(offsets) or (lengths is not None and not all(lengths)):
        raise ValueError("strips are missing")
    if is_tiled:
        return
    height = int(tags[HEIGHT])
    rows = max(1, min(int(tags.get(ROWS_PER_STRIP) or height), height))
    planes = len(image.getbands()) if tags.get(PLANAR) == 2 else 1
    if len(offsets) < -(-height // rows) * planes:
        raise ValueError("strips are missing")
