"""JPEGs made by libjpeg, whole and damaged: whole ones pass, and a hole does not."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageFile

from edge_agent.core import jpeg, jpeg_damage, jpeg_walk

CODINGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimised": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
}


def stored(picture: NDArray[np.uint8], **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **{"quality": 85, **options})
    return file.getvalue()


def shown(data: bytes) -> NDArray[np.uint8] | None:
    """BGR as a lenient decoder shows it: what is missing is gray."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, True
    try:
        pixels = np.asarray(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError):
        return None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def textured(height: int = 96, width: int = 128) -> NDArray[np.uint8]:
    """Blocks of bright colours, with a black border as an ultrasound picture has."""
    made = np.random.default_rng(3).integers(150, 255, (height // 8, width // 8, 3))
    picture = np.kron(made, np.ones((8, 8, 1))).astype(np.uint8)
    picture[: height // 4] = 0
    return picture


def code_at(data: bytes | bytearray) -> int:
    return data.index(b"\xff\xda") + 14


@pytest.mark.parametrize("options", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("level", [0, 1, 127, 128, 255])
def test_a_picture_of_one_level_is_whole_though_its_code_may_be_all_zeros(
    options: dict[str, Any], level: int
) -> None:
    for shape in ((120, 160), (120, 160, 3)):
        data = stored(np.full(shape, level, np.uint8), **options)
        assert jpeg_damage.damage(data, shown(data)) == ""


@settings(deadline=None, max_examples=40)
@given(
    coding=st.sampled_from(list(CODINGS)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    quality=st.sampled_from([5, 75, 95]),
    subsampling=st.integers(0, 2),
    is_gray=st.booleans(),
    seed=st.integers(0, 9),
)
def test_every_bit_of_a_whole_picture_is_counted(
    *,
    coding: str,
    size: tuple[int, int],
    quality: int,
    subsampling: int,
    is_gray: bool,
    seed: int,
) -> None:
    shape = size if is_gray else (*size, 3)
    picture = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    data = stored(picture, quality=quality, subsampling=subsampling, **CODINGS[coding])
    facts, scans = jpeg.scans(data)
    assert facts.size == (size[1], size[0])
    assert len(facts.components) == (1 if is_gray else 3)
    assert facts.is_subsampled == (not is_gray and subsampling > 0)
    jpeg_walk.check(data, facts, scans)
    assert jpeg_damage.damage(data, shown(data)) == ""


@pytest.mark.parametrize("options", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.95])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["no end", "with an end"])
def test_a_picture_that_was_cut_off_is_damaged(
    options: dict[str, Any], share: float, end: bytes
) -> None:
    data = stored(textured(), **options)
    begin = code_at(data)
    cut = data[: begin + int((len(data) - begin) * share)] + end
    assert jpeg_damage.damage(cut, shown(cut)) != ""


@pytest.mark.parametrize("options", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("hole_bytes", [64, 512, 4096])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_hole_of_zeros_is_damage(options: dict[str, Any], hole_bytes: int, share: float) -> None:
    data = bytearray(stored(textured(240, 320), **options))
    at = code_at(data) + int((len(data) - code_at(data)) * share)
    size = min(hole_bytes, len(data) - 2 - at)
    data[at : at + size] = b"\0" * size
    assert jpeg_damage.damage(bytes(data), shown(bytes(data))) != ""


def test_a_restart_interval_that_ends_early_is_found_inside_the_picture() -> None:
    data = stored(textured(), restart_marker_rows=1)
    _, (scan,) = jpeg.scans(data)
    begin, end = scan.parts[len(scan.parts) // 2]
    cut = data[: (begin + end) // 2] + data[end:]
    assert "ends early" in jpeg_damage.damage(cut, shown(cut))


def test_a_restart_interval_that_is_missing_is_damage() -> None:
    data = stored(textured(), restart_marker_rows=1)
    _, (scan,) = jpeg.scans(data)
    begin, end = scan.parts[2]
    assert "restart marker" in jpeg_damage.damage(data[:begin] + data[end + 2 :])


def test_a_progressive_picture_without_its_last_scans_is_damage() -> None:
    data = stored(textured(), progressive=True)
    _, scans = jpeg.scans(data)
    cut = data[: scans[-2].parts[-1][1]] + b"\xff\xd9"
    assert "not whole" in jpeg_damage.damage(cut)


def test_what_a_jpeg_says_of_its_colours_is_read() -> None:
    picture = textured()
    assert jpeg.facts(stored(picture)).is_jfif
    own = stored(picture, keep_rgb=True)
    found = jpeg.facts(own)
    assert found.has_rgb_idents
    assert (found.adobe, found.is_jfif) == (0, False)
    assert jpeg.facts(stored(picture)).adobe is None


@settings(deadline=None, max_examples=150)
@given(
    coding=st.sampled_from(list(CODINGS)),
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 14), st.binary(min_size=1, max_size=6)), max_size=6
    ),
    cut=st.integers(0, 4000),
)
def test_any_bytes_end_in_words(coding: str, changes: list[tuple[int, bytes]], cut: int) -> None:
    data = bytearray(stored(textured(32, 48), **CODINGS[coding]))
    for place, patch in changes:
        start = place % len(data)
        data[start : start + len(patch)] = patch
    try:
        facts, scans = jpeg.scans(bytes(data[: cut or None]))
    except jpeg.Damaged:
        return
    assert isinstance(jpeg_damage.damage(bytes(data), None), str)
    if facts.size[0] * facts.size[1] < 1 << 16 and facts.process in (0xC0, 0xC1, 0xC2):
        try:
            jpeg_walk.check(bytes(data), facts, scans)
        except jpeg.Damaged:
            return
