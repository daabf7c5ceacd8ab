"""Two ways to read a capture: the newest frame of a live one, the next one of a recording."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from edge_agent.core.errors import BadFrame, Rejected, SourceEnded, SourceLost
from edge_agent.core.frames import Pixels
from edge_agent.core.pacing import Pace
from edge_agent.ports import Clock

JOIN_TIMEOUT_S = 1.0


class Shot(NamedTuple):
    """pixels: uint8, HxW gray or HxWx3 BGR, owned. pts_us: of a recording."""

    captured_us: int
    pixels: Pixels
    pts_us: int | None = None


class Live:
    """Grabs in a daemon thread; holds the newest frame alone."""

    def __init__(self, capture: cv2.VideoCapture, *, where: str, clock: Clock) -> None:
        self._capture = capture
        self._where = where
        self._clock = clock
        self._changed = threading.Condition()
        self._newest: Shot | None = None
        self._bad = False
        self._is_over = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._grab_on, name="video-grab", daemon=True)
        self._thread.start()

    def read(self, timeout_s: float) -> Shot | None:
        """Raises: SourceLost, BadFrame."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._newest is not None or self._bad or self._is_over, timeout=timeout_s
            )
            shot, self._newest = self._newest, None
            bad, self._bad = self._bad, False
            if shot is None and not bad and self._is_over:
                raise SourceLost(
                    f"{self._where} gives no more frames", hint="check the device and its cable"
                )
        if shot is None and bad:
            raise BadFrame(f"{self._where}: a frame that is not gray or BGR with 8 bits")
        return shot

    def close(self) -> None:
        """A grab that hangs in its device is left behind; it lets go of it when it returns."""
        self._stop.set()
        self._thread.join(JOIN_TIMEOUT_S)

    def _grab_on(self) -> None:
        try:
            while not self._stop.is_set() and self._capture.grab():
                captured_us = self._clock.boot_us()
                _, pixels = self._capture.retrieve()
                picture = shown(pixels)
                with self._changed:
                    self._bad = picture is None
                    self._newest = None if picture is None else Shot(captured_us, picture)
                    self._changed.notify_all()
        except cv2.error:  # said by read: the source is lost
            return
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()
            self._capture.release()


class Recorded:
    """Reads a file in place, frame by frame, at its pace."""

    def __init__(
        self,
        capture: cv2.VideoCapture,
        open_again: Callable[[], cv2.VideoCapture],
        *,
        where: str,
        pace: Pace,
        loop: bool,
        clock: Clock,
    ) -> None:
        self._capture = capture
        self._open_again = open_again
        self._where = where
        self._pace = pace
        self._loop = loop
        self._clock = clock
        self._ahead: tuple[Pixels | None, int | None] | None = None
        self._frames = 0

    def read(self, timeout_s: float) -> Shot | None:
        """Raises: SourceEnded, SourceLost, Rejected, BadFrame."""
        if self._ahead is None:
            self._ahead = self._next()
        wait = self._pace.wait(self._clock.boot_us(), timeout_s)
        self._clock.sleep_us(wait.sleep_us)
        if not wait.is_due:
            return None
        captured_us = self._clock.boot_us()
        self._pace.take(captured_us)
        (pixels, pts_us), self._ahead = self._ahead, None
        if pixels is None:
            raise BadFrame(f"{self._where}: frame {self._frames} is not gray or BGR with 8 bits")
        return Shot(captured_us, pixels, pts_us)

    def close(self) -> None:
        self._capture.release()

    def _next(self) -> tuple[Pixels | None, int | None]:
        try:
            if not self._capture.grab():
                self._rewind()
            pts_ms = self._capture.get(cv2.CAP_PROP_POS_MSEC)
            _, pixels = self._capture.retrieve()
        except cv2.error:
            raise SourceLost(f"{self._where}: the video decoder failed") from None
        self._frames += 1
        return shown(pixels), round(pts_ms * 1000) if np.isfinite(pts_ms) else None

    def _rewind(self) -> None:
        """To the first frame again, or to the end. Raises: SourceEnded, Rejected."""
        if self._frames and not self._loop:
            raise SourceEnded(f"{self._where} has ended after {self._frames} frames")
        self._capture.release()
        self._capture = self._open_again()
        self._frames = 0
        if not self._capture.grab():
            raise Rejected(
                f"open {self._where}: expected a video, got a file without a frame that decodes",
                hint="play it with another program, or encode it again as H.264 or MJPEG",
            )


def shown(pixels: object) -> Pixels | None:
    """uint8 HxW or HxWx3 BGR, C-contiguous; None for anything else."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or not pixels.size:
        return None
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    elif pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = pixels[..., :3]
    if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3):
        return np.ascontiguousarray(pixels)
    return None
