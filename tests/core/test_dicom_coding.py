"""A frame's own words against its header's: what is shown, and what is a misfit."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.core import jpeg, jpeg2000
from edge_agent.core.dicom_coding import (
    Misfit,
    Said,
    check_jpeg,
    check_jpeg2000,
    of_jpeg,
    of_jpeg2000,
)

SAID = Said(size=(48, 64), samples=3, bits_allocated=8, bits_stored=8, label="RGB")
PLAIN, HALF = ((1, 1), (1, 1), (1, 1)), ((2, 2), (1, 1), (1, 1))
IDENTS = {"numbers": (1, 2, 3), "letters": tuple(b"RGB")}


def facts(
    sampling: Any = PLAIN, *, idents: str = "numbers", adobe: int | None = None, jfif: bool = False
) -> jpeg.Facts:
    parts = zip(IDENTS[idents], sampling, strict=True)
    return jpeg.Facts(
        size=(48, 64),
        components=tuple(jpeg.Component(ident, *each) for ident, each in parts),
        precision=8,
        process=0xC0,
        adobe=adobe,
        is_jfif=jfif,
    )


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT"])
@pytest.mark.parametrize(
    ("found", "is_ybr"),
    [
        (facts(HALF), True),
        (facts(HALF, jfif=True), True),
        (facts(HALF, adobe=1), True),
        (facts(((2, 1), (1, 1), (1, 1))), True),
        (facts(((1, 2), (1, 1), (1, 1))), True),
        (facts(jfif=True), True),
        (facts(adobe=1), True),
        (facts(adobe=1, jfif=True), True),
        (facts(adobe=0), False),
        (facts(idents="letters"), False),
        (facts(adobe=0, idents="letters"), False),
    ],
)
def test_markers_and_sampling_go_before_the_label(
    label: str, found: jpeg.Facts, *, is_ybr: bool
) -> None:
    colours = of_jpeg(found, label)
    assert (colours.is_ybr, colours.words) == (is_ybr, "")


@pytest.mark.parametrize(
    ("found", "label", "is_ybr", "words"),
    [
        (facts(), "RGB", False, "RGB by the label alone"),
        (facts(), "YBR_FULL", True, ""),
        (facts(), "YBR_FULL_422", True, ""),
    ],
)
def test_the_label_decides_what_nothing_else_does(
    found: jpeg.Facts, label: str, words: str, *, is_ybr: bool
) -> None:
    colours = of_jpeg(found, label)
    assert colours.is_ybr == is_ybr
    assert colours.words.startswith(words)
    assert bool(colours.words) == bool(words)


@pytest.mark.parametrize(
    "found",
    [
        facts(HALF, adobe=0),
        facts(HALF, idents="letters"),
        facts(((1, 1), (2, 2), (2, 2))),
        facts(((1, 1), (2, 1), (1, 1))),
    ],
)
def test_sub_sampled_rgb_is_a_misfit(found: jpeg.Facts) -> None:
    with pytest.raises(Misfit, match="sub-sampled"):
        of_jpeg(found, "RGB")


@pytest.mark.parametrize("label", ["RGB", "YBR_FULL"])
def test_markers_that_contradict_each_other_are_a_misfit(label: str) -> None:
    with pytest.raises(Misfit, match="one marker of the JPEG says RGB, another YCbCr"):
        of_jpeg(facts(adobe=0, jfif=True), label)


def j2k(
    *, precision: int = 8, components: int = 3, half: bool = False, mct: bool = False
) -> jpeg2000.Facts:
    step = 2 if half else 1
    each = jpeg2000.Component(precision, False, 1, 1)
    rest = jpeg2000.Component(precision, False, step, step)
    return jpeg2000.Facts(
        size=(48, 64),
        components=(each, *[rest] * (components - 1)),
        tile=(48, 64),
        tiles=1,
        has_transform=mct,
        layers=1,
        levels=5,
        style=0,
        precincts=(),
    )


@pytest.mark.parametrize(
    ("found", "label", "is_ybr", "words"),
    [
        (j2k(mct=True), "RGB", False, ""),
        (j2k(mct=True), "YBR_RCT", False, ""),
        (j2k(mct=True), "YBR_FULL", False, ""),
        (j2k(), "RGB", False, ""),
        (j2k(), "YBR_FULL", True, ""),
        (j2k(), "YBR_FULL_422", True, ""),
        (j2k(half=True), "YBR_FULL_422", False, ""),
        (j2k(half=True), "RGB", False, ""),
        (j2k(), "YBR_RCT", False, "none of the YBR_RCT"),
        (j2k(), "YBR_ICT", False, "none of the YBR_ICT"),
    ],
)
def test_the_flag_of_the_codestream_decides(
    found: jpeg2000.Facts, label: str, words: str, *, is_ybr: bool
) -> None:
    colours = of_jpeg2000(found, label)
    assert colours.is_ybr == is_ybr
    assert words in colours.words
    assert bool(colours.words) == bool(words)


def changed(**changes: Any) -> Said:
    return Said(**{**{name: getattr(SAID, name) for name in SAID.__struct_fields__}, **changes})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"size": (64, 48)}, "the {} is 48 x 64, the header says 64 x 48"),
        ({"samples": 1}, "the {} has 3 components, the header says 1 samples"),
        ({"bits_allocated": 16, "bits_stored": 12}, "the {} has 8 bits, the header says 12"),
    ],
)
def test_another_image_than_the_header_tells_of_is_a_misfit(
    said: dict[str, Any], words: str
) -> None:
    check_jpeg(facts(), SAID)
    check_jpeg2000(j2k(), SAID)
    with pytest.raises(Misfit, match=words.format("JPEG")):
        check_jpeg(facts(), changed(**said))
    with pytest.raises(Misfit, match=words.format("JPEG 2000")):
        check_jpeg2000(j2k(), changed(**said))


def test_more_bits_in_as_many_bytes_are_no_misfit() -> None:
    check_jpeg2000(
        j2k(precision=16, components=1),
        changed(samples=1, bits_allocated=16, bits_stored=12, label="MONOCHROME2"),
    )
    with pytest.raises(Misfit, match="has 12 bits, the header says 8"):
        check_jpeg2000(j2k(precision=12), SAID)
    with pytest.raises(Misfit, match="has 4 components"):
        check_jpeg2000(j2k(components=4), SAID)
