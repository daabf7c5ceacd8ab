"""Where in the file each frame's bytes are, and how many frames there are.

A file that was cut off is found out here, before anything of it is shown. Of compressed pixels only
the ends of each fragment are read.

    native          encapsulated (PS3.5 A.4)
    | tag vr len |  | tag vr FFFFFFFF | item: offset table | item: fragment | ... | delimiter |
    | frame ...  |  a frame is one fragment, or the fragments up to the next that begins an image
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import BinaryIO

from pydicom import uid

from edge_agent.core import dicom_counts
from edge_agent.core.errors import Rejected
from edge_agent.sources.dicom import syntax
from edge_agent.sources.dicom.header import MAX_FRAME_BYTES, MAX_FRAMES, Header

PIXEL_DATA = (0x7FE0, 0x0010)
ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF
MAX_FRAGMENTS = 4 * MAX_FRAMES
RLE_HEADER = struct.Struct("<16L")  # PS3.5 G.5: the number of segments, their offsets
MAX_RLE_SEGMENTS = 15
BEGINS = (  # of an image, by how its coding begins
    b"\xff\xd8\xff",  # JPEG, JPEG-LS: SOI and the next marker
    b"\xff\x4f\xff\x51",  # JPEG 2000: SOC, SIZ
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000 in a JP2 file
)
END_OF_IMAGE = b"\xff\xd9"  # of JPEG and JPEG 2000
NEXT_IMAGE = re.compile(rb"\xff\xd9\0?(?:\xff\xd8\xff|\xff\x4f\xff\x51)")
PADDING = b"\0\xff "
HEAD_BYTES = RLE_HEADER.size  # the longest of what an image begins with
TAIL_BYTES = 64  # of a fragment, in which an end of image is looked for
SAMPLE_BYTES = 1 << 20  # of uncompressed pixels, in which neighbours are compared

Piece = tuple[int, int, bool]  # offset in the file, bytes, whether an image begins there


class Native:
    """Frames of equal size, one behind the other.

    is_swapped: samples of 8 bits in words of 16 bits, big-endian: each pair of bytes is swapped,
    and a frame of an odd number of bytes begins or ends in the middle of a pair.
    """

    def __init__(
        self,
        start: int,
        frame_bytes: int,
        images: dicom_counts.Images,
        *,
        pixel_vr: str,
        is_swapped: bool,
    ) -> None:
        self._start, self._frame_bytes, self._is_swapped = start, frame_bytes, is_swapped
        self.frames, self.notes, self.pixel_vr = images.count, images.notes, pixel_vr

    def read(self, file: BinaryIO, index: int) -> bytes:
        """The bytes of frame `index` from 0; those of 8 bits one by one. Raises: OSError."""
        at = index * self._frame_bytes
        if not self._is_swapped:
            file.seek(self._start + at)
            return file.read(self._frame_bytes)
        before = at % 2
        file.seek(self._start + at - before)
        words = bytearray(file.read(before + self._frame_bytes + (before + self._frame_bytes) % 2))
        words[::2], words[1::2] = words[1::2], words[::2]
        return bytes(words[before : before + self._frame_bytes])


class Encapsulated:
    """Frames of fragments."""

    pixel_vr = "OB"

    def __init__(self, frames: Sequence[Sequence[Piece]], notes: tuple[str, ...]) -> None:
        self._frames, self.frames, self.notes = frames, len(frames), notes

    def read(self, file: BinaryIO, index: int) -> bytes:
        """As `Native.read`."""
        read = []
        for at, length, _ in self._frames[index]:
            file.seek(at)
            read.append(file.read(length))
        return b"".join(read)


def is_run_together(read: bytes) -> bool:
    """Whether compressed bytes are several images, of which a decoder would show the first.

    A thumbnail inside of an image ends there too, but no image begins behind it.
    """
    return NEXT_IMAGE.search(read) is not None


def find(file: BinaryIO, header: Header, *, where: str, file_bytes: int) -> Native | Encapsulated:
    """Raises: Rejected when there are no pixels, when they end too early, when in doubt."""
    file.seek(header.pixels_at)
    length, pixel_vr = _element(file, header.syntax, where)
    is_encapsulated = syntax.is_encapsulated(header.syntax)
    if is_encapsulated != (length == UNDEFINED):
        expected, got = "uncompressed pixels, of a stated length", "compressed ones, in fragments"
        if is_encapsulated:
            expected, got = "compressed pixels, in fragments", f"{length} bytes without any"
        raise Rejected(
            f"open {where}: expected {expected}, as the transfer syntax says, got {got}",
            hint="export it again; its transfer syntax is not the one of its pixels",
        )
    if is_encapsulated:
        return _encapsulated(file, header, where=where, file_bytes=file_bytes)
    return _native(
        file, header, where=where, there=file_bytes - file.tell(), element=(length, pixel_vr)
    )


def _native(
    file: BinaryIO, header: Header, *, where: str, there: int, element: tuple[int, str]
) -> Native:
    length, pixel_vr = element
    start, shape = file.tell(), header.shape
    if there < length:
        raise _cut_off(where, f"{length} bytes of pixels", f"{there}")

    def is_blank(last: int) -> bool:
        file.seek(start + length - last)
        return not any(file.read(last))

    def sample() -> bytes:
        file.seek(start + max(length - SAMPLE_BYTES, 0) // 2)
        return file.read(min(length, SAMPLE_BYTES))

    looks = dicom_counts.Looks(is_blank=is_blank, sample=sample)
    images = dicom_counts.native(length, shape, header.claimed, looks)
    if isinstance(images, dicom_counts.Doubt):
        if images.is_short:
            raise _cut_off(where, images.expected, images.got)
        raise Rejected(
            f"open {where}: expected {images.expected} ({header.photometric}), got {images.got}: "
            "its header and its pixels are not of one kind",
            hint="export it again, as RGB or with JPEG baseline frames",
        )
    _check_count(images.count, where)
    is_narrow = header.bits_allocated == 8
    is_big = header.syntax == uid.ExplicitVRBigEndian
    return Native(
        start,
        shape.image_bytes,
        images,
        pixel_vr="OB" if is_narrow else pixel_vr,  # of what `read` gives
        is_swapped=is_big and is_narrow and pixel_vr == "OW",
    )


def _encapsulated(file: BinaryIO, header: Header, *, where: str, file_bytes: int) -> Encapsulated:
    table = _table(file, where)
    first = file.tell()
    found, is_whole = _fragments(file, where, file_bytes)
    places = {at - 8 - first: number for number, (at, _, _) in enumerate(found)}
    kept = [number for number, (_, length, _) in enumerate(found) if length]
    tables = [_numbers(offsets, places, kept) for offsets in (_extended(header), table)]
    pieces = [found[number] for number in kept]
    if not pieces:
        raise _cut_off(where, "a fragment of pixels", "none")
    starts = _starts(file, header, pieces, [numbers for numbers in tables if numbers])
    frames = [pieces[here:there] for here, there in pairwise([*starts, len(pieces)])]
    wanted = 1 if header.claimed is None else header.claimed
    if not is_whole and (header.claimed is None or len(frames) != wanted):
        raise _cut_off(where, f"{wanted} frames", f"{len(frames)}")
    _check_count(len(frames), where)
    if any(sum(size for _, size, _ in frame) > MAX_FRAME_BYTES for frame in frames):
        raise _cut_off(where, f"at most {MAX_FRAME_BYTES} bytes a frame", "more")
    return Encapsulated(frames, dicom_counts.notes(len(frames), header.claimed))


def _check_count(count: int, where: str) -> None:
    if count > MAX_FRAMES:
        raise Rejected(f"open {where}: expected 1 to {MAX_FRAMES} frames, got {count}")


def _element(file: BinaryIO, transfer: str, where: str) -> tuple[int, str]:
    """The length and the VR of the pixel data element; leaves the file at its value."""
    order = ">" if transfer == uid.ExplicitVRBigEndian else "<"
    is_implicit = transfer == uid.ImplicitVRLittleEndian
    head = file.read(8 if is_implicit else 12)
    if (
        len(head) < (8 if is_implicit else 12)
        or struct.unpack_from(f"{order}HH", head) != PIXEL_DATA
    ):
        raise Rejected(
            f"open {where}: expected an image or a clip, got a file without whole pixel data",
            hint="point the source at images; reports and cut-off files have none",
        )
    if not is_implicit and not head[4:6].isalpha():  # implicit all the same, as pydicom reads it
        file.seek(-4, os.SEEK_CUR)
        head, is_implicit = head[:8], True
    length = int(struct.unpack_from(f"{order}L", head, len(head) - 4)[0])
    return length, "OW" if is_implicit or head[4:6] == b"OW" else "OB"


def _item(file: BinaryIO) -> tuple[tuple[int, int], int] | None:
    """(tag, length) of the item here; None at the end of the file."""
    if len(head := file.read(8)) < 8:
        return None
    group, element, length = struct.unpack("<HHL", head)
    return (group, element), length


def _table(file: BinaryIO, where: str) -> list[int]:
    """The basic offset table, often empty: offsets from the first fragment's item.

    Some writers leave it out: an item that begins an image is no table.
    """
    start = file.tell()
    item = _item(file)
    if item is None or item[0] != ITEM:
        raise _cut_off(where, "a basic offset table", "something else")
    if _begins(file.read(min(item[1], HEAD_BYTES))):
        file.seek(start)
        return []
    if item[1] > 4 * MAX_FRAMES:
        raise _cut_off(where, "a basic offset table", "something else")
    file.seek(start + 8)
    entries = file.read(item[1])
    return list(struct.unpack(f"<{len(entries) // 4}L", entries[: len(entries) // 4 * 4]))


def _fragments(file: BinaryIO, where: str, file_bytes: int) -> tuple[list[Piece], bool]:
    """Every whole fragment up to the delimiter, and whether the delimiter is there."""
    found: list[Piece] = []
    while (item := _item(file)) is not None:
        at, length = file.tell(), item[1]
        if item[0] == DELIMITER:
            return found, True
        if item[0] != ITEM or length == UNDEFINED or len(found) == MAX_FRAGMENTS:
            raise _cut_off(where, "a fragment of pixels", "something else")
        if at + length > file_bytes:
            break
        found.append((at, length, _begins(file.read(min(length, HEAD_BYTES)))))
        file.seek(at + length)
    return found, False


def _extended(header: Header) -> list[int]:
    if header.offsets is None:
        return []
    raw = header.offsets[0]
    return list(struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))


def _numbers(offsets: list[int], places: dict[int, int], kept: list[int]) -> list[int]:
    """The fragments that offsets lead to, by their place in `kept`; none when one leads nowhere."""
    behind = {number: place for place, number in enumerate(kept)}
    numbers = [behind.get(places.get(offset, -1), -1) for offset in offsets]
    rises = all(here < there for here, there in pairwise(numbers))
    return numbers if numbers[:1] == [0] and rises else []


def _starts(
    file: BinaryIO, header: Header, pieces: list[Piece], tables: list[list[int]]
) -> list[int]:
    """The first fragment of each image."""
    is_rle = header.syntax == uid.RLELossless
    # PS3.5 A.4.2: in RLE an image is one fragment, be it damaged.
    is_each = is_rle or all(begins for _, _, begins in pieces)
    if is_each and header.claimed == len(pieces):
        return list(range(len(pieces)))
    marks, tail, header_left = [], b"", 0  # bytes of the image's header that are still to come
    for number, (at, length, looks_so) in enumerate(pieces):
        begins = looks_so and header_left <= 0
        if begins:
            header_left = dicom_counts.jpeg_header_bytes(partial(_read, file, pieces, number))
        header_left -= length
        before, tail = tail, _tail(file, at, length)
        stripped = tail.rstrip(PADDING)
        marks.append(
            dicom_counts.Marks(
                begins=begins,
                ends=header_left < 0 and (before[-1:] + stripped).endswith(END_OF_IMAGE),
                # an image of nothing but padding, that is: a damaged one, is longer
                is_padding=not stripped and length <= TAIL_BYTES,
            )
        )
    return dicom_counts.fragments(marks, tables, header.claimed)


def _begins(head: bytes) -> bool:
    return head.startswith(BEGINS) or _is_rle(head)


def _is_rle(head: bytes) -> bool:
    """Whether it can be the header of an image in RLE: each segment lies behind the one before."""
    if len(head) < RLE_HEADER.size:
        return False
    segments, *offsets = RLE_HEADER.unpack_from(head)
    if not 1 <= segments <= MAX_RLE_SEGMENTS or offsets[0] != RLE_HEADER.size:
        return False
    used, unused = offsets[:segments], offsets[segments:]
    return all(here < there for here, there in pairwise(used)) and not any(unused)


def _read(file: BinaryIO, pieces: list[Piece], number: int, at: int, count: int) -> bytes:
    """`count` bytes from `at` on, counted from the begin of piece `number`; fewer at the end."""
    read = b""
    while len(read) < count and number < len(pieces):
        start, length, _ = pieces[number]
        if at < length:
            file.seek(start + at)
            part = file.read(min(count - len(read), length - at))
            read, at = read + part, at + len(part)
        if at >= length:
            number, at = number + 1, at - length
    return read


def _tail(file: BinaryIO, at: int, length: int) -> bytes:
    tail = min(length, TAIL_BYTES)
    file.seek(at + length - tail)
    return file.read(tail)


def _cut_off(where: str, expected: str, got: str) -> Rejected:
    return Rejected(
        f"open {where}: expected {expected}, got {got}: the file is cut off or damaged",
        hint="copy the file again from where it came from",
    )
