"""Palettes: the exact colour by an own plain reading of the standard, or a named refusal."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import dicom_rules
from edge_agent.core.dicom_palette import COLOURS, BadPalette, Table, colours

BYTES, WORDS = "one byte each", "one word each"


def stored(levels: Sequence[int], how: str, *, is_big_endian: bool) -> bytes:
    """As a file of that byte order holds them; bytes are packed into words, so pairs turn."""
    order = ">" if is_big_endian else "<"
    if how == WORDS:
        return struct.pack(f"{order}{len(levels)}H", *levels)
    packed = bytes(levels) + b"\0" * (len(levels) % 2)
    if is_big_endian:
        packed = b"".join(packed[n : n + 2][::-1] for n in range(0, len(packed), 2))
    return packed


def gray(values: bytes, **changes: Any) -> list[Table]:
    own: dict[str, Any] = {"descriptor": (len(values), 0, 8), "stored": values, **changes}
    return [Table(colour=colour, **own) for colour in COLOURS]


@st.composite
def palettes(draw: Any) -> tuple[list[Table], list[tuple[int, list[int]]], bool]:
    """Tables, and by colour the first value with the levels as 8 bits."""
    is_big_endian, is_signed = draw(st.booleans()), draw(st.booleans())
    tables, plain = [], []
    is_wide = draw(st.booleans())
    for colour in COLOURS:
        count = draw(st.sampled_from([1, 2, 3, 4, 7, 100, 255, 256]))
        first = draw(st.integers(-300, 300) if is_signed else st.integers(0, 600))
        levels = draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))
        if is_wide:
            levels[0] = max(levels[0], 1)  # else words of 16 bits hold 8
            words = [level << 8 | draw(st.sampled_from([0, 7, 255])) for level in levels]
            told = (count, first & 0xFFFF, 16)
            data = stored(words, WORDS, is_big_endian=is_big_endian)
        else:
            bits = draw(st.sampled_from([8, 8, 16]))
            how = draw(st.sampled_from([BYTES, WORDS])) if bits == 8 else BYTES
            told = (count, first & 0xFFFF, bits if count > 1 else 8)
            data = stored(levels, how, is_big_endian=is_big_endian)
        tables.append(
            Table(colour=colour, descriptor=told, stored=data, is_big_endian=is_big_endian)
        )
        plain.append((first, levels))
    return tables, plain, is_signed


@settings(deadline=None, max_examples=80)
@given(made=palettes(), bits=st.sampled_from([8, 12, 16]))
def test_every_stored_value_has_exactly_the_colour_of_its_entry(made: Any, bits: int) -> None:
    tables, plain, is_signed = made
    values = dicom_rules.stored_values(16, is_signed=is_signed, bits_stored=bits)
    found, _ = colours(tables, values, is_signed=is_signed)
    patterns = [*range(0, 900, 5), *range(65_200, 65_536, 5), 128, 2048, 32_767, 32_768, 65_535]
    for pattern in patterns:
        value = int(values[pattern])
        for place, (first, levels) in enumerate(plain):
            entry = min(max(value - first, 0), len(levels) - 1)
            assert found[pattern, 2 - place] == levels[entry]


def test_no_entries_mean_sixty_five_thousand_and_some() -> None:
    levels = np.arange(1 << 16, dtype="<u2")
    tables = gray(levels.tobytes(), descriptor=(0, 0, 16))
    found, words = colours(tables, np.arange(65536.0), is_signed=False)
    assert np.array_equal(found[:, 0], levels >> 8)
    assert words == "palette"


def test_words_of_sixteen_bits_that_hold_eight_are_no_black_picture() -> None:
    data = struct.pack("<4H", 0, 80, 160, 255)
    found, words = colours(gray(data, descriptor=(4, 0, 16)), np.arange(4.0), is_signed=False)
    assert found[:, 1].tolist() == [0, 80, 160, 255]
    assert words == "palette, 8 bits in words of 16"


@pytest.mark.parametrize("shift", [256, 257])
def test_levels_of_eight_bits_in_the_upper_byte_of_a_word_are_read(shift: int) -> None:
    data = struct.pack("<4H", *(level * shift for level in (0, 80, 160, 255)))
    found, _ = colours(gray(data, descriptor=(4, 0, 8)), np.arange(4.0), is_signed=False)
    assert found[:, 1].tolist() == [0, 80, 160, 255]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stored": None}, "a green palette table, got none"),
        ({"descriptor": None}, "a descriptor of the green palette, got none"),
        ({"stored": b"\1" * 100}, "512 bytes in the green palette table, got 100"),
        ({"stored": b"\1" * 514}, "512 bytes in the green palette table, got 514"),
        ({"descriptor": (256, 0, 8)}, "8 bits in the green palette table, got larger ones"),
        ({"descriptor": (300, 0, 16)}, "600 bytes in the green palette table, got 512"),
        ({"descriptor": (256, 0, 12)}, "8 or 16 bits in the green palette, got 12"),
        ({"is_segmented": True}, "whole segments in the green palette table"),
        ({"is_segmented": True, "stored": b"\0\0\2\0\5\0\6\0"}, "256 entries .* green .*, got 2"),
    ],
)
def test_a_table_that_is_missing_or_short_is_named(changes: dict[str, Any], words: str) -> None:
    whole = {"descriptor": (256, 0, 16), "stored": struct.pack("<256H", *range(3, 65_536, 256))}
    tables = [
        Table(colour=colour, **{**whole, **(changes if colour == "green" else {})})
        for colour in COLOURS
    ]
    with pytest.raises(BadPalette, match=words):
        colours(tables, np.arange(256.0), is_signed=False)


@pytest.mark.parametrize("is_big_endian", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_segments_unfold(bits: int, *, is_big_endian: bool) -> None:
    """Two values, a line to 100, and the line once more by pointing at it."""
    if bits == 16:
        parts = [0, 2, 0, 10 << 8, 1, 4, 100 << 8, 2, 1, 8, 0]  # the line is at byte 8
        data = stored(parts, WORDS, is_big_endian=is_big_endian)
    else:
        parts = [0, 2, 0, 10, 1, 4, 100, 2, 1, 4, 0, 0, 0]  # at byte 4
        data = stored(parts, BYTES, is_big_endian=is_big_endian)
    tables = gray(data, descriptor=(10, 0, bits), is_segmented=True, is_big_endian=is_big_endian)
    found, _ = colours(tables, np.arange(10.0), is_signed=False)
    expected = [0, 10, 32, 55, 77 if bits == 16 else 78, 100, 100, 100, 100, 100]
    assert found[:, 0].tolist() == expected


@settings(deadline=None, max_examples=150)
@given(
    data=st.binary(max_size=60),
    entries=st.integers(0, 70),
    bits=st.sampled_from([8, 16, 0, 12]),
    is_segmented=st.booleans(),
    is_big_endian=st.booleans(),
)
def test_any_bytes_are_a_table_or_are_named(
    *, data: bytes, entries: int, bits: int, is_segmented: bool, is_big_endian: bool
) -> None:
    tables = gray(
        data,
        descriptor=(entries, 0, bits),
        is_segmented=is_segmented,
        is_big_endian=is_big_endian,
    )
    try:
        found, _ = colours(tables, np.arange(256.0), is_signed=False)
    except BadPalette:
        return
    assert found.shape == (256, 3)
    assert len(data) >= min(entries, 2)
