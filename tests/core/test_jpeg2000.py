"""JPEG 2000 made by OpenJPEG, whole and damaged."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edge_agent.core import jpeg2000
from edge_agent.core.jpeg import Damaged

CODINGS: dict[str, dict[str, Any]] = {
    "lossless": {},
    "lossy in layers": {"irreversible": True, "quality_layers": [40, 20, 10]},
    "tiles": {"tile_size": (64, 64)},
    "precincts": {"precinct_size": (64, 64)},
    "transformed": {"mct": 1},
}


def stored(picture: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(picture, np.uint8)).save(file, "JPEG2000", no_jp2=True, **options)
    return file.getvalue()


NOISE = np.random.default_rng(1).integers(0, 256, (96, 128, 3)).astype(np.uint8)


@pytest.mark.parametrize("options", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("level", [None, 0, 77, 255])
def test_a_whole_picture_is_whole(options: dict[str, Any], level: int | None) -> None:
    picture = NOISE if level is None else np.full((480, 640, 3), level)
    found = jpeg2000.check(stored(picture, **options) + b"\0")
    assert found.size == picture.shape[1::-1]
    assert [one.precision for one in found.components] == [8, 8, 8]
    assert (found.has_transform, found.is_subsampled) == (options.get("mct") == 1, False)


@pytest.mark.parametrize("options", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_one_that_was_cut_off_is_damaged(options: dict[str, Any], share: float) -> None:
    whole = stored(NOISE, **options)
    for end in (b"", b"\xff\xd9"):
        with pytest.raises(Damaged):
            jpeg2000.check(whole[: int(len(whole) * share)] + end)


@pytest.mark.parametrize("options", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
def test_a_hole_is_damage(options: dict[str, Any], filling: bytes) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (480, 640, 3))
    data = bytearray(stored(picture, **options))
    middle = len(data) // 2
    data[middle : middle + 4096] = filling * 4096
    with pytest.raises(Damaged):
        jpeg2000.check(bytes(data))


@settings(deadline=None, max_examples=150)
@given(
    coding=st.sampled_from(list(CODINGS)),
    changes=st.lists(st.tuples(st.integers(0, 300), st.binary(min_size=1, max_size=4)), max_size=4),
    cut=st.integers(0, 400),
)
def test_any_bytes_end_in_facts_or_in_damage(
    coding: str, changes: list[tuple[int, bytes]], cut: int
) -> None:
    data = bytearray(stored(NOISE[:32, :32], num_resolutions=3, **CODINGS[coding]))
    for place, patch in changes:
        data[place : place + len(patch)] = patch
    try:
        found = jpeg2000.check(bytes(data[: cut or None]))
    except Damaged:
        return
    assert min(found.size) >= 1
