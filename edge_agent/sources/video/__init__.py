"""Frames through OpenCV: cameras (V4L2), network streams (RTSP), video files, GStreamer pipelines.

What is live is grabbed in a thread of its own, so that a reader always gets the newest frame and
never waits longer than it asked; what is recorded is read in place and paced. The password of an
address is in memory only while it is opened, and in no message.
"""

from __future__ import annotations

import functools

import cv2

from edge_agent.config.structs import VideoSource
from edge_agent.core import calibration
from edge_agent.core.errors import SourceLost
from edge_agent.core.frames import Calibration, Frame
from edge_agent.core.pacing import Pace
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.video import devices
from edge_agent.sources.video.opening import SIDES, address, is_live, opened, place
from edge_agent.sources.video.readers import Live, Recorded

DEFAULT_FPS = 30.0
HIGHEST_FPS = 1000.0
UNCALIBRATED = Calibration(reason="a video says nothing of its scale")


class VideoFrames:
    """`ports.FrameSource` over cv2.VideoCapture."""

    def __init__(self, config: VideoSource, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._where = place(config)
        self._is_live = is_live(config)
        self._reader: Live | Recorded | None = None
        self._number = 0

    def open(self) -> SourceFacts:
        """Raises: SourceLost, Rejected, ConfigError."""
        self.close()
        self._number = 0
        capture = opened(self._config)
        fps, size, backend = self._said(capture)
        if self._is_live:
            self._reader = Live(capture, where=self._where, clock=self._clock)
        else:
            fps = fps or DEFAULT_FPS
            self._reader = Recorded(
                capture,
                functools.partial(opened, self._config),
                where=self._where,
                pace=Pace(fps, self._clock.boot_us(), self._config.pace),
                loop=self._config.loop,
                clock=self._clock,
            )
        return SourceFacts(
            where=address(self._config),
            expected_fps=fps,
            size=size,
            live=self._is_live,
            details={"backend": backend} | self._of_device(),
        )

    def read(self, timeout_s: float) -> Frame | None:
        """Raises: SourceEnded, SourceLost, Rejected, BadFrame; ConfigError: roi does not fit."""
        if self._reader is None:
            raise SourceLost(f"{self._where} is not open")
        shot = self._reader.read(timeout_s)
        if shot is None:
            return None
        self._number += 1
        return Frame(
            number=self._number,
            captured_us=shot.captured_us,
            pixels=shot.pixels,
            pts_us=shot.pts_us,
            calibration=calibration.override(
                UNCALIBRATED,
                (shot.pixels.shape[1], shot.pixels.shape[0]),
                roi=self._config.roi,
                spacing_mm=self._config.spacing_mm,
            ),
            replay=not self._is_live,
        )

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def _of_device(self) -> dict[str, str]:
        return {} if self._config.pipeline else devices.details(self._config.where)

    def _said(self, capture: cv2.VideoCapture) -> tuple[float | None, tuple[int, int] | None, str]:
        """What OpenCV says of an open capture: rate, [width, height] px, backend."""
        said = capture.get(cv2.CAP_PROP_FPS)
        fps = self._config.fps or (said if 0 < said <= HIGHEST_FPS else None)
        width, height = (int(capture.get(side)) for side in SIDES)
        size = (width, height) if width > 0 and height > 0 else None
        return fps, size, str(capture.getBackendName())
