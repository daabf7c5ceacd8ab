"""How many images bytes are: by their length, and by the marks of fragments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.dicom_counts import Doubt, Images, Looks, Marks, Shape, fragments, native

RGB = Shape(pixels=9, samples=3, depth_bytes=1)
GRAY = Shape(pixels=9, samples=1, depth_bytes=1)
HALF = Shape(pixels=8, samples=3, depth_bytes=1, is_subsampled=True)


def looks(*, blank: bool = False, sample: bytes = b"") -> Looks:
    return Looks(is_blank=lambda _: blank, sample=lambda: sample)


@pytest.mark.parametrize(
    ("length", "shape", "claimed", "count"),
    [
        (27, RGB, 1, 1),
        (28, RGB, None, 1),  # the byte that makes it even
        (54, RGB, None, 2),
        (82, RGB, 2, 3),
        (9, GRAY, 0, 1),
        (19, GRAY, 2, None),  # an even number needs no further byte
        (16, HALF, 1, 1),
        (24, HALF, 1, None),
        (32, HALF, 5, 2),
        (48, HALF, 3, 3),
        (48, HALF, None, None),  # three of half the colour, or two of all of it
        (18, RGB, 1, None),
        (0, RGB, None, None),
    ],
)
def test_a_length_is_a_number_of_images_or_a_doubt(
    length: int, shape: Shape, claimed: int | None, count: int | None
) -> None:
    found = native(length, shape, claimed, looks())
    assert (found.count if isinstance(found, Images) else None) == count


def test_three_images_in_one_may_be_colour_unless_the_header_has_a_rate() -> None:
    assert isinstance(native(27, GRAY, None, looks()), Doubt)
    clip = Shape(pixels=9, samples=1, depth_bytes=1, is_clip=True)
    assert native(27, clip, None, looks()) == Images(
        count=3, notes=("3 images, the header does not say how many",)
    )


def test_a_number_that_no_header_confirms_asks_the_neighbours() -> None:
    half, whole = bytes([90, 91, 20, 220]) * 12, bytes([90, 20, 220]) * 16
    shape = Shape(pixels=8, samples=3, depth_bytes=1)
    found = native(48, shape, None, looks(sample=half))
    assert isinstance(found, Doubt)
    assert "sub-sampled colour" in found.got
    assert native(48, shape, 2, looks(sample=half)) == Images(count=2)
    assert isinstance(native(48, shape, None, looks(sample=whole)), Images)
    assert isinstance(native(48, shape, None, looks(sample=bytes(48))), Images)


@given(
    shape=st.sampled_from([RGB, GRAY, HALF]),
    count=st.integers(1, 50),
    claimed=st.one_of(st.none(), st.integers(-2, 60)),
)
def test_images_are_all_counted_and_another_number_is_never_silent(
    shape: Shape, count: int, claimed: int | None
) -> None:
    length = count * shape.image_bytes
    found = native(length + length % 2, shape, claimed, looks())
    if isinstance(found, Images):
        assert found.count == count
        assert bool(found.notes) == (count != (1 if claimed is None else claimed))
    else:
        assert count != claimed
        assert str(length) in found.got or str(length + 1) in found.got


B, M, E, W = (  # of an image: its begin, its middle, its end, all of it
    Marks(begins=True),
    Marks(begins=False),
    Marks(begins=False, ends=True),
    Marks(begins=True, ends=True),
)
PAD = Marks(begins=False, is_padding=True)


@pytest.mark.parametrize(
    ("marks", "tables", "claimed", "starts"),
    [
        ([B, M, E], [], 1, [0]),
        ([B, M, E, W, B, E, PAD], [[0]], 1, [0, 3, 4]),
        ([W, PAD, W], [], None, [0, 2]),
        ([B, M, M, B, M, M], [[0, 3]], 2, [0, 3]),  # no ends: RLE
        ([W, M, W], [[0, 1, 2]], 3, [0, 1, 2]),  # the second is damaged
        ([W, M, W], [], None, [0, 1, 2]),
        ([B, B, W], [], 3, [0, 1, 2]),  # two of them cut
        ([M, W, W], [], None, [0, 1, 2]),  # the first is damaged
        ([W, E], [], 1, [0]),  # the end of a thumbnail
        ([B, E, B, E], [[0, 1, 2, 3]], 4, [0, 2]),
        ([B, B], [[0]], None, [0, 1]),  # RLE
        ([B, M, B], [[0, 1, 2]], 3, [0, 1, 2]),  # RLE, the second is damaged
        ([W, M], [[0]], None, [0, 1]),
        ([W, M], [[0]], 1, [0]),
        ([M], [], None, [0]),
    ],
)
def test_images_begin_where_their_marks_say(
    marks: list[Marks], tables: list[list[int]], claimed: int | None, starts: list[int]
) -> None:
    assert fragments(marks, tables, claimed) == starts
