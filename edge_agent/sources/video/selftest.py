"""Whether the OpenCV of this machine decodes: tried once, before it shows anything.

Some builds give uninitialised memory for interlaced video and call it a frame (the wheels of PyPI
from 4.13 on). A clip of one colour that comes with the agent finds them.
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from edge_agent.core.errors import Rejected
from edge_agent.decoder.process import CLIP
from edge_agent.sources.video.opening import ffmpeg_backend, quieten

BGR = (30, 60, 200)
SIZE = (64, 48)
FRAMES = 4
TOLERANCE = 6
HINT = (
    "install opencv-python-headless>=4.10,<4.13, or give a device, or a GStreamer pipeline "
    "(pipeline = true)"
)


def check_opencv(why: str) -> None:
    """why: there is no FFmpeg that may be used directly. Raises: Rejected."""
    found = _tried()
    if found:
        raise Rejected(
            f"OpenCV {cv2.__version__}: {found}; it would show patients so, and is not used for "
            f"files and network streams. {why}",
            hint=HINT,
        )


@functools.cache
def _tried() -> str:
    """What is wrong with it, in words; "" is nothing."""
    quieten()
    capture = cv2.VideoCapture(str(CLIP), ffmpeg_backend())
    try:
        if not capture.isOpened():
            return "a sound H.264 clip can not be opened with it"
        return judged([capture.read()[1] for _ in range(FRAMES)])
    except cv2.error:
        return "a sound H.264 clip makes it fail"
    finally:
        capture.release()


def judged(frames: list[object]) -> str:
    for frame in frames:
        if not isinstance(frame, np.ndarray) or frame.shape != (SIZE[1], SIZE[0], 3):
            got = "x".join(map(str, getattr(frame, "shape", ()))) or "nothing"
            return f"expected a frame of 48x64x3, got {got}"
        off = int(np.abs(frame.astype(int) - BGR).max())
        if off > TOLERANCE:
            return f"an interlaced clip of one colour came out {off} levels off"
    return ""
