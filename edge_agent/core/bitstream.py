"""Damage that can be seen in coded pictures without decoding them.

Decoders conceal; some show what follows a hole in their data without a word. But what a hole leaves
behind (zeros, on a disk or a card that lost a block) can't occur in a sound stream: H.264 and HEVC
escape it, MPEG-1, 2 and 4 keep it for their start codes, JPEG escapes its markers.
"""

from __future__ import annotations

import re
from typing import Final

ZEROS: Final = "a hole: zeros where there are none"
LENGTHS: Final = "its parts are not as long as they say"
MARKER: Final = "a marker inside of its picture"
RUN: Final = bytes(32)  # arithmetic codes give no such run, but in padding at the end
NAL_CODECS: Final = frozenset({"h264", "hevc"})
START_CODES: Final = frozenset({"mpeg1video", "mpeg2video", "mpeg4", "h264", "hevc"})
ARITHMETIC: Final = frozenset({"vp8", "vp9", "av1", "libdav1d", "wmv2", "wmv1", "msmpeg4", "flv"})
MAX_NALS: Final = 4096
MAX_TRAILING: Final = 3  # zeros that a muxer left of a start code
_STREAM_HOLE: Final = re.compile(rb"\0\0\0+[^\0\x01]")
_NAL_HOLES: Final = (b"\0\0\0", b"\0\0\x01", b"\0\0\x02")
_JPEG_MARKER: Final = re.compile(rb"\xff+[^\0\xff\xd0-\xd7]")
_SOF, _DHT, _SOS, _EOI = range(0xC0, 0xC2), 0xC4, 0xDA, 0xD9


def length_bytes(codec: str, head: bytes) -> int:
    """Of how many bytes the lengths before the parts of a packet are; 0: start codes divide them.

    head: the extradata of H.264 or HEVC, as a container keeps it.
    """
    if codec not in NAL_CODECS or not head or head[0] != 1:
        return 0
    at = 4 if codec == "h264" else 21
    return (head[at] & 3) + 1 if len(head) > at else 0


def begins_in_a_hole(packet: bytes) -> bool:
    """Of one that is torn: whether the end of the packet before may be in the hole as well."""
    return packet.startswith(bytes(4))


def torn(codec: str, packet: bytes, lengths: int = 0) -> str:
    """What is wrong with a packet, in words; "" is nothing that can be seen."""
    if codec == "mjpeg":
        return _torn_jpeg(packet)
    if codec in NAL_CODECS and lengths:
        return _torn_nals(packet, lengths)
    if codec in START_CODES:
        start = packet.find(b"\0\0\0")  # quick, and mostly enough
        return ZEROS if start >= 0 and _STREAM_HOLE.search(packet, start) else ""
    if codec in ARITHMETIC:
        return ZEROS if RUN in packet.rstrip(b"\0") else ""
    return ""


def _torn_nals(packet: bytes, lengths: int) -> str:
    at = 0
    for _ in range(MAX_NALS):
        if at == len(packet):
            return ""
        size = int.from_bytes(packet[at : at + lengths], "big")
        at += lengths
        if at + size > len(packet):
            return LENGTHS
        part = packet[at : at + size]
        body = part.rstrip(b"\0")
        if len(part) - len(body) > MAX_TRAILING or any(hole in body for hole in _NAL_HOLES):
            return ZEROS
        at += size
    return ""


def _torn_jpeg(packet: bytes) -> str:
    """Of one scan over all components; what comes in several scans is left to the decoder."""
    at, tables, sequential = 2, [], False
    while at + 4 <= len(packet) and packet[at] == 0xFF:
        kind, size = packet[at + 1], int.from_bytes(packet[at + 2 : at + 4], "big")
        if kind == 0xFF:
            at += 1
            continue
        body = packet[at + 4 : at + 2 + size]
        sequential = sequential or kind in _SOF
        if kind == _DHT:
            tables.append(body)
        at += 2 + size
        if kind == _SOS:
            return _torn_scan(packet[at:], tables) if sequential else ""
    return ""


def _torn_scan(scan: bytes, tables: list[bytes]) -> str:
    """Up to its end; fields of one frame may follow as pictures of their own."""
    found = _JPEG_MARKER.search(scan)
    if found is None:
        return "it ends before its end"
    if found[0][-1] not in (_EOI, 0xD8):
        return MARKER
    if RUN in scan[: found.start()] and not _zeros_are_flat(tables):
        return ZEROS
    return ""


def _zeros_are_flat(tables: list[bytes]) -> bool:
    """Whether zeros are what a flat area is coded as: the shortest code of every table, which is
    all zeros, means no difference and nothing more.
    """
    firsts: list[int] = []
    for body in tables:
        at = 0
        while at + 17 < len(body):
            count = sum(body[at + 1 : at + 17])
            firsts.append(body[at + 17])
            at += 17 + count
    return bool(firsts) and not any(firsts)
