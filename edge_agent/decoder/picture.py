"""Turns a decoded frame into BGR or gray in memory that is shared. In the child alone.

Square pixels: the sample aspect ratio widens or narrows the picture, its lines stay as they are.
Interlaced 4:2:0 is converted a field at a time, because its chroma lines belong to fields; the
fields stay woven, `core.fields` takes the combs out. Colours by the tags of the frame; without tags
BT.709 for HD and BT.601 for SD, as every player has it.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final, NamedTuple

from edge_agent.core.errors import Rejected
from edge_agent.decoder.library import Library

MAX_SIDE_PX: Final = 16_384
MAX_FRAME_BYTES: Final = 256 << 20
ROW_BYTES: Final = 64  # rows begin at multiples of it, and as much room lies behind each: vector
# code writes past the end of a row, which must not be the next field's beginning
BICUBIC: Final = 4
SMALLEST_ASPECT, LARGEST_ASPECT = 0.25, 4.0
HD_WIDTH_PX, HD_HEIGHT_PX = 1280, 720
UNSAID, RGB = 2, 0  # AVCOL_SPC
BT709, BT601 = 1, 5
MATRICES: Final = {
    1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020", 10: "BT.2020",
}  # fmt: skip
SWS_MATRIX: Final = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
FULL_RANGE: Final = 2
IS_PALETTE, IS_RGB, HAS_ALPHA = 1 << 1, 1 << 5, 1 << 7
FIELD_ORDERS: Final = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}  # AVFieldOrder, as displayed
ONE: Final = 1 << 16
_FOUR = ctypes.c_void_p * 4
_LINES = ctypes.c_int * 4


class Shape(NamedTuple):
    """What a frame will be. stride: bytes from row to row. field: shown first; "" is progressive.

    colours: matrix and range in words. source: [width, height] px as coded. aspect: of a sample.
    """

    width: int
    height: int
    channels: int
    stride: int
    field: str
    colours: str
    source: tuple[int, int]
    aspect: tuple[int, int]

    @property
    def bytes(self) -> int:
        return self.stride * self.height + ROW_BYTES


class Painter:
    """Keeps the converter of the last size and format. as_coded: pixels are not made square."""

    def __init__(
        self, ffmpeg: Library, *, codec: str, field_order: int, as_coded: bool = False
    ) -> None:
        self._ffmpeg = ffmpeg
        self._as_coded = as_coded
        self._codec = codec
        self._order = FIELD_ORDERS.get(field_order, "")
        self._context: int | None = None
        self._key: tuple[Any, ...] = ()
        self._bgr = int(ffmpeg.av_get_pix_fmt(b"bgr24"))
        self._gray = int(ffmpeg.av_get_pix_fmt(b"gray"))

    def shape(self, frame: int, aspect: tuple[int, int]) -> Shape:
        """aspect: of a sample, as the container has it; the frame's own goes before.

        Raises: Rejected when it is larger than anything that is shown here.
        """
        ffmpeg = self._ffmpeg
        width, height = (ffmpeg.int32("AVFrame", frame, side) for side in ("width", "height"))
        own = ffmpeg.ratio("AVFrame", frame, "sample_aspect_ratio")
        aspect = own if own[0] > 0 and own[1] > 0 else aspect
        shown = width if self._as_coded else widened(width, aspect)
        field = self._field(frame)
        if field and self._codec == "hevc":  # its fields come one by one
            field, height = "", height * 2
        channels = 1 if self._is_gray(frame) else 3
        check_size(shown, height)
        stride = (shown * channels + 2 * ROW_BYTES - 1) // ROW_BYTES * ROW_BYTES
        matrix, full = self._colours(frame, width, height)
        words = f"{MATRICES.get(matrix, 'RGB')}, {'full' if full else 'limited'} range"
        if channels == 1:
            words = f"gray, {'full' if full else 'limited'} range"
        return Shape(
            width=shown,
            height=height,
            channels=channels,
            stride=stride,
            field=field,
            colours=words,
            source=(width, ffmpeg.int32("AVFrame", frame, "height")),
            aspect=aspect,
        )

    def paint(self, frame: int, shape: Shape, target: int) -> None:
        """Into `shape.bytes` bytes at the address `target`. Raises: Rejected."""
        if not shape.field:
            self._convert(frame, shape, target, parts=1, part=0)
            return
        for part in (0, 1):
            self._convert(frame, shape, target, parts=2, part=part)

    def _convert(self, frame: int, shape: Shape, target: int, *, parts: int, part: int) -> None:
        """All rows, or every other one."""
        ffmpeg = self._ffmpeg
        format_ = ffmpeg.int32("AVFrame", frame, "format")
        width, height = shape.source
        rows = (height + parts - 1 - part) // parts
        out_rows = (shape.height + parts - 1 - part) // parts
        self._prepare(frame, (width, rows, format_), (shape.width, out_rows, shape.channels))
        data = frame + ffmpeg.fields["AVFrame"]["data"]
        lines = frame + ffmpeg.fields["AVFrame"]["linesize"]
        steps = list((ctypes.c_int32 * 4).from_address(lines))
        planes = list((ctypes.c_void_p * 4).from_address(data))
        starts = [
            (at + part * step if at else None) for at, step in zip(planes, steps, strict=True)
        ]
        if parts == 2 and self._flags(frame) & IS_PALETTE:
            starts[1] = planes[1]  # the palette has no rows
        done = ffmpeg.sws_scale(
            self._context,
            _FOUR(*starts),
            _LINES(*(step * parts for step in steps)),
            0,
            rows,
            _FOUR(target + part * shape.stride, None, None, None),
            _LINES(shape.stride * parts, 0, 0, 0),
        )
        if done != out_rows:
            raise Rejected(f"expected {out_rows} rows of a picture, the converter gave {done}")

    def _prepare(self, frame: int, source: tuple[int, int, int], out: tuple[int, int, int]) -> None:
        ffmpeg = self._ffmpeg
        matrix, full = self._colours(frame, *(ffmpeg.int32("AVFrame", frame, s) for s in SIDES))
        key = (source, out, matrix, full)
        if key == self._key:
            return
        self._context = ffmpeg.sws_getCachedContext(
            self._context,
            *source,
            out[0],
            out[1],
            self._gray if out[2] == 1 else self._bgr,
            BICUBIC,
            *(None,) * 3,
        )
        self._key = ()
        if not self._context:
            raise Rejected("its pictures have a format that can not be converted")
        table = ffmpeg.sws_getCoefficients(SWS_MATRIX.get(matrix, BT601))
        ffmpeg.sws_setColorspaceDetails(
            self._context, table, int(full), table, 1, 0, ONE, ONE
        )  # negative where there is nothing to set: RGB to RGB
        self._key = key

    def _colours(self, frame: int, width: int, height: int) -> tuple[int, bool]:
        """Matrix (0 is RGB) and whether black is 0."""
        ffmpeg = self._ffmpeg
        if self._flags(frame) & IS_RGB:
            return RGB, True
        matrix = ffmpeg.int32("AVFrame", frame, "colorspace")
        if matrix not in MATRICES:
            matrix = BT709 if width >= HD_WIDTH_PX or height >= HD_HEIGHT_PX else BT601
        full = ffmpeg.int32("AVFrame", frame, "color_range") == FULL_RANGE
        return matrix, full or self._name(frame).startswith("yuvj")

    def _field(self, frame: int) -> str:
        """Which field is shown first; "" when the frame is progressive."""
        ffmpeg = self._ffmpeg
        if ffmpeg.int32("AVFrame", frame, "height") < 2:
            return ""
        if ffmpeg.int32("AVFrame", frame, "interlaced_frame"):
            return "top" if ffmpeg.int32("AVFrame", frame, "top_field_first") else "bottom"
        return self._order if self._codec in UNMARKED else ""

    def _is_gray(self, frame: int) -> bool:
        flags = self._flags(frame)
        at = self._descriptor(frame)
        count = self._ffmpeg.byte("AVPixFmtDescriptor", at, "nb_components")
        return count - bool(flags & HAS_ALPHA) == 1 and not flags & (IS_RGB | IS_PALETTE)

    def _descriptor(self, frame: int) -> int:
        """Raises: Rejected."""
        found = self._ffmpeg.av_pix_fmt_desc_get(self._ffmpeg.int32("AVFrame", frame, "format"))
        if not found:
            raise Rejected("its pictures have a format that is not known")
        return int(found)

    def _flags(self, frame: int) -> int:
        return self._ffmpeg.int64("AVPixFmtDescriptor", self._descriptor(frame), "flags")

    def _name(self, frame: int) -> str:
        return self._ffmpeg.text("AVPixFmtDescriptor", self._descriptor(frame), "name")


SIDES: Final = ("width", "height")
# Whose frames do not say that they are interlaced; their container does.
UNMARKED: Final = frozenset({"mjpeg", "rawvideo", "ffv1", "huffyuv", "utvideo", "v210", "png"})


def widened(width: int, aspect: tuple[int, int]) -> int:
    """The width in square pixels; an aspect that no camera has is left alone."""
    if aspect[0] <= 0 or aspect[1] <= 0:
        return width
    ratio = aspect[0] / aspect[1]
    return max(1, round(width * ratio)) if SMALLEST_ASPECT <= ratio <= LARGEST_ASPECT else width


def check_size(width: int, height: int) -> None:
    """Raises: Rejected."""
    if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
        raise Rejected(f"expected 1 to {MAX_SIDE_PX} px a side, got {width} x {height}")
    if width * height * 3 > MAX_FRAME_BYTES:
        raise Rejected(
            f"expected at most {MAX_FRAME_BYTES} bytes a frame, got {width} x {height} px"
        )
