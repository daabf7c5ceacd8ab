"""Frames of a folder of images, in the order in which people number them.

Recorded, so frames are paced and marked `replay`. A bad image is told by its position and passed
over: file names may hold a patient's name. Each page of a file is a frame. Pictures deeper than 8
bits are shown by one rule for all of them (`core.levels`), found at the opening and told.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

import numpy as np

from edge_agent.config.structs import ImagesSource
from edge_agent.core import calibration, levels
from edge_agent.core.errors import BadFrame, SourceEnded, SourceLost
from edge_agent.core.frames import Calibration, Frame, Pixels
from edge_agent.core.order import natural, spread
from edge_agent.core.pacing import MICROSECONDS, Pace
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.images.decoding import Picture, Values

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"),
    *(".apng", ".gif", ".webp", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm"),
)
DEFAULT_FPS = 10.0
WORD = "images folder"  # whose path may be named after a patient
MAX_IMAGES = 100_000
LOOKED_AT = 8  # pages, spread over the folder, that the rule for deep pictures is made from
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
        self._picture: Picture | None = None
        self._page = self._place = 0  # the next page of that file; frames of this pass so far
        self._held: Pixels | BadFrame | None = None  # comes after what was told of it
        self._rules: dict[str, levels.Rule] = {}  # by kind
        self._others = 0

    def open(self) -> SourceFacts:
        """Raises: SourceLost."""
        self.close()
        warnings.filterwarnings("ignore", module=r"PIL\b")  # its bound on pixels is not ours
        self._names = self._listing()
        self._number = 0
        self._look()
        self._pace = Pace(self._fps, self._clock.boot_us(), self._config.pace)
        self._shot = self._next()
        is_bad = isinstance(self._shot, BadFrame)
        return SourceFacts(
            where=WORD,
            expected_fps=self._fps,
            size=None if isinstance(self._shot, BadFrame) else self._shot.shape[1::-1],
            live=False,
            details={
                "images": self._counted(),
                "rate": f"{self._fps:g} fps from {'config' if self._config.fps else 'default'}",
                **({"first image": str(self._shot)} if is_bad else {}),
                **({"pages": f"{self._pages} of the first image"} if self._pages > 1 else {}),
                **({"levels": words} if (words := self._levels()) else {}),
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
            pts_us=round((self._place - 1) * MICROSECONDS / self._fps),
            calibration=calibration.override(
                UNCALIBRATED,
                (shot.shape[1], shot.shape[0]),
                roi=self._config.roi,
                spacing_mm=self._config.spacing_mm,
            ),
            replay=True,
        )

    def close(self) -> None:
        self._pace = self._shot = self._picture = self._held = None
        self._names, self._rules = (), {}
        self._index = self._page = self._place = 0

    @property
    def _pages(self) -> int:
        return self._picture.pages if self._picture else 1

    def _counted(self) -> str:
        others = f", {self._others} files beside them are named as no image"
        return f"{len(self._names)}{others if self._others else ''}"

    def _levels(self) -> str:
        return "; ".join(rule.words for rule in self._rules.values())

    def _next(self) -> Pixels | BadFrame:
        """Decodes ahead of its time. Raises: SourceEnded, SourceLost."""
        if self._held is not None:
            held, self._held = self._held, None
            return held
        if self._picture is None:
            self._turn()
        where = self._where()
        self._place += 1
        try:
            if self._picture is None:
                self._picture = Picture(self._stored(self._names[self._index - 1], where), where)
            return self._next_page(self._picture, where)
        except BadFrame as bad:
            self._check_folder(where)
            return bad

    def _where(self) -> str:
        return f"image {self._index} of {len(self._names)} in {WORD}"

    def _turn(self) -> None:
        """To the next file. Raises: SourceEnded, SourceLost."""
        if self._index >= len(self._names):
            if not self._config.loop:
                raise SourceEnded(f"{WORD} has ended after {len(self._names)} images")
            self._names, self._index, self._place = self._listing(), 0, 0
        self._index, self._page = self._index + 1, 0

    def _next_page(self, picture: Picture, where: str) -> Pixels | BadFrame:
        """Raises: BadFrame."""
        page, self._page = self._page, self._page + 1
        is_last = self._page >= picture.pages
        if is_last:
            self._picture = None
            self._held = BadFrame(f"read {where}: {picture.rest}") if picture.rest else None
        try:
            return self._shown(picture, picture.values(page), where)
        except BadFrame:
            if not picture.is_independent:
                self._picture = self._held = None
            raise

    def _shown(self, picture: Picture, values: Values, where: str) -> Pixels | BadFrame:
        """The picture; or first, where it needs a wider rule than told, what is told of that."""
        if values.dtype == np.uint8:
            return values
        rule = _rule(values, where)
        known = self._rules.get(rule.kind)
        widest = self._rules[rule.kind] = levels.wider(known, rule)
        pixels = widest.shown(values)
        if picture.is_inverted():
            pixels = np.bitwise_not(pixels)
        if widest == known:
            return pixels
        after, self._held = self._held, pixels
        told = "" if known is None else f", the ones looked at first: {known.words}"
        if after is not None:
            told += f"; and {after}"
        return BadFrame(
            f"show {where}: {rule.words}{told}; from here on it is done so",
            hint="none is lost; put pictures of one depth into a folder",
        )

    def _look(self) -> None:
        """At some pictures from all over the folder, for the rule that deep ones are shown by."""
        names = [self._names[place] for place in spread(len(self._names), LOOKED_AT)]
        for name in names:
            where = f"an image in {WORD}"
            try:
                picture = Picture(self._stored(name, where), where)
                self._look_at(picture, max(1, LOOKED_AT // len(names)), where)
            except BadFrame:  # told when it is its turn
                continue

    def _look_at(self, picture: Picture, most: int, where: str) -> None:
        """Raises: BadFrame."""
        for page in filter(picture.is_deep, spread(picture.pages, most)):
            rule = _rule(picture.values(page), where)
            self._rules[rule.kind] = levels.wider(self._rules.get(rule.kind), rule)

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
                listed = [entry for entry in islice(entries, MAX_IMAGES) if self._is_meant(entry)]
                names = [entry.name for entry in listed if entry.name.lower().endswith(SUFFIXES)]
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
        self._others = len(listed) - len(names)
        return sorted(names, key=natural)

    def _is_meant(self, entry: os.DirEntry[str]) -> bool:
        fits = fnmatch(entry.name, self._config.pattern) and not entry.name.startswith(".")
        return fits and entry.is_file()


def _rule(values: Values, where: str) -> levels.Rule:
    """Raises: BadFrame."""
    try:
        return levels.needed(values)
    except ValueError as error:
        raise BadFrame(
            f"show {where}: expected levels of a picture, got {error}",
            hint="export it again with 8 bits",
        ) from None
