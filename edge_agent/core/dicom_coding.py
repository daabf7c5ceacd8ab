"""A compressed frame held against the header of its DICOM file: its size, its depth, its colours.

Pure. A frame's own words go before the header's, and where they can't both be true the frame is a
misfit: nothing of it is shown.
"""

from __future__ import annotations

import msgspec

from edge_agent.core import jpeg, jpeg2000

JPEG, JPEG_2000 = "JPEG", "JPEG 2000"
RGB, YBR, UNTOLD = "RGB", "YBR_FULL", ("YBR_ICT", "YBR_RCT")
ADOBE_RGB = 0
PROCESSES = (*jpeg.SEQUENTIAL, jpeg.PROGRESSIVE)


class Misfit(Exception):
    """A frame that is not of the image its header tells of; the words hold numbers and labels."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What the header says. size: [width, height] px. label: the photometric interpretation."""

    size: tuple[int, int]
    samples: int
    bits_allocated: int
    bits_stored: int
    label: str


class Colours(msgspec.Struct, frozen=True, kw_only=True):
    """is_ybr: luma and chroma, to be turned into RGB. words: what is not sure of it; mostly ""."""

    is_ybr: bool
    words: str = ""


def check_jpeg(facts: jpeg.Facts, said: Said) -> None:
    """Raises: Misfit."""
    _check(JPEG, facts.size, len(facts.components), said)
    if facts.process not in PROCESSES:
        number = facts.process - 0xC0
        raise Misfit(f"the {JPEG} is of kind SOF{number}, expected baseline, extended, progressive")
    if (facts.precision > 8) != (said.bits_stored > 8):
        raise _bits(JPEG, facts.precision, said)


def check_jpeg2000(facts: jpeg2000.Facts, said: Said) -> None:
    """More bits than the header says, in as many bytes, are common and hold the same values.

    Raises: Misfit.
    """
    _check(JPEG_2000, facts.size, len(facts.components), said)
    depths = {one.precision for one in facts.components}
    if len(depths) > 1:
        raise Misfit(f"the {JPEG_2000} has components of {_listed(depths)} bits")
    if (facts.precision > 8) != (said.bits_stored > 8) or facts.precision > said.bits_allocated:
        raise _bits(JPEG_2000, facts.precision, said)


def of_jpeg(facts: jpeg.Facts, label: str) -> Colours:
    """Of three components. Raises: Misfit.

    Its markers decide, then its sub-sampling, then the label.
    """
    if facts.adobe is None:
        says_rgb = facts.has_rgb_idents and not facts.is_jfif
        says_ybr = facts.is_jfif
    else:
        says_rgb = facts.adobe == ADOBE_RGB
        says_ybr = facts.is_jfif or not says_rgb
    if facts.is_subsampled:
        luma, *chroma = ((one.across, one.down) for one in facts.components)
        is_luma_first = all(luma[0] >= across and luma[1] >= down for across, down in chroma)
        if says_rgb or not is_luma_first:
            raise Misfit("the JPEG says RGB, but its components are sub-sampled as only YCbCr is")
        return Colours(is_ybr=True)
    if says_rgb and says_ybr:
        raise Misfit("one marker of the JPEG says RGB, another YCbCr")
    if says_rgb or says_ybr:
        return Colours(is_ybr=says_ybr)
    if label == RGB:
        words = "RGB by the label alone, nothing in the JPEG says so"
        return Colours(is_ybr=False, words=words)
    return Colours(is_ybr=True)


def of_jpeg2000(facts: jpeg2000.Facts, label: str) -> Colours:
    """Of three components, after the decoder has undone the transform of the codestream itself.

    Decoders turn sub-sampled components into RGB on their own.
    """
    if facts.has_transform or facts.is_subsampled or label == RGB:
        return Colours(is_ybr=False)
    if label in UNTOLD:
        return Colours(is_ybr=False, words=f"RGB, the codestream has none of the {label} it claims")
    return Colours(is_ybr=True)


def _check(kind: str, size: tuple[int, int], components: int, said: Said) -> None:
    if size != said.size:
        own, told = (f"{width} x {height}" for width, height in (size, said.size))
        raise Misfit(f"the {kind} is {own}, the header says {told}")
    if components != said.samples:
        raise Misfit(
            f"the {kind} has {components} components, the header says {said.samples} "
            "samples per pixel"
        )


def _bits(kind: str, precision: int, said: Said) -> Misfit:
    return Misfit(f"the {kind} has {precision} bits, the header says {said.bits_stored}")


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
