"""The run-length coding of DICOM, unpacked: PS3.5 annex G. Bytes in, bytes out.

A segment holds exactly one byte of each sample; one that holds fewer or more is damaged.
"""

from __future__ import annotations

import struct

from edge_agent.core.jpeg import Damaged

HEADER = struct.Struct("<16L")  # the number of segments, and where each begins
MAX_SEGMENTS = 15
NOTHING = 128
FILLING = frozenset((0, NOTHING))  # behind the last sample


def unpack(data: bytes, *, segments: int, samples: int) -> list[bytes]:
    """So many segments of so many bytes each. Raises: Damaged."""
    if len(data) < HEADER.size:
        raise Damaged(f"an RLE header of {len(data)} bytes, expected {HEADER.size}")
    many, *offsets = HEADER.unpack_from(data)
    if many != segments:
        raise Damaged(f"{min(many, MAX_SEGMENTS + 1)} RLE segments, expected {segments}")
    begins = offsets[:many]
    ends = [*begins[1:], len(data)]
    if begins[0] < HEADER.size or not all(
        begin < end <= len(data) for begin, end in zip(begins, ends, strict=True)
    ):
        raise Damaged("RLE segments that begin outside of their frame")
    return [_unpack(data[begin:end], samples) for begin, end in zip(begins, ends, strict=True)]


def _unpack(segment: bytes, samples: int) -> bytes:
    """Raises: Damaged."""
    runs: list[bytes] = []
    at = count = 0
    try:
        while count < samples:
            code = segment[at]
            if code < NOTHING:
                end = at + 2 + code
                runs.append(segment[at + 1 : end])
                count += code + 1
                at = end
            elif code > NOTHING:
                runs.append(segment[at + 1 : at + 2] * (257 - code))
                count += 257 - code
                at += 2
            else:
                at += 1
    except IndexError:
        raise Damaged(f"an RLE segment of {count} samples, expected {samples}") from None
    found = b"".join(runs)
    if count > samples or len(found) < samples:
        raise Damaged(f"an RLE segment of more or less than {samples} samples")
    if not FILLING.issuperset(segment[at:]):
        raise Damaged(f"an RLE segment that goes on after {samples} samples")
    return found
