"""Frames of a folder of images, in the order in which people number them.

Recorded, so frames are paced and marked `replay`. A bad image is told by its position and passed
over: file names may hold a patient's name.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from edge_agent.config.structs import ImagesSource
from edge_agent.core import calibration
from edge_agent.core.errors import BadFrame, SourceEnded, SourceLost
from edge_agent.core.frames import Calibration, Frame, Pixels
from edge_agent.core.order import natural
from edge_agent.core.pacing import MICROSECONDS, Pace
from edge_agent.ports import Clock, SourceFacts

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
DEFAULT_FPS = 10.0
WORD = "images folder"  # whose path may be named after a patient
MAX_IMAGES = 100_000
MAX_PIXELS = 64 << 20  # of one image, looked up before it is decoded
UNCALIBRATED = Calibration(reason="an image says nothing of its scale")


class ImageFrames:
    """`ports.FrameSource` over a folder of images."""

    def __init__(self, config: ImagesSource, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._folder = Path(config.path)
        self._fps = config.fps or DEFAULT_FPS
        self._names: Sequence[str] = ()
        self._index = 0
        self._number = 0
        self._pace: Pace | None = None
        self._shot: Pixels | BadFrame | None = None

    def open(self) -> SourceFacts:
        """Raises: SourceLost."""
        self.close()
        warnings.filterwarnings("ignore", module=r"PIL\b")  # its bound on pixels is not ours
        self._names = self._listing()
        self._index = self._number = 0
        self._pace = Pace(self._fps, self._clock.boot_us(), self._config.pace)
        self._shot = self._next()
        is_bad = isinstance(self._shot, BadFrame)
        return SourceFacts(
            where=WORD,
            expected_fps=self._fps,
            size=None if isinstance(self._shot, BadFrame) else self._shot.shape[1::-1],
            live=False,
            details={
                "images": str(len(self._names)),
                "rate": f"{self._fps:g} fps from {'config' if self._config.fps else 'default'}",
                **({"first image": str(self._shot)} if is_bad else {}),
            },
        )

    def read(self, timeout_s: float) -> Frame | None:
        """Raises: SourceEnded, SourceLost, BadFrame."""
        if self._pace is None:
            raise SourceLost(f"{WORD} is not open")
        if self._shot is None:
            self._shot = self._next()
        wait = self._pace.wait(self._clock.boot_us(), timeout_s)
        self._clock.sleep_us(wait.sleep_us)
        if not wait.is_due:
            return None
        captured_us = self._clock.boot_us()
        self._pace.take(captured_us)
        shot, self._shot = self._shot, None
        if isinstance(shot, BadFrame):
            raise shot
        self._number += 1
        return Frame(
            number=self._number,
            captured_us=captured_us,
            pixels=shot,
            pts_us=round((self._index - 1) * MICROSECONDS / self._fps),
            calibration=calibration.override(
                UNCALIBRATED,
                (shot.shape[1], shot.shape[0]),
                roi=self._config.roi,
                spacing_mm=self._config.spacing_mm,
            ),
            replay=True,
        )

    def close(self) -> None:
        self._pace = self._shot = None
        self._names = ()

    def _next(self) -> Pixels | BadFrame:
        """Decodes ahead of its time. Raises: SourceEnded, SourceLost."""
        if self._index >= len(self._names):
            if not self._config.loop:
                raise SourceEnded(f"{WORD} has ended after {len(self._names)} images")
            self._names, self._index = self._listing(), 0
        name, self._index = self._names[self._index], self._index + 1
        where = f"image {self._index} of {len(self._names)} in {WORD}"
        try:
            return _decode(self._stored(name, where), where)
        except BadFrame as bad:
            self._check_folder(where)
            return bad

    def _check_folder(self, where: str) -> None:
        """Raises: SourceLost."""
        try:
            is_there = self._folder.is_dir()
        except OSError:
            is_there = False
        if not is_there:
            raise SourceLost(f"read {where}: the folder is gone")

    def _stored(self, name: str, where: str) -> bytes:
        """At most max_file_bytes of one file. Raises: BadFrame."""
        limit = self._config.max_file_bytes
        try:
            with (self._folder / name).open("rb") as file:
                stored = file.read(limit + 1)
        except OSError as error:
            raise BadFrame(f"read {where}: {error.strerror}") from None
        if len(stored) > limit:
            raise BadFrame(
                f"read {where}: expected at most {limit} bytes, got more",
                hint="raise source.max_file_bytes",
            )
        return stored

    def _listing(self) -> list[str]:
        """Names in natural order: image2 comes before image10. Raises: SourceLost."""
        try:
            with os.scandir(self._folder) as entries:
                names = [
                    entry.name for entry in islice(entries, MAX_IMAGES) if self._is_wanted(entry)
                ]
        except (OSError, ValueError) as error:
            words = getattr(error, "strerror", None) or "no such folder"
            raise SourceLost(
                f"open {WORD}: expected a folder of images, got: {words}",
                hint="check source.path; the next try follows",
            ) from None
        if not names:
            raise SourceLost(
                f"open {WORD}: expected images ({' '.join(SUFFIXES)}) named "
                f"{self._config.pattern}, got none",
                hint="put images there, or correct source.pattern; the next try follows",
            )
        return sorted(names, key=natural)

    def _is_wanted(self, entry: os.DirEntry[str]) -> bool:
        fits = fnmatch(entry.name, self._config.pattern) and not entry.name.startswith(".")
        return fits and entry.name.lower().endswith(SUFFIXES) and entry.is_file()


def _decode(stored: bytes, where: str) -> Pixels:
    """uint8, HxW gray or HxWx3 BGR. Raises: BadFrame."""
    damaged = BadFrame(
        f"decode {where}: expected an image, got damaged or foreign bytes",
        hint="remove it, or export it again as PNG",
    )
    try:
        with Image.open(io.BytesIO(stored)) as image:
            width, height = image.size
            words = f"{width} x {height}"
    except Image.DecompressionBombError:
        width = height = MAX_PIXELS
        words = "far more"
    except (UnidentifiedImageError, *_BROKEN):
        raise damaged from None
    if width * height > MAX_PIXELS:
        raise BadFrame(
            f"decode {where}: expected at most {MAX_PIXELS} px, got {words}", hint="scale it down"
        )
    try:
        flags = cv2.IMREAD_ANYCOLOR  # 8 bits, gray stays gray, orientation as the file says
        pixels = cv2.imdecode(np.frombuffer(stored, np.uint8), flags)
    except cv2.error:
        raise damaged from None
    if pixels is None:  # what OpenCV says of bytes that it can't read
        raise damaged
    return np.ascontiguousarray(pixels, dtype=np.uint8)


# What Pillow raises on a header that is wrong.
_BROKEN = (OSError, ValueError, SyntaxError, LookupError, TypeError, OverflowError, EOFError)
