"""The order in which people number files, and some of many. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts digits as numbers: image2 comes before image10."""
    parts = re.findall(r"\d{1,18}|\D+|\d+", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name


def spread(total: int, most: int) -> Sequence[int]:
    """At most `most` indices spread evenly over range(total), both ends included; of one, the
    first.
    """
    if total <= most:
        return range(total)
    return sorted({round(step * (total - 1) / max(1, most - 1)) for step in range(most)})
