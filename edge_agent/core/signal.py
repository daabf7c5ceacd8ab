"""Whether a picture is alive: no frame, a frozen one, a black one.

By time, never by count: a recorded clip has equal neighbours and a seam where it loops, and a
camera shows one dark frame when it switches its gain. Pure; `Look` is the only one at pixels.
"""

from __future__ import annotations

import numpy as np
import xxhash

from edge_agent.core.frames import Pixels, Signal

BLACK_AFTER_US = 500_000
SAMPLE_BYTES = 1 << 16  # of a frame, in whole rows over its height: a few us to copy and hash
MEAN_ROWS, MEAN_COLUMNS = 128, 64  # a mean is estimated from about so many points each way
BLACK_BELOW = 4.0  # mean level, where nobody configured another
MOST_IN_32_BITS = (2**32 - 1) // 255  # bytes whose sum fits
DARK = 4.0  # a sample below so many times that is no proof: then every pixel is looked at


class SignalWatch:
    """Fed with each frame's digest and mean, asked at any time.

    A picture both frozen and black is BLACK: that names the likelier cause (a cable, a cap).
    `frames_frozen` counts frames that came after a picture had been frozen.
    """

    def __init__(
        self,
        no_signal_after_us: int,
        frozen_after_us: int,
        black_below: float,
        black_after_us: int = BLACK_AFTER_US,
    ) -> None:
        self._no_signal_after_us = no_signal_after_us
        self._frozen_after_us = frozen_after_us
        self._black_below = black_below  # mean level, 0 to 255; 0 turns the check off
        self._black_after_us = black_after_us
        self._waiting_since_us: int | None = None  # when it was opened, or the last frame came
        self._signal = Signal.STARTING
        self._digest: int | None = None
        self._equal_since_us = 0
        self._black_since_us: int | None = None
        self.frames_frozen = 0

    def reopened(self, now_us: int) -> None:
        """The source was opened (again): what came before it says nothing of what comes now."""
        self._waiting_since_us = now_us
        self._signal = Signal.STARTING
        self._digest = None
        self._black_since_us = None

    def frame(self, captured_us: int, digest: int, mean: float) -> Signal:
        """Judges one frame. A clock that went back counts as one that stood still."""
        captured_us = max(captured_us, self._waiting_since_us or captured_us)
        self._waiting_since_us = captured_us
        if digest != self._digest:
            self._digest, self._equal_since_us = digest, captured_us
        if mean >= self._black_below:
            self._black_since_us = None
        elif self._black_since_us is None:
            self._black_since_us = captured_us
        black_since_us = self._black_since_us
        is_black = (
            black_since_us is not None and captured_us - black_since_us >= self._black_after_us
        )
        equal_us = captured_us - self._equal_since_us
        is_frozen = 0 < equal_us >= self._frozen_after_us
        self.frames_frozen += is_frozen
        self._signal = Signal.BLACK if is_black else Signal.FROZEN if is_frozen else Signal.OK
        return self._signal

    def at(self, now_us: int) -> Signal:
        """What the source delivers now: the judgement of the last frame, unless that is too old."""
        if self._waiting_since_us is None:
            self._waiting_since_us = now_us
        if now_us - self._waiting_since_us >= self._no_signal_after_us:
            return Signal.NO_SIGNAL
        return self._signal


class Look:
    """Digests of one stream's frames: equal for equal neighbours, and for nothing else.

    A sample tells nearly every frame from the one before it; only where it does not are the frames
    themselves compared. Nor is a dark sample a dark picture: a bright band may lie between its
    rows, or a bright line on one. Holds on to the last frame.

    black_below: mean level, 0 to 255, near which a mean has to be that of the whole picture.
    """

    def __init__(self, black_below: float = BLACK_BELOW) -> None:
        self._dark_below = DARK * black_below
        self._last: Pixels | None = None
        self._sampled = 0
        self._digest = 0

    def at(self, pixels: Pixels) -> tuple[int, float]:
        """(digest, mean level) of uint8 HxW or HxWx3. The mean of a dark picture is exact."""
        rows, columns = pixels.shape[:2]
        sample = np.ascontiguousarray(pixels[:: max(1, pixels.nbytes // SAMPLE_BYTES)])
        sampled = xxhash.xxh3_64_intdigest(sample.data, seed=rows << 32 | columns)
        if sampled != self._sampled or not self._is_last(pixels):
            self._digest += 1
        self._sampled, self._last = sampled, pixels
        mean = _mean(_points(pixels))
        if mean < self._dark_below and pixels.any():
            mean = _mean(pixels)
        return self._digest, mean

    def _is_last(self, pixels: Pixels) -> bool:
        last = self._last
        return last is pixels or (last is not None and np.array_equal(last, pixels))


def _points(pixels: Pixels) -> Pixels:
    """Some of each row of some rows, of all colours in turn."""
    if not pixels.size:
        return pixels
    flat = pixels[:: max(1, len(pixels) // MEAN_ROWS)].reshape(-1, pixels[0].size)
    step = max(1, flat.shape[1] // MEAN_COLUMNS)
    return flat[:, :: step + (step % 3 == 0)]  # a multiple of 3 would meet one colour alone


def _mean(pixels: Pixels) -> float:
    """0 of no pixels at all."""
    wide = np.uint32 if pixels.size <= MOST_IN_32_BITS else np.uint64  # twice as slow
    total = int(np.add.reduce(pixels, axis=None, dtype=wide))
    return total / pixels.size if pixels.size else 0.0
