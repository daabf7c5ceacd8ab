"""DICOM files that hold a bit stream of video, made by ffmpeg; without it, tests are skipped."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import uid

from tests import clips
from tests.sources import dicoms

H264, HEVC, MPEG2 = (f"1.2.840.10008.1.2.4.{end}" for end in ("102", "107", "100"))
SIZE, FPS = (64, 48), 25
MPEG2_ENCODER = ("-c:v", "mpeg2video", "-qscale:v", "2")
PLAIN = f"{clips.PLAIN}:s={SIZE[0]}x{SIZE[1]}:r={FPS}"
MOVING = f"testsrc=s={SIZE[0]}x{SIZE[1]}:r={FPS}"


def item(content: bytes) -> bytes:
    content += b"\0" * (len(content) % 2)
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def encapsulated(
    pieces: Sequence[bytes], *, table: bytes | None = b"", is_ended: bool = True
) -> bytes:
    """table: None leaves the offset table out."""
    items = [*([] if table is None else [item(table)]), *(item(piece) for piece in pieces)]
    return b"".join(items) + (struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) if is_ended else b"")


def write(
    path: Path,
    content: bytes,
    *,
    syntax: str = H264,
    size: tuple[int, int] = SIZE,
    frames: int | None = 10,
    is_undefined: bool = True,
    **elements: Any,
) -> Path:
    """content: of the pixel data element, as `encapsulated` makes it."""
    words = {"PhotometricInterpretation": "YBR_PARTIAL_420", "NumberOfFrames": frames, **elements}
    made = dicoms.dataset(np.zeros((1, size[1], size[0], 3), np.uint8), dicoms.EXPLICIT, **words)
    made.file_meta.TransferSyntaxUID = uid.UID(syntax)
    del made.PixelData
    made.save_as(path, enforce_file_format=True)
    length = 0xFFFFFFFF if is_undefined else len(content)
    with path.open("ab") as file:
        file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, length) + content)
    return path
