"""What plain values of a DICOM header mean: its grey levels, its pseudonym.

Pure; the header is read elsewhere. A pseudonym never leads back to its UID without the key.
"""

from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
from numpy.typing import NDArray

MIN_KEY_BYTES = 16
MAX_KEY_BYTES = 64  # of BLAKE2b; a longer one is hashed first


def pseudonym(study_uid: str, key: bytes) -> str:
    """hex16: equal for equal studies under one key, unrelated under another; "" without a study."""
    if len(key) < MIN_KEY_BYTES:
        raise ValueError(f"a key of a pseudonym has at least {MIN_KEY_BYTES} bytes, not {len(key)}")
    uid = study_uid.strip(" \0")
    if not uid:
        return ""
    if len(key) > MAX_KEY_BYTES:
        key = hashlib.blake2b(key).digest()
    return hashlib.blake2b(
        uid.encode(), digest_size=8, key=key, person=b"edge-agent exam"
    ).hexdigest()


# ── grey levels ───────────────────────────────────────────────────────────────────────────────


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The VOI window of a header. slope, intercept: the modality rescale that goes before it."""

    center: float
    width: float
    function: str = "LINEAR"  # LINEAR, LINEAR_EXACT, SIGMOID
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def is_usable(self) -> bool:
        numbers = (self.center, self.width, self.slope, self.intercept)
        least = 1.0 if self.function == "LINEAR" else 1e-9
        return all(map(math.isfinite, numbers)) and self.width >= least and self.slope != 0


def stored_values(
    bits_allocated: int,
    *,
    is_signed: bool,
    bits_stored: int | None = None,
    high_bit: int | None = None,
) -> NDArray[np.float64]:
    """What each bit pattern of a pixel stands for; float64, 2**bits_allocated entries.

    bits_stored, high_bit: all of them, and the topmost. The bits above and below the stored ones
    are not its own: an old overlay may be in them.
    """
    bits_stored = bits_stored or bits_allocated
    high_bit = bits_stored - 1 if high_bit is None else high_bit
    patterns = np.arange(1 << bits_allocated, dtype=np.int64)
    values = patterns >> (high_bit + 1 - bits_stored) & (1 << bits_stored) - 1
    if is_signed:
        sign = 1 << bits_stored - 1
        values = (values ^ sign) - sign
    return values.astype(np.float64)


def window_levels(values: NDArray[np.float64], window: Window) -> NDArray[np.uint8]:
    """uint8 level of each stored value. PS3.3 C.11.2.1.2 and C.11.2.1.3."""
    x = values * window.slope + window.intercept
    center, width = window.center, window.width
    if window.function == "SIGMOID":
        exponent = np.clip(-4.0 * (x - center) / width, -700.0, 700.0)
        share = 1.0 / (1.0 + np.exp(exponent))
    elif window.function == "LINEAR_EXACT":
        share = (x - center) / width + 0.5
    elif width > 1.0:
        share = (x - (center - 0.5)) / (width - 1.0) + 0.5
    else:  # a width of one is a threshold
        share = (x > center - 0.5).astype(np.float64)
    return _to_levels(share)


def range_levels(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """uint8 level of each stored value, linear from low to high."""
    return _to_levels((values - low) / max(high - low, 1e-9))


def stored_range(bits_stored: int, *, is_signed: bool) -> tuple[float, float]:
    """The lowest and highest value that so many bits hold."""
    if is_signed:
        return float(-(1 << (bits_stored - 1))), float((1 << (bits_stored - 1)) - 1)
    return 0.0, float((1 << bits_stored) - 1)


def _to_levels(share: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.rint(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
