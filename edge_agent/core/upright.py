"""Which way up a picture is shown: the display matrix of a container, in quarter turns and mirrors.

The matrix has nine numbers, of which a, b, c, d of `a b u c d v x y w` say where a step to the
right (a, b) and a step down (c, d) in the stored picture lead in the shown one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Turn(NamedTuple):
    """transposed first, then mirrored left to right, then upside down. words: "" is upright."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False
    words: str = ""

    @property
    def is_none(self) -> bool:
        return not (self.transposed or self.mirrored or self.flipped)


NAMES = {
    (False, False, False): "",
    (False, True, True): "turned by 180 degrees",
    (True, True, False): "turned by 90 degrees clockwise",
    (True, False, True): "turned by 90 degrees anticlockwise",
    (False, True, False): "mirrored left to right",
    (False, False, True): "mirrored upside down",
    (True, False, False): "mirrored at its diagonal",
    (True, True, True): "mirrored at its other diagonal",
}


def turn(matrix: Sequence[int] | None) -> Turn:
    """The turn that a display matrix asks for; one that is none of eight is only told in words."""
    if matrix is None or len(matrix) != 9:
        return Turn()
    a, b, c, d = (matrix[index] for index in (0, 1, 3, 4))
    size = max(map(abs, (a, b, c, d)))
    straight = max(abs(b), abs(c)) * 1000 <= size
    across = max(abs(a), abs(d)) * 1000 <= size
    if not size or not (straight or across) or 0 in ((a, d) if straight else (b, c)):
        angle = math.degrees(math.atan2(b, a))
        return Turn(words=f"asks to be turned by {angle:.0f} degrees: not done")
    key = (False, a < 0, d < 0) if straight else (True, c < 0, b < 0)
    return Turn(*key, words=NAMES[key])


def turned(pixels: Pixels, how: Turn) -> Pixels:
    """A view of uint8 HxW or HxWxC."""
    if how.transposed:
        pixels = pixels.swapaxes(0, 1)
    if how.mirrored:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if how.flipped else pixels
