"""The first byte of a block of integers: how they were foretold, and what stands behind it."""

from __future__ import annotations

import enum
from typing import Final

HAS_OFFSET: Final = 0x20
UNSIGNED: Final = 0x40
HAS_CENTRES: Final = 0x80
MIN_CENTRED_LAG: Final = 8
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1


class Transform(enum.IntEnum):
    """What a number is compared with."""

    PLAIN = 0  # nothing
    DELTA = 1  # the one before
    DELTA2 = 2  # where the two before point to
    LAG = 3  # the one `lag` before


# As plain integers: an enum's members are slow to look up where a column takes microseconds.
PLAIN, DELTA, DELTA2, LAG = map(int, Transform)
