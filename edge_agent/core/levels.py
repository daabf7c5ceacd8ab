"""From pictures deeper than 8 bits to 8: by a rule that is told, and the same for all frames.

16 bits mostly hold 10, 12 or 14, and no header says how many: taken for 16, such a picture is
nearly black. A rule made for each picture by itself would make brightness jump. So the rule is what
the pictures use that were looked at first; one that needs a wider rule says so before it is shown.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.core.frames import Pixels

SHOWN_BITS = 8
ONE = 1.1  # fractions reach a little past 0 and 1 where a picture was resampled
LEAST_REAL = 16.0  # a brightest value between ONE and this may be of either kind


class Rule(NamedTuple):
    """kind: whole numbers or reals. bits: of the largest value; 0: reals from 0 to 1."""

    kind: Literal["whole", "real"]
    bits: int

    @property
    def words(self) -> str:
        """For people."""
        if not self.bits:
            return "real values from 0 to 1, shown times 255"
        shown = "as they are" if self.bits == SHOWN_BITS else f"divided by {self._divisor}"
        if self.kind == "real":
            return f"real values up to {(1 << self.bits) - 1}, shown {shown}"
        return f"uses {self.bits} of {16 if self.bits <= 16 else 32} bits, shown {shown}"

    @property
    def _divisor(self) -> int:
        return 1 << (self.bits - SHOWN_BITS)

    def shown(self, values: NDArray[Any]) -> Pixels:
        """uint8 of the same shape, cut at both ends. values: as `needed` takes them."""
        if self.kind == "whole":
            levels = values >> (self.bits - SHOWN_BITS)
        else:
            scaled = values * (1 / self._divisor if self.bits else 255.0)
            levels = np.floor(scaled) if self.bits else np.rint(scaled)
        return levels.clip(0, 255).astype(np.uint8)


def needed(values: NDArray[Any]) -> Rule:
    """The narrowest rule that shows all values: integers or floats, of any shape but empty.

    Raises: ValueError with the reason in words.
    """
    low, high = values.min().item(), values.max().item()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("values that are no number")
    if isinstance(high, int):
        if low < 0:
            raise ValueError(f"values from {low} to {high}, below 0")
        return Rule("whole", max(SHOWN_BITS, high.bit_length()))
    if low >= 1 - ONE and high <= ONE:
        return Rule("real", 0)
    if low < -0.5 or high < LEAST_REAL or high >= 2**32:
        raise ValueError(
            f"real values from {low:.4g} to {high:.4g}, not 0 to 1 nor 0 to 255 or more"
        )
    return Rule("real", max(SHOWN_BITS, int(high).bit_length()))


def wider(one: Rule | None, other: Rule) -> Rule:
    """The one that shows the pictures of both. one: of the same kind, or nothing known yet."""
    return other if one is None or other.bits > one.bits else one
