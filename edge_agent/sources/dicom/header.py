"""Reads from a DICOM file what showing it takes, and nothing else.

Only the listed elements are read at all: a name or an accession number never gets into memory. The
study's UID leaves this module as a pseudonym. Messages are our own words: pydicom's quote values.
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pydicom
import pydicom.config
import pydicom.filereader
import pydicom.multival
from numpy.typing import NDArray
from pydicom import uid
from pydicom.errors import BytesLengthException, InvalidDicomError

from edge_agent.core import dicom_counts, dicom_rules, dicom_timing
from edge_agent.core.calibration import MAX_REGIONS, Region
from edge_agent.core.errors import Rejected, SourceLost
from edge_agent.sources.dicom import palette, syntax

MAX_SIDE_PX = 16_384
MAX_FRAME_BYTES = 256 << 20  # decoded
MAX_FRAMES = 1_000_000
MAX_TIMED_FRAMES = 20_000  # whose moments of acquisition are read
FRAME_GROUPS = "PerFrameFunctionalGroupsSequence"

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
SUBSAMPLED = "YBR_FULL_422"
YBR = ("YBR_FULL", SUBSAMPLED)
JPEG_2000_ONLY = ("YBR_ICT", "YBR_RCT")
COLOUR = ("RGB", *YBR, *JPEG_2000_ONLY)
VIDEO_LABELS = (  # of a bit stream, which says itself what its colours are
    *("YBR_PARTIAL_420", "YBR_PARTIAL_422", *YBR, "RGB", "MONOCHROME2"),
)
# Begins as names of colour spaces do: any other capitals may be the name of a person.
COLOUR_SPACE = re.compile(
    r"(MONOCHROME|PALETTE|A?RGB|BGR|CMYK?|HSV|HSL|HLS|YBR|YCBCR|YUV|YIQ|XYB|XYZ|LAB|CIE|LUV|GRAY|"
    r"GREY|ICC)[A-Z0-9_ ]{0,15}"
)

TAGS = [
    *("StudyInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "FrameTime", "FrameTimeVector", "CineRate"),
    *("RecommendedDisplayFrameRate", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("RescaleSlope", "RescaleIntercept", "VOILUTSequence", "ModalityLUTSequence"),
    *("SequenceOfUltrasoundRegions", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *palette.TAGS,
    "FrameIncrementPointer",
]

# What pydicom and its decoders raise on bytes that are wrong.
BAD_BYTES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


class NotDicom(Rejected):
    """The file is something else."""


class NoPicture(Rejected):
    """A DICOM object that holds no picture: a report, a document, a directory."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A checked header. size: [width, height] px. palette: uint8 2**bits_allocated x 3, BGR."""

    syntax: str
    size: tuple[int, int]
    claimed: int | None  # NumberOfFrames; None where it is absent, empty or no number
    samples: int
    photometric: str
    planar: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    timing: dicom_timing.Timing
    regions: tuple[Region, ...]
    exam: str
    window: dicom_rules.Window | None = None
    palette: NDArray[np.uint8] | None = None
    palette_words: str = ""
    offsets: tuple[bytes, bytes] | None = None  # ExtendedOffsetTable and its lengths, raw
    pixels_at: int = 0  # of the element's tag in the file
    frames: int = 1  # counted in the file's bytes

    def stored_values(self) -> NDArray[np.float64]:
        """What each bit pattern of a pixel stands for."""
        return dicom_rules.stored_values(
            self.bits_allocated,
            is_signed=self.is_signed,
            bits_stored=self.bits_stored,
            high_bit=self.high_bit,
        )

    @property
    def shape(self) -> dicom_counts.Shape:
        """Of one frame as stored without compression."""
        return dicom_counts.Shape(
            pixels=self.size[0] * self.size[1],
            samples=self.samples,
            depth_bytes=self.bits_allocated // 8,
            is_subsampled=self.photometric == SUBSAMPLED,
            is_clip=bool(self.timing.pointers or self.timing.rates or self.timing.frame_times_ms),
        )


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """The file's own failures become ours. Raises: SourceLost, Rejected."""
    try:
        yield
    except InvalidDicomError:
        raise NotDicom(
            f"open {where}: expected a DICOM file, got something else (no DICM prefix)",
            hint="remove it from there, or export it again as DICOM Part 10",
        ) from None
    except OSError as error:
        raise SourceLost(f"read {where}: {error.strerror or 'it cannot be read'}") from None
    except BAD_BYTES:
        raise Rejected(
            f"open {where}: expected a whole DICOM header, got one that is cut off or damaged",
            hint="copy the file again from where it came from",
        ) from None


def quieten() -> None:
    """The words of pydicom quote values of the header: they reach neither log nor stderr."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", module=r"pydicom\b")
    warnings.filterwarnings("ignore", module=r"PIL\b")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE


def syntax_of(path: Path) -> str:
    """The transfer syntax of a file; "" when it has none that can be read."""
    quieten()
    try:
        return str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID", ""))
    except (OSError, *BAD_BYTES):
        return ""  # reading it says what is wrong


def read(path: Path, file: BinaryIO, *, where: str, key: bytes, is_video: bool = False) -> Header:
    """path: of the open file. where: words that name it. key: of the study's pseudonym.

    is_video: its pixels are one bit stream of MPEG-2, H.264 or HEVC; else they are images.

    Raises: Rejected, SourceLost.
    """
    quieten()
    with translated(where):
        # of the file meta alone: a deflated rest must not be inflated
        meta = pydicom.filereader.read_file_meta_info(path)
        transfer = str(meta.get("TransferSyntaxUID", ""))
        kind = str(meta.get("MediaStorageSOPClassUID", ""))
    _check_kind(kind, where)
    syntax.check(transfer, where, is_video=is_video)
    with translated(where):
        dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
        header = _header(dataset, transfer, key=key, pixels_at=file.tell())
    _check_kind(kind, where, sized=header.size != (0, 0))
    if is_video:
        _check_video(header, where)
    else:
        _check(header, where)
    if (
        not header.timing.rates
        and not header.timing.frame_times_ms
        and "Enhanced" in uid.UID(kind).name
    ):
        with translated(where):
            header = msgspec.structs.replace(header, timing=_timed(file, header.timing))
    if header.photometric == PALETTE:
        with translated(where):
            colours, words = palette.read(
                dataset, header.stored_values(), is_signed=header.is_signed, where=where
            )
        header = msgspec.structs.replace(header, palette=colours, palette_words=words)
    return header


def _header(dataset: Any, transfer: str, *, key: bytes, pixels_at: int) -> Header:
    stored = _whole(dataset, "BitsStored") or _whole(dataset, "BitsAllocated") or 0
    offsets = (dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths"))
    return Header(
        syntax=transfer,
        size=(_whole(dataset, "Columns") or 0, _whole(dataset, "Rows") or 0),
        claimed=_whole(dataset, "NumberOfFrames"),
        samples=_whole(dataset, "SamplesPerPixel") or 1,
        photometric=_label(dataset),
        planar=_whole(dataset, "PlanarConfiguration") or 0,
        bits_allocated=_whole(dataset, "BitsAllocated") or 0,
        bits_stored=stored,
        high_bit=stored - 1 if (high := _whole(dataset, "HighBit")) is None else high,
        is_signed=_whole(dataset, "PixelRepresentation") == 1,
        timing=_timing(dataset),
        regions=_regions(dataset),
        exam=dicom_rules.pseudonym(str(dataset.get("StudyInstanceUID") or ""), key),
        window=_window(dataset),
        offsets=offsets if isinstance(offsets[0], bytes) else None,
        pixels_at=pixels_at,
    )


def _check_kind(sop_class: str, where: str, *, sized: bool = True) -> None:
    """Raises: NoPicture."""
    if syntax.has_no_pixels(sop_class, sized=sized):
        raise NoPicture(
            f"open {where}: expected an image or a clip, got a report, a document or a directory",
            hint="point the source at images",
        )


def _check(header: Header, where: str) -> None:
    """Raises: Rejected for what can't be shown, whatever its pixels are."""
    width, height = header.size
    depth = (header.bits_allocated, header.bits_stored)
    is_mono = header.photometric in MONOCHROME or header.photometric == PALETTE
    if header.size == (0, 0):
        wrong = "an image or a clip, got a DICOM file that is neither"
    elif not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        wrong = f"1 to {MAX_SIDE_PX} px a side, got {width} x {height}"
    elif depth[0] not in (8, 16) or not 1 <= depth[1] <= depth[0]:
        wrong = f"8 or 16 bits allocated, got {depth[0]} with {depth[1]} stored"
    elif not is_mono and header.photometric not in COLOUR:
        known = ", ".join((*MONOCHROME, PALETTE, *COLOUR))
        wrong = f"a photometric interpretation of {known}, got {_named(header.photometric)}"
    elif header.samples != (1 if is_mono else 3):
        wrong = f"{1 if is_mono else 3} samples per pixel, got {header.samples}"
    elif width * height * 3 > MAX_FRAME_BYTES or header.shape.image_bytes > MAX_FRAME_BYTES:
        wrong = f"at most {MAX_FRAME_BYTES} bytes a frame, got {width} x {height} px"
    elif (misfit := _misfit(header) or _misplaced(header)) is not None:
        wrong = misfit
    else:
        return
    raise Rejected(
        f"open {where}: expected {wrong}",
        hint="export it as an ordinary image or clip, gray or colour with 8 bits",
    )


def _check_video(header: Header, where: str) -> None:
    """Raises: Rejected."""
    width, height = header.size
    depths = (8, 16) if header.syntax in syntax.HEVC else (8,)
    wanted = 1 if header.photometric in MONOCHROME else 3
    if header.size == (0, 0):
        wrong = "an image or a clip, got a DICOM file that is neither"
    elif not (1 <= width <= MAX_SIDE_PX and 1 <= height <= MAX_SIDE_PX):
        wrong = f"1 to {MAX_SIDE_PX} px a side, got {width} x {height}"
    elif header.bits_allocated not in depths:
        wrong = f"{' or '.join(map(str, depths))} bits allocated, got {header.bits_allocated}"
    elif header.photometric not in VIDEO_LABELS:
        known = ", ".join(VIDEO_LABELS)
        wrong = f"a photometric interpretation of {known}, got {_named(header.photometric)}"
    elif header.samples != wanted:
        wrong = f"{wanted} samples per pixel, got {header.samples}"
    elif width * height * 3 > MAX_FRAME_BYTES:
        wrong = f"at most {MAX_FRAME_BYTES} bytes a frame, got {width} x {height} px"
    else:
        return
    raise Rejected(f"open {where}: expected {wrong}", hint=syntax.VIDEO)


def _misfit(header: Header) -> str | None:
    """What of the label does not go with how the pixels are coded."""
    is_rle = header.syntax == uid.RLELossless
    if header.samples == 1 or (syntax.is_encapsulated(header.syntax) and not is_rle):
        return None
    coding = "pixels in RLE" if is_rle else "uncompressed pixels"
    wrong = None
    if header.photometric in JPEG_2000_ONLY:
        wrong = f"RGB or YBR_FULL for {coding}, got {header.photometric}"
    elif header.planar not in (0, 1):
        wrong = f"a planar configuration of 0 or 1, got {header.planar}"
    elif header.photometric != "RGB" and header.bits_allocated != 8:
        wrong = f"RGB for {coding} of 16 bits, got {header.photometric}"
    elif header.photometric == SUBSAMPLED and is_rle:
        wrong = f"RGB or YBR_FULL for {coding}, got {SUBSAMPLED}"
    elif header.photometric == SUBSAMPLED and (header.planar or header.size[0] % 2):
        got = f"planar configuration {header.planar}, {header.size[0]} columns"
        wrong = f"interleaved {SUBSAMPLED} of an even number of columns, got {got}"
    return wrong


def _named(photometric: str) -> str:
    """What may be told of a label: one that is no code string may be anything, also a name."""
    if not photometric:
        return "none"
    return photometric if COLOUR_SPACE.fullmatch(photometric) else "an unregistered value"


def _misplaced(header: Header) -> str | None:
    """What of the bits does not go with how the pixels are coded."""
    stored, high = header.bits_stored, header.high_bit
    coding = syntax.coding(header.syntax)
    if not stored - 1 <= high < header.bits_allocated:
        return (
            f"a high bit of {stored - 1} to {header.bits_allocated - 1} for {stored} of "
            f"{header.bits_allocated} bits, got {high}"
        )
    if high != stored - 1 and coding in (syntax.JPEG, syntax.JPEG_2000):
        return f"a high bit of {stored - 1} for {stored} bits in {coding}, got {high}"
    is_eight = stored == 8 and (header.bits_allocated == 8 or coding == syntax.JPEG)
    if header.photometric in YBR and not is_eight:
        return f"8 bits of {header.photometric}, got {stored} of {header.bits_allocated}"
    return None


# ── values, one by one ────────────────────────────────────────────────────────────────────────


def _number(dataset: Any, keyword: str) -> float | None:
    """The (first) value; None when it is missing, empty, not finite or no number."""
    try:
        value = dataset.get(keyword)
        if isinstance(value, pydicom.multival.MultiValue):
            value = value[0] if value else None
        number = None if value is None else float(value)
    except BAD_BYTES:
        return None
    return number if number is not None and math.isfinite(number) else None


def _whole(dataset: Any, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return int(number) if number is not None and number == int(number) else None


def _label(dataset: Any) -> str:
    return str(dataset.get("PhotometricInterpretation") or "").strip(" \0")


def _timing(dataset: Any) -> dicom_timing.Timing:
    rates = {name: _number(dataset, name) for name in dicom_timing.RATES}
    unread = [name for name, value in rates.items() if value is None and _is_said(dataset, name)]
    vector = _numbers(dataset, dicom_timing.VECTOR)
    if vector is None:
        unread.append(dicom_timing.VECTOR)
    return dicom_timing.Timing(
        pointers=_pointers(dataset),
        rates={name: value for name, value in rates.items() if value is not None},
        frame_times_ms=vector or (),
        unread=tuple(unread),
    )


def _timed(file: BinaryIO, timing: dicom_timing.Timing) -> dicom_timing.Timing:
    """With when each frame was acquired, as the functional groups have it."""
    file.seek(0)
    dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[FRAME_GROUPS])
    moments = []
    for item in list(dataset.get(FRAME_GROUPS) or [])[:MAX_TIMED_FRAMES]:
        content = (item.get("FrameContentSequence") or [{}])[0]
        moments.append(str(content.get(dicom_timing.MOMENTS) or ""))
    is_said = any(moments)
    return msgspec.structs.replace(timing, moments=tuple(moments) if is_said else ())


def _is_said(dataset: Any, keyword: str) -> bool:
    """Whether there is a value, be it what it may."""
    try:
        return dataset.get(keyword) not in (None, "")
    except BAD_BYTES:
        return True


def _numbers(dataset: Any, keyword: str) -> tuple[float, ...] | None:
    """All values, none when it is missing or empty; None when one is no number."""
    if not _is_said(dataset, keyword):
        return ()
    try:
        value = dataset.get(keyword)
        many = value if isinstance(value, pydicom.multival.MultiValue) else [value]
        return tuple(float(one) for one in many)
    except BAD_BYTES:
        return None


def _pointers(dataset: Any) -> tuple[int, ...]:
    """The tags that FrameIncrementPointer names."""
    try:
        value = dataset.get("FrameIncrementPointer")
        many = value if isinstance(value, pydicom.multival.MultiValue) else [value]
        return tuple(int(one) for one in many if one is not None)
    except BAD_BYTES:
        return ()


def _regions(dataset: Any) -> tuple[Region, ...]:
    items = dataset.get("SequenceOfUltrasoundRegions") or []
    return tuple(
        Region(
            spatial_format=_whole(item, "RegionSpatialFormat"),
            data_type=_whole(item, "RegionDataType"),
            units_x=_whole(item, "PhysicalUnitsXDirection"),
            units_y=_whole(item, "PhysicalUnitsYDirection"),
            x0=_whole(item, "RegionLocationMinX0"),
            y0=_whole(item, "RegionLocationMinY0"),
            x1=_whole(item, "RegionLocationMaxX1"),
            y1=_whole(item, "RegionLocationMaxY1"),
            delta_x=_number(item, "PhysicalDeltaX"),
            delta_y=_number(item, "PhysicalDeltaY"),
        )
        for item in items[: MAX_REGIONS + 1]  # one more: that not all are known is told
    )


def _window(dataset: Any) -> dicom_rules.Window | None:
    """None where there is none, or where a look-up table goes before it or stands for it."""
    if "VOILUTSequence" in dataset or "ModalityLUTSequence" in dataset:
        return None
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    window = dicom_rules.Window(
        center=center,
        width=width,
        function=str(dataset.get("VOILUTFunction") or "LINEAR"),
        slope=1.0 if slope is None else slope,
        intercept=intercept or 0.0,
    )
    return window if window.is_usable else None
