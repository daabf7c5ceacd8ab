"""Where in the file each frame's bytes are, found without reading them.

A file that was cut off is found out here, before anything of it is shown.

    native          encapsulated (PS3.5 A.4)
    | tag vr len |  | tag vr FFFFFFFF | item: offset table | item: fragment | ... | delimiter |
    | frame ...  |  a frame is one fragment, or the fragments from its offset to the next
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import BinaryIO

from pydicom import uid

from edge_agent.core.errors import Rejected
from edge_agent.sources.dicom import syntax
from edge_agent.sources.dicom.header import MAX_FRAME_BYTES, MAX_FRAMES, Header

PIXEL_DATA = (0x7FE0, 0x0010)
ITEM, DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF
MAX_FRAGMENTS = 4 * MAX_FRAMES
END_OF_IMAGE = b"\xff\xd9"  # of JPEG and JPEG 2000

Piece = tuple[int, int]  # offset in the file, bytes


class Native:
    """Frames of equal size, one behind the other. pixel_vr: OB or OW."""

    def __init__(self, start: int, frame_bytes: int, pixel_vr: str) -> None:
        self._start, self._frame_bytes, self.pixel_vr = start, frame_bytes, pixel_vr

    def pieces(self, index: int) -> Sequence[Piece]:
        return ((self._start + index * self._frame_bytes, self._frame_bytes),)


class Encapsulated:
    """Frames of fragments."""

    pixel_vr = "OB"

    def __init__(self, frames: Sequence[Sequence[Piece]]) -> None:
        self._frames = frames

    def pieces(self, index: int) -> Sequence[Piece]:
        return self._frames[index]


def find(file: BinaryIO, header: Header, *, where: str, file_bytes: int) -> Native | Encapsulated:
    """Raises: Rejected when there are no pixels, or fewer than the header says."""
    file.seek(header.pixels_at)
    length, pixel_vr = _element(file, header.syntax, where)
    start = file.tell()
    if not syntax.is_encapsulated(header.syntax):
        wanted = header.frames * header.frame_bytes
        there = min(file_bytes - start, length)
        if there < wanted:
            raise _cut_off(where, f"{wanted} bytes of pixels", f"{there}")
        return Native(start, header.frame_bytes, pixel_vr)
    if length != UNDEFINED:
        raise _cut_off(where, "encapsulated pixels", "an element of fixed length")
    table = _table(file, where)
    first = file.tell()
    fragments = _fragments(file, where, file_bytes)
    frames = _group(file, header, table=table, fragments=fragments, first=first)
    if len(frames) < header.frames:
        raise _cut_off(where, f"{header.frames} frames", f"{len(frames)}")
    if any(sum(size for _, size in frame) > MAX_FRAME_BYTES for frame in frames):
        raise _cut_off(where, f"at most {MAX_FRAME_BYTES} bytes a frame", "more")
    return Encapsulated(frames)


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
    length = int(struct.unpack_from(f"{order}L", head, len(head) - 4)[0])
    return length, "OW" if is_implicit or head[4:6] == b"OW" else "OB"


def _item(file: BinaryIO) -> tuple[tuple[int, int], int] | None:
    """(tag, length) of the item here; None at the end of the file."""
    if len(head := file.read(8)) < 8:
        return None
    group, element, length = struct.unpack("<HHL", head)
    return (group, element), length


def _table(file: BinaryIO, where: str) -> list[int]:
    """The basic offset table, often empty: offsets from the first fragment's item."""
    item = _item(file)
    if item is None or item[0] != ITEM or item[1] > 4 * MAX_FRAMES:
        raise _cut_off(where, "a basic offset table", "something else")
    entries = file.read(item[1])
    return list(struct.unpack(f"<{len(entries) // 4}L", entries[: len(entries) // 4 * 4]))


def _fragments(file: BinaryIO, where: str, file_bytes: int) -> list[Piece]:
    """Every whole fragment up to the delimiter, or up to where the file was cut off."""
    found: list[Piece] = []
    while (item := _item(file)) is not None and item[0] != DELIMITER:
        at, length = file.tell(), item[1]
        if item[0] != ITEM or length == UNDEFINED or len(found) == MAX_FRAGMENTS:
            raise _cut_off(where, "a fragment of pixels", "something else")
        if at + length > file_bytes:
            break
        found.append((at, length))
        file.seek(at + length)
    return found


def _group(
    file: BinaryIO, header: Header, *, table: list[int], fragments: list[Piece], first: int
) -> Sequence[Sequence[Piece]]:
    """The fragments of each frame: by an offset table, one by one, or by where images end."""
    for offsets in (_extended(header), table):
        if frames := _by_offsets(offsets, fragments, first=first, frames=header.frames):
            return frames
    if len(fragments) <= header.frames:
        return [(fragment,) for fragment in fragments]
    if header.frames == 1:
        return [fragments]
    return _by_ends(file, fragments)


def _extended(header: Header) -> list[int]:
    if header.offsets is None:
        return []
    raw = header.offsets[0]
    return list(struct.unpack(f"<{len(raw) // 8}Q", raw[: len(raw) // 8 * 8]))


def _by_offsets(
    offsets: list[int], fragments: list[Piece], *, first: int, frames: int
) -> Sequence[Sequence[Piece]]:
    """Empty when the offsets don't fit the fragments: then they are wrong."""
    places = {at - 8 - first: number for number, (at, _) in enumerate(fragments)}
    if len(offsets) != frames or not all(offset in places for offset in offsets):
        return ()
    starts = [places[offset] for offset in offsets] + [len(fragments)]
    if any(here >= there for here, there in pairwise(starts)):
        return ()
    return [fragments[here:there] for here, there in pairwise(starts)]


def _by_ends(file: BinaryIO, fragments: list[Piece]) -> Sequence[Sequence[Piece]]:
    frames: list[list[Piece]] = [[]]
    for at, length in fragments:
        frames[-1].append((at, length))
        tail = min(length, 10)
        file.seek(at + length - tail)
        if END_OF_IMAGE in file.read(tail):
            frames.append([])
    return frames if frames[-1] else frames[:-1]


def _cut_off(where: str, expected: str, got: str) -> Rejected:
    return Rejected(
        f"open {where}: expected {expected}, got {got}: the file is cut off or damaged",
        hint="copy the file again from where it came from",
    )
