"""Whether a file that opens is all there, and whether it is one that was shown before.

Copying programs make a file full-size first and fill it later, or leave it cut off for seconds.
What looks unfinished is only waited for: a picture may be black in truth.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO, Final

import xxhash
from pydicom import uid

from edge_agent.core.order import spread
from edge_agent.sources.dicom.header import Header

TAIL_BYTES: Final = 64 << 10  # in which the end of encapsulated pixels is looked for
DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
UNDEFINED: Final = 0xFFFFFFFF
MARGIN_BYTES: Final = 4096  # so many zeros more may end one frame than another
MAX_FRAME_READ: Final = 64 << 20
MAX_SAMPLED: Final = 256  # frames, at so many parts of each
PARTS: Final = (0.0, 0.25, 0.5, 0.7)
SAMPLE_BYTES: Final = 4096
DIGEST_BYTES: Final = 16 << 20  # of a larger file, blocks spread over it are digested
BLOCK_BYTES: Final = 256 << 10


def doubt(file: BinaryIO, header: Header, file_bytes: int) -> str:
    """Why the open file does not look finished, in words; "": it is whole. Raises: OSError."""
    if _has_hole(file, file_bytes):
        return "parts of the file are not written yet"
    value = _pixels(file, header)
    if value is None:
        return "the file is cut off before its pixels"
    start, length = value
    if length == UNDEFINED:
        file.seek(max(start, file_bytes - TAIL_BYTES))
        return "" if DELIMITER in file.read(TAIL_BYTES) else "its pixels have no end"
    if start + length > file_bytes:
        return "the file is cut off"
    frames = max(1, header.frames)
    if _is_patchy(file, start, length // frames, frames):
        return "some of its frames are empty"
    return _empty_end(file, start, length, frames)


def digest(file: BinaryIO, file_bytes: int) -> int:
    """64 bits of the content, never 0: equal for equal files. Raises: OSError."""
    hashed = xxhash.xxh3_64(struct.pack("<Q", file_bytes))
    step = BLOCK_BYTES
    if file_bytes > DIGEST_BYTES:
        step = (file_bytes - BLOCK_BYTES) // (DIGEST_BYTES // BLOCK_BYTES - 1)
    for at in range(0, file_bytes, step):
        file.seek(at)
        hashed.update(file.read(BLOCK_BYTES))
    return hashed.intdigest() or 1


def _has_hole(file: BinaryIO, file_bytes: int) -> bool:
    """Space that was set aside and never written, where the file system tells."""
    try:
        return file_bytes > 0 and os.lseek(file.fileno(), 0, os.SEEK_HOLE) < file_bytes
    except (OSError, AttributeError):
        return False
    finally:
        file.seek(0)


def _pixels(file: BinaryIO, header: Header) -> tuple[int, int] | None:
    """Where the value of the pixel data begins, and its length."""
    is_implicit = header.syntax == uid.ImplicitVRLittleEndian
    size = 8 if is_implicit else 12
    file.seek(header.pixels_at)
    head = file.read(size)
    if len(head) < size:
        return None
    order = ">" if header.syntax == uid.ExplicitVRBigEndian else "<"
    return header.pixels_at + size, int(struct.unpack_from(f"{order}L", head, size - 4)[0])


def _is_patchy(file: BinaryIO, start: int, frame_bytes: int, frames: int) -> bool:
    """Whether samples of some frames are all zeros, and of others not."""
    found = set()
    for index in spread(frames, MAX_SAMPLED):
        samples = []
        for part in PARTS:
            file.seek(start + index * frame_bytes + int(part * frame_bytes))
            samples.append(file.read(min(SAMPLE_BYTES, frame_bytes // 4)))
        found.add(any(sample.strip(b"\0") for sample in samples))
    return len(found) > 1


def _empty_end(file: BinaryIO, start: int, length: int, frames: int) -> str:
    """Zeros at the end where the first frame has none: of one frame, more than half of it."""
    frame_bytes = length // frames
    if not 0 < frame_bytes <= MAX_FRAME_READ:
        return ""
    last = _zeros(file, start + frame_bytes * (frames - 1), frame_bytes)
    if frames > 1:
        margin = min(MARGIN_BYTES, frame_bytes // 8)
        usual = min(_zeros(file, start, frame_bytes) + margin, frame_bytes - 1)
    else:
        usual = frame_bytes // 2
    return "its last frame ends in zeros" if last > usual else ""


def _zeros(file: BinaryIO, at: int, length: int) -> int:
    """How many zero bytes end the piece."""
    file.seek(at)
    piece = file.read(length)
    return len(piece) - len(piece.rstrip(b"\0"))
