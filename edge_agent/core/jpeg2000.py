"""What a JPEG 2000 codestream says of itself, and whether it is whole. No pixels are decoded.

SOC | SIZ: size, components | COD: transforms | .. | SOT, SOD: a tile part | .. | EOC

OpenJPEG shows what is there of a codestream that was cut off, in silence. What is checked here:
the chain of tile parts by their lengths, that each tile is there, the end marker, byte pairs that
no coder writes, and zeros that are more than empty packets. Damage inside of a code block that
keeps to all of these is not seen: without the optional markers nothing in the bits tells it.
"""

from __future__ import annotations

import math
import struct

import msgspec
import numpy as np

from edge_agent.core.jpeg import Damaged

SOC_SIZ = b"\xff\x4f\xff\x51"
COD, SOT, SOD, EOC = 0x52, 0x90, 0x93, 0xD9
IN_PACKETS = (0x91, 0x92)  # SOP, EPH: the only markers inside of a tile part's data
JP2 = b"\0\0\0\x0cjP  "
MAX_COMPONENTS = 64
MAX_TILES = 65_535
MAX_HEADER_BYTES = 1 << 20
SIZ_FIELDS = struct.Struct(">H8LH")  # capabilities, sizes, number of components
SOT_FIELDS = struct.Struct(">HHLBB")  # length of the segment, tile, length of the part, its number
HOLE_BYTES = 16  # zeros in a row beyond the packets of a tile
BYPASS = 1  # of the style of code blocks: raw bits, of which many may be zero
WHOLE_PRECINCT = 15


class Component(msgspec.Struct, frozen=True):
    """across, down: px between two of its samples."""

    precision: int
    is_signed: bool
    across: int
    down: int


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """size: [width, height] px. tile: [width, height] px. has_transform: of its colours."""

    size: tuple[int, int]
    components: tuple[Component, ...]
    tile: tuple[int, int]
    tiles: int
    has_transform: bool
    layers: int
    levels: int
    style: int  # of code blocks
    precincts: tuple[int, ...]  # by level, log2 of [height, width] in 4 bits each; empty: one each

    @property
    def precision(self) -> int:
        return max(one.precision for one in self.components)

    @property
    def is_subsampled(self) -> bool:
        return len({(one.across, one.down) for one in self.components}) > 1


def facts(data: bytes) -> Facts:
    """Of the main header. Raises: Damaged."""
    return _read(data)[0]


def check(data: bytes) -> Facts:
    """Goes along all tile parts. Raises: Damaged."""
    found, at = _read(data)
    seen: set[int] = set()
    while (marker := _marker(data, at)) == SOT:
        begin, end, tile = _part(data, at)
        if tile >= found.tiles:
            raise Damaged(f"tile {tile + 1} of {found.tiles}")
        seen.add(tile)
        _check_packets(data[begin:end], found)
        at = end
    if marker != EOC:
        raise Damaged(f"no tile part and no end at byte {at} of {len(data)}")
    if len(seen) < found.tiles:
        raise Damaged(f"{len(seen)} of {found.tiles} tiles")
    return found


def _marker(data: bytes, at: int) -> int:
    """Raises: Damaged."""
    if at + 2 > len(data):
        raise Damaged(f"a JPEG 2000 without its end, of {len(data)} bytes")
    if data[at] != 0xFF:
        raise Damaged(f"no marker at byte {at} of {len(data)}")
    return data[at + 1]


def _read(data: bytes) -> tuple[Facts, int]:
    """The main header, and where its first tile part begins. Raises: Damaged."""
    start = data.find(SOC_SIZ, 0, MAX_HEADER_BYTES) if data[:8] == JP2 else 0
    if start < 0 or data[start : start + 4] != SOC_SIZ:
        raise Damaged("no start of a JPEG 2000")
    at, siz, cod = start + 2, b"", b""
    while (marker := _marker(data, at)) != SOT:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data) or at - start > MAX_HEADER_BYTES:
            raise Damaged(f"a segment that does not end, at byte {at} of {len(data)}")
        body = data[at + 4 : at + 2 + length]
        siz = siz or (body if marker == 0x51 else b"")
        cod = cod or (body if marker == COD else b"")
        at += 2 + length
    return _facts(siz, cod), at


def _facts(siz: bytes, cod: bytes) -> Facts:
    if len(siz) < SIZ_FIELDS.size or len(cod) < 10:
        raise Damaged("a JPEG 2000 without its size or its coding")
    _, right, bottom, left, top, tile_x, tile_y, tile_left, tile_top, many = SIZ_FIELDS.unpack_from(
        siz
    )
    parts = siz[SIZ_FIELDS.size : SIZ_FIELDS.size + 3 * many]
    size = (right - left, bottom - top)
    if min(*size, tile_x, tile_y, many) < 1 or many > MAX_COMPONENTS or len(parts) < 3 * many:
        raise Damaged("a JPEG 2000 of no size or no component")
    if not all(parts[1::3]) or not all(parts[2::3]) or tile_left > left or tile_top > top:
        raise Damaged("a JPEG 2000 whose components or tiles have no size")
    tiles = math.ceil((right - tile_left) / tile_x) * math.ceil((bottom - tile_top) / tile_y)
    if tiles > MAX_TILES:
        raise Damaged(f"a JPEG 2000 of {tiles} tiles")
    return Facts(
        size=size,
        components=tuple(
            Component((depth & 0x7F) + 1, depth > 0x7F, across, down)
            for depth, across, down in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        ),
        tile=(min(tile_x, right), min(tile_y, bottom)),
        tiles=tiles,
        has_transform=cod[4] != 0,
        layers=int.from_bytes(cod[2:4], "big"),
        levels=cod[5],
        style=cod[8],
        precincts=tuple(cod[10 : 11 + cod[5]]) if cod[0] & 1 else (),
    )


def _part(data: bytes, at: int) -> tuple[int, int, int]:
    """(begin of its packets, end, tile) of the tile part whose SOT is here. Raises: Damaged."""
    if at + 2 + SOT_FIELDS.size > len(data):
        raise Damaged(f"a JPEG 2000 without its end, of {len(data)} bytes")
    segment, tile, length, _, _ = SOT_FIELDS.unpack_from(data, at + 2)
    end = at + length if length else data.rfind(b"\xff\xd9")  # 0: the last one, up to the end
    if segment != 10 or end < at + 14:
        raise Damaged(f"a tile part of no length, at byte {at} of {len(data)}")
    if end > len(data):
        raise Damaged(f"a tile part up to byte {end}, of {len(data)} bytes")
    begin = at + 12
    while (marker := _marker(data, begin)) != SOD:
        size = int.from_bytes(data[begin + 2 : begin + 4], "big")
        begin += 2 + size
        if size < 2 or begin >= end or marker < 0x50:
            raise Damaged(f"a header of a tile part that does not end, at byte {at}")
    return begin + 2, end, tile


def _check_packets(packets: bytes, found: Facts) -> None:
    """Raises: Damaged."""
    after = np.frombuffer(packets, np.uint8)
    pairs = after[1:][(after[:-1] == 0xFF) & (after[1:] > 0x8F)]
    if not np.isin(pairs, IN_PACKETS).all():
        raise Damaged("bytes that no coder of JPEG 2000 writes")
    if found.style & BYPASS:
        return
    run = b"\0" * (HOLE_BYTES + _packets(found))
    if run in packets:
        raise Damaged(f"a hole of more than {len(run)} zeros")


def _packets(found: Facts) -> int:
    """At most so many in a tile; each takes one byte of zeros where it is empty."""
    total = 0
    for one in found.components:
        width, height = (
            math.ceil(side / step)
            for side, step in zip(found.tile, (one.across, one.down), strict=True)
        )
        for level in range(found.levels + 1):
            scale = 1 << found.levels - level
            both = found.precincts[level] if level < len(found.precincts) else 0xFF
            across = _split(width, scale, both & WHOLE_PRECINCT)
            total += across * _split(height, scale, both >> 4)
    return total * found.layers


def _split(side: int, scale: int, precinct: int) -> int:
    if precinct == WHOLE_PRECINCT:
        return 1 + (side // scale >> precinct)
    return 1 + math.ceil(math.ceil(side / scale) / (1 << precinct))
