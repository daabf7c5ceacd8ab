"""Two fields in one picture: the rows of one are kept, combs of the other are filled in.

An interlaced frame holds two moments, every other row each. Where nothing moved both are true and
stay as they are; where something did, the rows of the second field stick out like the teeth of a
comb, and are replaced by what lies between the rows of the first. A single thin line is no comb.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

COMB: Final = 8  # levels that a row sticks out of both its neighbours, the same way
BAND_ROWS: Final = 16  # worked on at once: what is touched twice is still in the cache

Pixels = NDArray[np.uint8]


def deinterlaced(woven: Pixels, first: Literal["top", "bottom"]) -> Pixels:
    """A picture of one moment, of its own memory.

    woven: uint8, HxW or HxWxC. first: the field that was captured first; its rows are kept.
    """
    out = np.empty(woven.shape, np.uint8)
    np.copyto(out, woven)
    if len(woven) < 4:
        return out
    flat: Pixels = out.reshape(len(out), -1)
    start = 0 if first == "top" else 1
    kept, other = flat[start::2], flat[1 - start :: 2]
    band = _Band(flat.shape[1], start)
    halo = other[:0]
    for row in range(0, len(other), BAND_ROWS):
        end = min(row + BAND_ROWS, len(other))
        following = other[end : end + 1]
        last = other[end - 1 : end].copy()  # as it was: the next band looks at it
        band.fill(kept, other, (row, end), halo, following)
        halo = last
    return out


class _Band:
    """Scratch of one band, with a row more on either side. shift: 1 when the upper row is kept."""

    def __init__(self, width: int, shift: int) -> None:
        rows = BAND_ROWS + 2
        self._shift = shift
        self._low, self._high = np.empty((rows, width), np.uint8), np.empty((rows, width), np.uint8)
        self._rows = np.empty((rows, width), np.uint8)
        self._over, self._under = np.empty((rows, width), bool), np.empty((rows, width), bool)
        self._comb = np.empty((rows, width), bool)

    def fill(
        self, kept: Pixels, other: Pixels, span: tuple[int, int], halo: Pixels, following: Pixels
    ) -> None:
        start, end = span
        first, count = start - len(halo), end - start + len(halo) + len(following)
        rows = self._rows[:count]
        np.concatenate((halo, other[start:end], following), out=rows)
        low, high = self._low[:count], self._high[:count]
        above, below = self._around(kept, first, count)
        np.minimum(above, below, out=low)
        np.maximum(above, below, out=high)
        own = slice(len(halo), len(halo) + end - start)
        between = np.subtract(high[own], low[own])
        between >>= 1
        between += low[own]
        np.minimum(high, 255 - COMB, out=high)
        np.add(high, COMB, out=high)
        np.maximum(low, COMB, out=low)
        np.subtract(low, COMB, out=low)
        over, under = self._over[:count], self._under[:count]
        np.greater(rows, high, out=over)
        np.less(rows, low, out=under)
        if not (over.any() or under.any()):
            return
        comb = self._comb[:count]
        _two_in_a_row(over, comb)
        _two_in_a_row(under, over)
        np.logical_or(comb, over, out=comb)
        # Chosen by bits, at a fraction of what a masked copy takes: 255 where there is a comb.
        chosen = np.negative(comb[own].view(np.uint8))
        np.bitwise_xor(between, rows[own], out=between)
        np.bitwise_and(between, chosen, out=between)
        np.bitwise_xor(other[start:end], between, out=other[start:end])

    def _around(self, kept: Pixels, first: int, count: int) -> tuple[Pixels, Pixels]:
        """The kept rows above and below; at an edge of the picture the same one twice."""
        last = len(kept) - 1
        at = np.arange(first, first + count)
        upper = np.clip(at - self._shift, 0, last)
        lower = np.clip(at + 1 - self._shift, 0, last)
        return self._rows_of(kept, upper), self._rows_of(kept, lower)

    def _rows_of(self, kept: Pixels, at: NDArray[np.intp]) -> Pixels:
        """A view where the rows are next to each other, else a copy."""
        if at[-1] - at[0] == len(at) - 1:
            return kept[at[0] : at[-1] + 1]
        return kept[at]


def _two_in_a_row(teeth: NDArray[np.bool_], found: NDArray[np.bool_]) -> None:
    """Those that have a neighbour above or below in their own field, into `found`."""
    np.logical_and(teeth[1:], teeth[:-1], out=found[1:])
    found[0] = False
    if len(teeth) > 1:
        pairs = found[1:].copy()
        np.logical_or(found[:-1], pairs, out=found[:-1])
