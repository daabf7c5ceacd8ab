"""Whether a JPEG is whole.

libjpeg fills in what is missing (gray to the end of the picture, or noise) and calls it a warning,
which neither OpenCV nor Pillow hands on: a picture that was cut off, or that has a hole, passes.
Here the markers are read always, and the code itself, bit by bit, only where it is suspect:

    a run of zeros             zeros are a picture only where they mean "flat" in its own tables
    middle gray at the end     what is filled in where the code ended early
    progressive                it is gray at no end, only less sharp
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.core import jpeg_walk
from edge_agent.core.jpeg import (
    BLOCK,
    PROGRESSIVE,
    SEQUENTIAL,
    Code,
    Damaged,
    Facts,
    Scan,
    scans,
)

HOLE_BYTES = 16  # so many zeros in a row are looked into; whole pictures rarely hold three
MIDDLE = 128  # the level that is filled in; colour comes in from the neighbours, luma does not
NEAR = 2.5  # levels, what a conversion of colours rounds
LUMA_BGR = np.array([0.114, 0.587, 0.299])
MAX_WALKED_UNITS = 1 << 20  # of all its scans: of a picture of some 4 Mpx
ZERO_RUN = b"\0" * HOLE_BYTES
MAX_WALKED_BYTES = 1 << 19  # of progressive code that nothing else speaks against: some 2 s


def damage(
    data: bytes, picture: NDArray[Any] | None = None, *, max_walked_bytes: int = MAX_WALKED_BYTES
) -> str:
    """What is wrong with a JPEG, in words of numbers only; "" when nothing is.

    picture: uint8 HxW or HxWx3 BGR, as decoded and not turned; finds a scan that ends early too.
    max_walked_bytes: progressive code longer than that is walked only where something is suspect.
    """
    try:
        facts, parts = scans(data)
        _check_complete(facts, parts)
        if facts.process != PROGRESSIVE and facts.process not in SEQUENTIAL:
            return ""
        if _has_hole(data, parts) or _may_end_early(facts, parts, picture, max_walked_bytes):
            jpeg_walk.check(data, facts, parts)
    except Damaged as damaged:
        return str(damaged)
    return ""


def _check_complete(facts: Facts, parts: list[Scan]) -> None:
    """Every component in a scan, every interval between restarts. Raises: Damaged."""
    seen = {component for scan in parts for component in scan.components}
    if missing := len(facts.components) - len(seen):
        raise Damaged(f"{missing} of {len(facts.components)} components have no scan")
    for scan in parts:
        units = jpeg_walk.units(facts, scan)
        expected = math.ceil(units / scan.interval) if scan.interval else 1
        if facts.process in (PROGRESSIVE, *SEQUENTIAL) and len(scan.parts) != expected:
            raise Damaged(f"{len(scan.parts)} restart intervals, expected {expected}")


def _has_hole(data: bytes, parts: list[Scan]) -> bool:
    """Raises: Damaged where zeros can't be a picture."""
    found = False
    for scan in parts:
        for begin, end in scan.parts:
            at = data.find(ZERO_RUN, begin, end)
            if at < 0:
                continue
            if not all(map(_is_flat, _codes(scan))):
                raise Damaged(f"a hole of zeros at byte {at} of {len(data)}")
            found = True
    return found


def _codes(scan: Scan) -> tuple[Code | None, ...]:
    return scan.ac if scan.last else ()


def _is_flat(code: Code | None) -> bool:
    """Whether the code of zeros alone ends a block: only then a long run of them is a picture."""
    if code is None or not code.symbols:
        return False
    run, size = divmod(code.symbols[0], 16)
    return size == 0 and run != 15


def _may_end_early(
    facts: Facts, parts: list[Scan], picture: NDArray[Any] | None, max_walked_bytes: int
) -> bool:
    """Whether a last unit before a restart, or before the end, may be what is filled in."""
    if facts.process == PROGRESSIVE:
        code_bytes = sum(end - begin for scan in parts for begin, end in scan.parts)
        blocks = sum(jpeg_walk.units(facts, scan) for scan in parts)
        return code_bytes <= max_walked_bytes and blocks <= MAX_WALKED_UNITS
    if picture is None or len(parts) > 1:
        return picture is not None
    height, width = picture.shape[:2]
    unit = facts.mcu if len(facts.components) > 1 else (BLOCK, BLOCK)
    across = math.ceil(facts.size[0] / unit[0])
    units = across * math.ceil(facts.size[1] / unit[1])
    every = parts[0].interval or units
    lasts = np.append(np.arange(every - 1, units - 1, every), units - 1)
    left, top = lasts % across * unit[0], lasts // across * unit[1]
    right, bottom = left + unit[0] - 1, top + unit[1] - 1
    is_gray = np.ones(len(lasts), bool)
    for x, y in ((left, top), (left, bottom), (right, top), (right, bottom)):
        corner = picture[np.minimum(y, height - 1), np.minimum(x, width - 1)].astype(np.float64)
        luma = corner @ LUMA_BGR if corner.ndim == 2 else corner
        is_gray &= np.abs(luma - MIDDLE) <= NEAR
    return bool(is_gray.any())
