"""The order in which people number files. Pure."""

from __future__ import annotations

import re


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts digits as numbers: image2 comes before image10."""
    parts = re.findall(r"\d{1,18}|\D+|\d+", name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], name
