"""How many images the bytes of a DICOM file are, whatever its header says of their number.

Pure; the bytes are looked at elsewhere. A count that differs from the header's is told in `notes`.
Bytes that fit another reading better than the header's own are a `Doubt`: nothing of them is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

MAX_PADDING_SHARE = 4  # blank bytes behind the images, at most this part of one image

MAX_SEGMENTS = 1000  # of a JPEG before its scan
START_OF_SCAN = 0xDA  # JPEG: the marker before the entropy-coded data
SAMPLES = {
    1: "1 sample a pixel",
    2: "sub-sampled colour, YBR_FULL_422",
    3: "3 samples a pixel",
}


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One uncompressed image as the header tells it.

    pixels: width x height. depth_bytes: of one sample. is_subsampled: two pixels share their
    colour, YBR_FULL_422. is_clip: the header has a frame time or a rate.
    """

    pixels: int
    samples: int
    depth_bytes: int
    is_subsampled: bool = False
    is_clip: bool = False

    @property
    def bytes_a_pixel(self) -> int:
        return self.depth_bytes * (2 if self.is_subsampled else self.samples)

    @property
    def image_bytes(self) -> int:
        return self.pixels * self.bytes_a_pixel


class Images(msgspec.Struct, frozen=True, kw_only=True):
    """So many images. notes: what of it differs from the header, in words."""

    count: int
    notes: tuple[str, ...] = ()


class Doubt(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected, and what came. is_short: not one image, in any reading."""

    expected: str
    got: str
    is_short: bool


def notes(count: int, claimed: int | None) -> tuple[str, ...]:
    """claimed: NumberOfFrames; None where the header has none, which means one image."""
    if count == (1 if claimed is None else claimed):
        return ()
    says = "does not say how many" if claimed is None else f"says {claimed}"
    return (f"{_images(count)}, the header {says}",)


class Looks(msgspec.Struct, frozen=True, kw_only=True):
    """Looks at the bytes, where their number leaves a doubt.

    is_blank: whether the last so many bytes are all zero. sample: some of them, in runs as long as
    a few rows or more.
    """

    is_blank: Callable[[int], bool]
    sample: Callable[[], bytes]


def native(length: int, shape: Shape, claimed: int | None, looks: Looks) -> Images | Doubt:
    """The images in `length` bytes."""
    image, claim = shape.image_bytes, _positive(claimed)
    if _is_exactly(length, claim * image):
        return Images(count=claim, notes=notes(claim, claimed))
    other = _other_reading(length, shape, claim)
    count, surplus = length // image, length - claim * image
    if other is None and count and _is_exactly(length, count * image):
        other = _other_rhythm(length, shape, looks)
        if other is None:
            return Images(count=count, notes=notes(count, claimed))
    if other is not None:
        return _doubt(length, shape, claim, other)
    if 0 < surplus <= image // MAX_PADDING_SHARE and looks.is_blank(surplus):
        told = f"{surplus} blank bytes behind the {_images(claim)} of the header"
        return Images(count=claim, notes=(*notes(claim, claimed), told))
    return _doubt(length, shape, claim, None)


def _other_reading(length: int, shape: Shape, claim: int) -> str | None:
    """Another meaning of the bytes, under which the header's number of images is right.

    Half the colour is a label that whole colour often has: there any number of images is a doubt.
    """
    full = shape.pixels * shape.depth_bytes * 3
    if shape.is_subsampled and (count := length // full) and _is_exactly(length, count * full):
        return f"{_images(count)} without sub-sampling, RGB or YBR_FULL"
    if shape.is_subsampled:
        return None
    if shape.samples == 1:
        samples: tuple[int, ...] = () if claim == 1 and shape.is_clip else (3,)
    else:
        samples = (1, 2)
    for number in samples:
        if _is_exactly(length, claim * number * shape.pixels * shape.depth_bytes):
            return f"{_images(claim)} with {SAMPLES[number]}"
    return None


def _other_rhythm(length: int, shape: Shape, looks: Looks) -> str | None:
    """Another meaning of the bytes, in which neighbours are more alike than in the header's.

    For a number of images that no header confirms. Samples of 8 bits only.
    """
    other = {3: 2, 1: 3}.get(shape.bytes_a_pixel)  # as one that is labelled so is by mistake
    if shape.depth_bytes != 1 or other is None or length % (shape.pixels * other) > 1:
        return None
    own, others = (3, 4) if other == 2 else (1, 3)  # bytes from a sample to the next of its kind
    sample = np.frombuffer(looks.sample(), np.uint8).astype(np.int16)
    if len(sample) <= others:
        return None
    steps = [float(np.abs(sample[lag:] - sample[:-lag]).mean()) for lag in (own, others)]
    return f"images with {SAMPLES[other]}" if 2 * steps[1] < steps[0] else None


def _doubt(length: int, shape: Shape, claim: int, other: str | None) -> Doubt:
    kind = f"{shape.bytes_a_pixel} bytes a pixel" if shape.bytes_a_pixel > 1 else "1 byte a pixel"
    expected = f"{claim * shape.image_bytes} bytes of pixels for {_images(claim)} of {kind}"
    count = length // shape.image_bytes
    fits = [_images(count)] if count and _is_exactly(length, count * shape.image_bytes) else []
    fits += [other] if other is not None else []
    return Doubt(
        expected=expected,
        got=f"{length}, which fits {' or '.join(fits)}" if fits else f"{length}",
        is_short=other is None and length < shape.image_bytes,
    )


def _is_exactly(length: int, wanted: int) -> bool:
    """Whether it is so many bytes, or those and the one that makes the length even."""
    return wanted <= length <= wanted + wanted % 2


# ── compressed: an image is one fragment, or several ──────────────────────────────────────────


class Marks(msgspec.Struct, frozen=True, kw_only=True):
    """Of a fragment: whether an image begins with it, ends with it, or it is only padding."""

    begins: bool
    ends: bool = False
    is_padding: bool = False


def fragments(
    marks: Sequence[Marks], tables: Sequence[Sequence[int]], claimed: int | None
) -> list[int]:
    """The fragment that each image begins with, ascending, the first is 0.

    tables: what offset tables say, as numbers of fragments. With the header's number they decide
    what a fragment is that begins nothing, behind an end: a damaged image, or none. Where an image
    is marked, one begins.
    """
    marked = {0, *(number for number, mark in enumerate(marks) if mark.begins)}
    after_an_end, has_ended = set(), False
    for number, mark in enumerate(marks):
        if has_ended and not mark.is_padding:
            after_an_end.add(number)
        has_ended = has_ended if mark.is_padding else mark.ends
    possible = marked | after_an_end
    ends_are_known = any(mark.ends for mark in marks)  # not in RLE
    for some in (marked, *map(set, tables)):
        is_marked = some <= possible or (not ends_are_known and 2 * len(marked) > len(some))
        if len(some) == claimed and marked <= some and is_marked:
            return sorted(some)
    # Without a begin behind an end: a damaged image. Joined to the one before it would vanish.
    return sorted(possible)


def jpeg_header_bytes(read: Callable[[int, int], bytes]) -> int:
    """From the begin of a JPEG to its scan; 0 when it is none, or its header is not whole.

    Up to there begins and ends of images are those of thumbnails. read: so many bytes from there.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        segment = read(at, 4)
        if len(segment) < 4 or segment[0] != 0xFF:
            break
        if segment[1] == START_OF_SCAN:
            return at
        at += 2 + int.from_bytes(segment[2:], "big")
    return 0


def _positive(claimed: int | None) -> int:
    return 1 if claimed is None or claimed < 1 else claimed


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"
