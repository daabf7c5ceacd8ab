"""docs/model-delta.md: its example is decoded, its numbers are the code's."""

from __future__ import annotations

import re
from pathlib import Path

from edge_agent.core.modeldelta import apply, encode, form, inspect
from edge_agent.core.modeldelta.lanes import LANE_ITEMS, WIDTH, Form, Kind
from edge_agent.core.modeldelta.snapping import MIN_ITEMS, STEPS
from tests.modeldelta import second

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "model-delta.md").read_text(encoding="utf-8")
BASE = bytes(range(64))
RESULT = BASE[:40] + b"one" + BASE[41:]


def example() -> bytes:
    """The hex of the page, with what stands behind `#` left out."""
    (block,) = re.findall(r"```hex\n(.*?)```", PAGE, re.DOTALL)
    return bytes.fromhex("".join(line.split("#")[0] for line in block.splitlines()))


def test_the_example_is_what_both_decoders_read() -> None:
    delta = example()
    assert apply(BASE, delta, max_bytes=100) == RESULT
    assert second.expand(BASE, delta) == RESULT
    assert inspect(delta).mode == "prefix"
    assert encode(BASE, RESULT) == delta


def test_the_page_has_the_bounds_of_the_code() -> None:
    bounds = (
        form.MAX_LANES, form.MAX_SPANS, form.MAX_SPANS_BYTES, form.MAX_LANE_ITEMS,
        form.MAX_PRIMER_BYTES, LANE_ITEMS,
    )  # fmt: skip
    for bound in bounds:
        assert f"{bound:,}" in PAGE, bound
    assert form.MAX_RESULT_BYTES == 2**36
    assert form.MAX_WINDOW_BYTES == 32 << 20
    assert (MIN_ITEMS, STEPS) == (1024, {8: 127, 4: 7})


def test_the_page_has_every_kind_and_form() -> None:
    for row in re.findall(r"^\| ([\d, ]+) \| [^|]+ \| ([\d, ]+) \| \d* ?\|$", PAGE, re.MULTILINE):
        for kind, width in zip(*(cell.split(",") for cell in row), strict=True):
            assert WIDTH[Kind(int(kind))] == int(width)
    assert all(f"**Form {each.value}, {each.name.lower()}.**" in PAGE for each in Form)
