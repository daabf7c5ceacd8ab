"""The palettes of a DICOM header, read as the bytes that the file has."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword

from edge_agent.core import dicom_palette
from edge_agent.core.dicom_palette import COLOURS, BadPalette, Table
from edge_agent.core.errors import Rejected

NAMES = [f"{colour.title()}PaletteColorLookupTable" for colour in COLOURS]
TAGS = [
    *(f"{name}Descriptor" for name in NAMES),
    *(f"{name}Data" for name in NAMES),
    *(f"Segmented{name}Data" for name in NAMES),
]
BYTEWISE = "OB"


def read(
    dataset: Any, values: NDArray[np.float64], *, is_signed: bool, where: str
) -> tuple[NDArray[np.uint8], str]:
    """uint8, a row of BGR for each of `values`, and words of how it is stored. Raises: Rejected."""
    tables = [_table(dataset, colour, name) for colour, name in zip(COLOURS, NAMES, strict=True)]
    try:
        return dicom_palette.colours(tables, values, is_signed=is_signed)
    except BadPalette as bad:
        raise Rejected(f"open {where}: expected {bad}", hint=dicom_palette.HINT) from None


def _table(dataset: Any, colour: str, name: str) -> Table:
    described = _raw(dataset, f"{name}Descriptor")
    plain, segmented = _raw(dataset, f"{name}Data"), _raw(dataset, f"Segmented{name}Data")
    found = plain or segmented
    return Table(
        colour=colour,
        descriptor=_descriptor(described),
        stored=bytes(found.value) if found else None,
        is_big_endian=bool(found and not found.is_little_endian),
        is_segmented=plain is None,
        is_bytewise=bool(found and found.VR == BYTEWISE),
    )


def _raw(dataset: Any, keyword: str) -> Any:
    """The element with its bytes, as they are in the file; None where it is missing or empty."""
    raw = dataset.get_item(tag_for_keyword(keyword))
    return raw if raw is not None and raw.value else None


def _descriptor(raw: Any) -> tuple[int, int, int] | None:
    if raw is None or len(raw.value) != 6:
        return None
    entries, first, bits = struct.unpack("<3H" if raw.is_little_endian else ">3H", raw.value)
    return entries, first, bits
