"""From stored bytes to what a model gets: gray HxW or BGR HxWx3, uint8."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from edge_agent.core import dicom_coding, dicom_rules, jpeg, jpeg2000, jpeg_damage, rle
from edge_agent.core.frames import Pixels
from edge_agent.core.order import spread
from edge_agent.sources.dicom import syntax
from edge_agent.sources.dicom.header import MONOCHROME, PALETTE, YBR, Header

MAX_WALKED_BYTES = 64 << 10  # of a progressive JPEG: 0.2 s at most
LEVEL_FRAMES = 16  # so many, spread over the clip, give the range of a clip without a window


class Decode:
    """stored bytes of one frame -> array as stored: HxW, or HxWx3 RGB. uint8 to int16.

    words: what is not sure of the colours of the frame decoded last, "" when nothing is.

    Raises: Misfit for a frame that is not of the image its header tells of; for bytes that are
    wrong Damaged, and whatever pydicom raises, see `header.BAD_BYTES`.
    """

    def __init__(self, header: Header, pixel_vr: str) -> None:
        self._header = header
        self._decoder = get_decoder(header.syntax)
        self._said = dicom_coding.Said(
            size=header.size,
            samples=header.samples,
            bits_allocated=header.bits_allocated,
            bits_stored=header.bits_stored,
            label=header.photometric,
        )
        self._options: dict[str, Any] = {
            "rows": header.size[1],
            "columns": header.size[0],
            "samples_per_pixel": header.samples,
            "photometric_interpretation": header.photometric,
            # of compressed frames it says nothing: their decoders give pixel by pixel
            "planar_configuration": 0 if syntax.is_encapsulated(header.syntax) else header.planar,
            "bits_allocated": header.bits_allocated,
            "bits_stored": header.bits_stored,
            "pixel_representation": int(header.is_signed),
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
            "transfer_syntax_uid": uid.UID(header.syntax),
            "pixel_vr": pixel_vr,
            "correct_unused_bits": False,  # it knows no high bit; `Show` does
        }
        self.words = ""

    def __call__(self, stored: bytes) -> NDArray[Any]:
        coding = syntax.coding(self._header.syntax)
        if coding == syntax.JPEG:
            return self._jpeg(stored)
        if coding == syntax.JPEG_2000:
            return self._jpeg2000(stored)
        if coding == syntax.RLE:
            return self._rle(stored)
        array = self._decoded(stored)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def _jpeg(self, stored: bytes) -> NDArray[Any]:
        facts = jpeg.facts(stored)
        dicom_coding.check_jpeg(facts, self._said)
        given, label = stored, self._said.label
        if self._said.samples == 3:
            colours = dicom_coding.of_jpeg(facts, label)
            self.words = colours.words
            is_marked = facts.adobe is not None  # then libjpeg turns it into RGB
            label = "YBR_FULL" if colours.is_ybr and not is_marked else "RGB"
            if facts.has_rgb_idents and not colours.is_ybr and not is_marked:
                given = jpeg.as_rgb(stored)
        narrow = {"bits_allocated": 8} if facts.precision <= 8 else {}
        array = self._decoded(
            encapsulate([given], has_bot=False), photometric_interpretation=label, **narrow
        )
        picture = array if array.ndim == 2 else array[..., ::-1]
        if wrong := jpeg_damage.damage(
            stored, picture.view(np.uint8), max_walked_bytes=MAX_WALKED_BYTES
        ):
            raise jpeg.Damaged(wrong)
        return self._within(array, facts.precision)

    def _jpeg2000(self, stored: bytes) -> NDArray[Any]:
        facts = jpeg2000.check(stored)
        dicom_coding.check_jpeg2000(facts, self._said)
        label = self._said.label
        if self._said.samples == 3:
            colours = dicom_coding.of_jpeg2000(facts, label)
            self.words = colours.words
            label = "YBR_FULL" if colours.is_ybr else "RGB"
        array = self._decoded(
            encapsulate([stored], has_bot=False),
            photometric_interpretation=label,
            apply_j2k_sign_correction=True,
        )
        return self._within(array, facts.precision)

    def _rle(self, stored: bytes) -> NDArray[Any]:
        width, height = self._said.size
        samples, depth_bytes = self._said.samples, self._said.bits_allocated // 8
        planes = rle.unpack(stored, segments=samples * depth_bytes, samples=width * height)
        each = np.frombuffer(b"".join(planes), np.uint8)
        parts = each.reshape(samples, depth_bytes, height, width)
        kind = "i" if self._header.is_signed else "u"
        # the segments of a sample come with its highest byte first
        array = np.ascontiguousarray(parts.transpose(2, 3, 0, 1)).view(f">{kind}{depth_bytes}")
        array = array.reshape(height, width, samples).astype(f"{kind}{depth_bytes}")
        if samples == 1:
            return array[..., 0]
        if self._said.label in YBR:
            array = convert_color_space(array, "YBR_FULL", "RGB")
        return array

    def _decoded(self, stored: bytes, **options: Any) -> NDArray[Any]:
        array, _ = self._decoder.as_array(stored, index=0, **{**self._options, **options})
        return array

    def _within(self, array: NDArray[Any], precision: int) -> NDArray[Any]:
        """Values that a lossy coding left outside of the stored bits go to their ends."""
        bits = self._said.bits_stored
        if precision > bits:
            low, high = dicom_rules.stored_range(bits, is_signed=self._header.is_signed)
            array = np.clip(array, int(low), int(high))
        return array.astype(f"{array.dtype.kind}{self._said.bits_allocated // 8}", copy=False)


class Show:
    """An array as stored -> uint8 pixels. `words` tell what was done to the levels."""

    def __init__(self, header: Header, sample: Callable[[int], NDArray[Any]]) -> None:
        """sample: decodes frame `index`; called only for levels that the header leaves open."""
        self._header = header
        self._table: NDArray[np.uint8] | None = None  # uint8 of each bit pattern; None: as it is
        self.words = "as stored"
        if header.photometric == PALETTE:
            self._table, self.words = header.palette, header.palette_words
        elif header.photometric in MONOCHROME:
            self._table, self.words = self._levels(sample)
        elif header.bits_stored != 8 or header.bits_allocated != 8:
            self._table = self._full_range()
            self.words = f"{header.bits_stored} bits scaled to 8"

    def __call__(self, array: NDArray[Any]) -> Pixels:
        if self._table is not None:
            array = self._table[_patterns(array)]
        if array.ndim == 3 and self._header.photometric != PALETTE:
            array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        pixels: Pixels = np.ascontiguousarray(array, dtype=np.uint8)
        pixels.flags.writeable = False  # a looped clip shows the same array again
        return pixels

    def _values(self) -> NDArray[np.float64]:
        return self._header.stored_values()

    def _full_range(self) -> NDArray[np.uint8]:
        header = self._header
        low, high = dicom_rules.stored_range(header.bits_stored, is_signed=header.is_signed)
        return dicom_rules.range_levels(self._values(), low, high)

    def _levels(
        self, sample: Callable[[int], NDArray[Any]]
    ) -> tuple[NDArray[np.uint8] | None, str]:
        header = self._header
        is_inverted = header.photometric == "MONOCHROME1"
        words = "as stored"
        if header.bits_stored == header.bits_allocated == 8 and not header.is_signed:
            table = np.arange(256, dtype=np.uint8)
        elif header.bits_stored <= 8:
            table, words = self._full_range(), f"{header.bits_stored} bits scaled to 8"
        elif header.window is not None:
            table = dicom_rules.window_levels(self._values(), header.window)
            words = f"window {header.window.center:g}/{header.window.width:g} of the file"
        else:
            some = spread(header.frames, LEVEL_FRAMES)
            values = self._values()
            low, high = _range(values[_patterns(sample(index))] for index in some)
            table = dicom_rules.range_levels(values, low, high)
            words = f"{low:g} to {high:g}, the range of {len(some)} of {header.frames} frames"
        if is_inverted:
            return 255 - table, f"{words}, inverted"
        return (None if words == "as stored" else table), words


def _patterns(array: NDArray[Any]) -> NDArray[Any]:
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "i" else array


def _range(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """The lowest and the highest value of all of them."""
    ends = [(float(array.min()), float(array.max())) for array in arrays]
    return min(low for low, _ in ends), max(high for _, high in ends)
