"""Where in the file a bit stream of video is: MPEG-2, H.264 or HEVC in fragments (PS3.5 A.4).

    | 7FE0,0010 OB FFFFFFFF | item: offset table | item: fragment | ... | delimiter |

All frames are one stream; fragments cut it anywhere. One fragment is read where it lies; several
are joined in memory. Some writers leave the table out, or write the stream without items.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

import msgspec

from edge_agent.core.errors import Rejected
from edge_agent.sources.dicom.header import Header
from edge_agent.sources.dicom.layout import DELIMITER, ITEM, MAX_FRAGMENTS, PIXEL_DATA, UNDEFINED

MAX_JOINED_BYTES = 512 << 20  # of several fragments, in memory while the clip is open
MAX_TABLE_BYTES = 4 << 20
COPY_BYTES = 1 << 20
START_BYTES = 16  # by which a stream is told from an offset table
ITEM_TAG = struct.pack("<HH", *ITEM)
BEGINS = re.compile(
    rb"\0{2,3}\x01|\x47|.{4}\x47|.{4}(ftyp|moov|mdat|styp|free|wide|skip)", re.DOTALL
)  # start code; transport stream; the same with time codes; MP4
UNREADABLE = "copy the file again from where it came from"

Piece = tuple[int, int]  # offset in the file, bytes


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """pieces: of the stream, in order, none empty. notes: what is otherwise than it should be."""

    pieces: tuple[Piece, ...]
    notes: tuple[str, ...] = ()

    @property
    def length_bytes(self) -> int:
        return sum(length for _, length in self.pieces)


def find(file: BinaryIO, header: Header, *, where: str, file_bytes: int) -> Stream:
    """Raises: Rejected when there is none, when it is cut off, when in doubt."""
    file.seek(header.pixels_at)
    head = file.read(12)
    if len(head) < 12 or struct.unpack_from("<HH", head) != PIXEL_DATA or not head[4:6].isalpha():
        raise Rejected(
            f"open {where}: expected a clip, got a file without whole pixel data",
            hint="point the source at images; reports and cut-off files have none",
        )
    start, length = file.tell(), int(struct.unpack_from("<L", head, 8)[0])
    end = file_bytes if length == UNDEFINED else start + length
    if end > file_bytes:
        raise _cut_off(where, f"{length} bytes of video", f"{file_bytes - start}")
    first = file.read(START_BYTES)
    if length != UNDEFINED and not first.startswith(ITEM_TAG):
        if not BEGINS.match(first):
            raise _cut_off(where, "video in fragments", "something else of fixed length")
        said = ("not encapsulated, though its transfer syntax says so",)
        return Stream(pieces=((start, length),), notes=said)
    file.seek(start)
    found, is_whole = _items(file, where, end)
    is_whole = is_whole or (length != UNDEFINED and bool(found) and sum(found[-1]) == end)
    if found and _is_table(file, *found[0], where=where):
        found = found[1:]
    pieces = tuple(piece for piece in found if piece[1])
    if not pieces:
        raise _cut_off(where, "a fragment of video", "none")
    if not is_whole:
        raise _cut_off(where, "fragments up to a mark of their end", "none at its end")
    return Stream(pieces=pieces)


def _items(file: BinaryIO, where: str, end: int) -> tuple[list[Piece], bool]:
    """Every whole item up to the delimiter, and whether the delimiter is there."""
    found: list[Piece] = []
    while file.tell() + 8 <= end:
        group, element, length = struct.unpack("<HHL", file.read(8))
        at = file.tell()
        if (group, element) == DELIMITER:
            return found, True
        if (group, element) != ITEM or length == UNDEFINED or len(found) == MAX_FRAGMENTS:
            raise _cut_off(where, "a fragment of video", "something else")
        if at + length > end:
            break
        found.append((at, length))
        file.seek(at + length)
    return found, False


def _is_table(file: BinaryIO, at: int, length: int, *, where: str) -> bool:
    """Whether the first item is an offset table: it is empty, or its first offset is 0, as no
    stream begins. Raises: Rejected when it is neither a table nor a stream.
    """
    file.seek(at)
    first = file.read(min(length, START_BYTES))
    if not first or (first.startswith(bytes(4)) and length % 4 == 0 and length <= MAX_TABLE_BYTES):
        return True
    if BEGINS.match(first):
        return False
    raise _cut_off(where, "an offset table or a stream of video", "something else")


def joined(file: BinaryIO, stream: Stream, *, where: str) -> int | None:
    """A descriptor of memory that holds all pieces; None: there is only one, to be read in place.

    Raises: Rejected when it is too large, OSError.
    """
    if len(stream.pieces) == 1:
        return None
    if stream.length_bytes > MAX_JOINED_BYTES:
        raise Rejected(
            f"open {where}: expected at most {MAX_JOINED_BYTES} bytes of video in several "
            f"fragments, got {stream.length_bytes} in {len(stream.pieces)}",
            hint="export it with all video in one fragment, or in shorter clips",
        )
    descriptor = os.memfd_create("edge-agent-dicom", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            for at, length in stream.pieces:
                _copy(file, memory, at, length)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _copy(file: BinaryIO, memory: BinaryIO, at: int, length: int) -> None:
    """Raises: OSError."""
    file.seek(at)
    while length:
        part = file.read(min(length, COPY_BYTES))
        if not part:
            raise OSError(0, "it became shorter while it was read")
        memory.write(part)
        length -= len(part)


def _cut_off(where: str, expected: str, got: str) -> Rejected:
    return Rejected(
        f"open {where}: expected {expected}, got {got}: the file is cut off or damaged",
        hint=UNREADABLE,
    )
