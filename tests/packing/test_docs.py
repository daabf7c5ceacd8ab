"""docs/models.md is true: its examples are read as they stand, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edge_agent.core.manifest import HeadSpec, InputSpec, Manifest, VariantSpec
from tests import house
from tools.hot_tier.packing.proving import EQUAL, FLOORS, GOLDEN, MARGIN
from tools.hot_tier.packing.wish import Foreign, read_wish

PAGE = (house.ROOT / "docs" / "models.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE)


@pytest.mark.parametrize("text", EXAMPLES, ids=[text.split('"')[1] for text in EXAMPLES])
def test_an_example_is_a_pack_manifest(text: str, tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text, encoding="utf-8")
    wish = read_wish(path).wish
    assert wish.foreign.scale is not None
    assert "Not a medical device." in wish.intended_use


def test_there_is_one_for_each_shape_of_model() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("kind", [Foreign, Manifest, InputSpec, HeadSpec, VariantSpec])
def test_every_key_has_its_words(kind: type[msgspec.Struct]) -> None:
    named = set(re.findall(r"`\[*([a-z_]+)\]*`", PAGE))
    assert {field.name for field in msgspec.structs.fields(kind)} <= named


def test_its_numbers_are_those_of_the_code() -> None:
    assert (GOLDEN, MARGIN) == (8, 8.0)
    assert (FLOORS["fp32"], FLOORS["int8"], FLOORS["fp16"]) == (2e-4, 2e-2, 2e-3)
    assert EQUAL["fp32"] == 1e-3
