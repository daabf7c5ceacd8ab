"""Video files and network streams through FFmpeg in a process of its own; cameras (V4L2) and
GStreamer pipelines through OpenCV.

What is live is taken in a thread of its own, so that a reader always gets the newest frame and
never waits longer than it asked; what is recorded is read in place and paced. The password of an
address is in memory only while it is opened, and in no message. Where no FFmpeg is found that may
be used (`edge_agent.decoder`), OpenCV also decodes files and streams, if it passes a test.
"""

from __future__ import annotations

import functools
from typing import Protocol

import cv2

from edge_agent.config.structs import VideoSource
from edge_agent.core import calibration
from edge_agent.core.errors import SourceLost
from edge_agent.core.frames import Calibration, Frame
from edge_agent.core.pacing import Pace
from edge_agent.core.stamps import DEFAULT_FPS, MAX_FPS, Rate
from edge_agent.decoder.process import Opened, Unusable, Usable, killed_on_failure, usable
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.video import decoded, devices, selftest
from edge_agent.sources.video.opening import (
    SIDES,
    is_device,
    is_live,
    opened,
    place,
    told_address,
)
from edge_agent.sources.video.readers import Live, Recorded, Shot

UNCALIBRATED = Calibration(reason="a video says nothing of its scale")


class Reader(Protocol):
    """What is open."""

    def read(self, timeout_s: float) -> Shot | None:
        """Raises: SourceEnded, SourceLost, Rejected, BadFrame."""
        ...

    def close(self) -> None: ...


class VideoFrames:
    """`ports.FrameSource` over the decoder process, or over cv2.VideoCapture."""

    def __init__(self, config: VideoSource, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._where = place(config)
        self._is_live = is_live(config)
        self._reader: Reader | None = None
        self._number = 0

    def open(self) -> SourceFacts:
        """Raises: SourceLost, Rejected, ConfigError; Overloaded when no process can begin."""
        self.close()
        self._number = 0
        if self._config.pipeline or is_device(self._config.where):
            return self._open_captured()
        ffmpeg = usable()
        if not ffmpeg.why:
            try:
                return self._open_decoded(ffmpeg)
            except Unusable as wrong:
                ffmpeg.why = wrong.what
        selftest.check_opencv(ffmpeg.why)
        return self._open_captured()

    def _open_decoded(self, ffmpeg: Usable) -> SourceFacts:
        reader: decoded.DecodedStream | decoded.DecodedFile
        with killed_on_failure(ffmpeg.start()) as decoder:
            if self._is_live:
                found = decoded.open_stream(decoder, self._config)
                rate = decoded.rate_of(found, None)
                reader = decoded.DecodedStream(decoder, where=self._where, clock=self._clock)
            else:
                found = decoded.open_file(decoder, self._config)
                reader = decoded.DecodedFile(decoder, self._config, found, clock=self._clock)
                rate = reader.rate
        self._reader = reader
        details = decoded.details(found, reader.first, decoder.version)
        details["rate"] = "as it comes" if self._is_live else rate.words
        return SourceFacts(
            where=told_address(self._config),
            expected_fps=self._expected(found, rate),
            size=decoded.size_of(found, reader.first),
            live=self._is_live,
            details=details,
        )

    def _expected(self, found: Opened, rate: Rate) -> float | None:
        if not self._is_live:
            return rate.fps
        return self._config.fps or decoded.live_rate(found)

    def _open_captured(self) -> SourceFacts:
        capture = opened(self._config)
        fps, size, backend = self._said(capture)
        details = {"decoder": f"OpenCV {cv2.__version__} ({backend})"}
        if self._is_live:
            self._reader = Live(capture, where=self._where, clock=self._clock)
            details["rate"] = "as it comes"
        else:
            words = "source.fps" if self._config.fps else "said by OpenCV"
            words = words if fps else "nobody says: set source.fps"
            fps = fps or DEFAULT_FPS
            details["rate"] = f"{fps:g} fps ({words})"
            self._reader = Recorded(
                capture,
                functools.partial(opened, self._config),
                where=self._where,
                pace=Pace(fps, self._clock.boot_us(), self._config.pace),
                loop=self._config.loop,
                clock=self._clock,
            )
        return SourceFacts(
            where=told_address(self._config),
            expected_fps=fps,
            size=size,
            live=self._is_live,
            details=details | self._of_device(),
        )

    def read(self, timeout_s: float) -> Frame | None:
        """Raises: SourceEnded, SourceLost, Rejected, BadFrame."""
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
        fps = self._config.fps or (said if 0 < said <= MAX_FPS else None)
        width, height = (int(capture.get(side)) for side in SIDES)
        size = (width, height) if width > 0 and height > 0 else None
        return fps, size, str(capture.getBackendName())
