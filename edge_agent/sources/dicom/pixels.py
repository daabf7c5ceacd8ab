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

from edge_agent.core import dicom_rules
from edge_agent.core.frames import Pixels
from edge_agent.sources.dicom import syntax
from edge_agent.sources.dicom.header import MONOCHROME, PALETTE, Header

LEVEL_FRAMES = 16  # so many, spread over the clip, give the range of a clip without a window


class Decode:
    """stored bytes of one frame -> array as stored: HxW, or HxWx3 RGB. uint8 to int16.

    Raises: whatever pydicom raises on bytes that are wrong, see `header.BAD_BYTES`.
    """

    def __init__(self, header: Header, pixel_vr: str) -> None:
        self._decoder = get_decoder(header.syntax)
        self._is_encapsulated = syntax.is_encapsulated(header.syntax)
        self._options: dict[str, Any] = {
            "rows": header.size[1],
            "columns": header.size[0],
            "samples_per_pixel": header.samples,
            "photometric_interpretation": header.photometric,
            "planar_configuration": header.planar,
            "bits_allocated": header.bits_allocated,
            "bits_stored": header.bits_stored,
            "pixel_representation": int(header.is_signed),
            "number_of_frames": 1,
            "pixel_keyword": "PixelData",
            "transfer_syntax_uid": uid.UID(header.syntax),
            "pixel_vr": pixel_vr,
        }

    def __call__(self, stored: bytes) -> NDArray[Any]:
        if self._is_encapsulated:
            stored = encapsulate([stored], has_bot=False)
        array, _ = self._decoder.as_array(stored, index=0, **self._options)
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


class Show:
    """An array as stored -> uint8 pixels. `words` tell what was done to the levels."""

    def __init__(self, header: Header, sample: Callable[[int], NDArray[Any]]) -> None:
        """sample: decodes frame `index`; called only for levels that the header leaves open."""
        self._header = header
        self._table: NDArray[np.uint8] | None = None  # uint8 of each bit pattern; None: as it is
        self.words = "as stored"
        if header.photometric == PALETTE:
            self._table, self.words = header.palette, "palette"
        elif header.photometric in MONOCHROME:
            self._table, self.words = self._levels(sample)
        elif header.bits_stored != 8 or header.bits_allocated != 8:
            self._table = self._full_range()
            self.words = f"{header.bits_stored} bits scaled to 8"

    def __call__(self, array: NDArray[Any]) -> Pixels:
        if self._table is not None:
            patterns = array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "i" else array
            array = self._table[patterns]
        if array.ndim == 3 and self._header.photometric != PALETTE:
            array = cv2.cvtColor(array, cv2.COLOR_RGB2BGR)
        pixels: Pixels = np.ascontiguousarray(array, dtype=np.uint8)
        pixels.flags.writeable = False  # a looped clip shows the same array again
        return pixels

    def _values(self) -> NDArray[np.float64]:
        return dicom_rules.stored_values(
            self._header.bits_allocated, is_signed=self._header.is_signed
        )

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
            some = dicom_rules.spread(header.frames, LEVEL_FRAMES)
            low, high = _range(sample(index) for index in some)
            table = dicom_rules.range_levels(self._values(), low, high)
            words = f"{low:g} to {high:g}, the range of {len(some)} of {header.frames} frames"
        if is_inverted:
            return 255 - table, f"{words}, inverted"
        return (None if words == "as stored" else table), words


def _range(arrays: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """The lowest and the highest value of all of them."""
    ends = [(float(array.min()), float(array.max())) for array in arrays]
    return min(low for low, _ in ends), max(high for _, high in ends)
