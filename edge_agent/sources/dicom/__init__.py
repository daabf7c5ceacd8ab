"""Frames of DICOM files: one file, or a folder watched for new ones. Never the network.

Recorded, so frames are paced and marked `replay`. Nothing of a patient leaves: no UID, no accession
number, no name; a file inside a folder goes by its position.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import msgspec
import pydicom

from edge_agent.config.structs import DicomSource
from edge_agent.core import calibration
from edge_agent.core.dicom_rules import MIN_KEY_BYTES
from edge_agent.core.dicom_timing import DEFAULT_FPS
from edge_agent.core.errors import BadFrame, ConfigError, SourceEnded, SourceLost
from edge_agent.core.frames import Calibration, Frame, Pixels
from edge_agent.core.pacing import MICROSECONDS, GapPace
from edge_agent.ports import Clock, SourceFacts, Trouble
from edge_agent.sources.dicom.folder import Folder
from edge_agent.sources.dicom.openfile import Name
from edge_agent.sources.dicom.opening import AnyClip, open_clip

SAMPLE = "sample:ultrasound"
SAMPLE_FILE = "examples_ybr_color.dcm"  # in pydicom's wheel: 30 frames of an echocardiogram
MAX_BAD_AT_OPEN = 64
NEWS_US = 1_000_000
IDLE_S = 0.1  # between two looks for a new file


class _Shot(msgspec.Struct, frozen=True, kw_only=True):
    """A frame that waits for its time, or the reason why there is none.

    gap_us: after the one before it.
    """

    gap_us: int
    pixels: Pixels | None = None
    bad: BadFrame | None = None
    pts_us: int | None = None
    calibration: Calibration = Calibration()
    exam: str = ""


class _Card(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of the clip that was shown last."""

    words: dict[str, str]
    fps: float | None
    size: tuple[int, int] | None


class _Single:
    """One file, once or for ever."""

    def __init__(self, name: Name, config: DicomSource, key: bytes) -> None:
        self._name, self._config, self._key = name, config, key
        self._clip: AnyClip | None = None

    def next_clip(self) -> AnyClip:
        """Raises: SourceEnded; SourceLost when the file was replaced; what opening it raises."""
        if self._clip is None:
            keep = self._config.loop
            self._clip = open_clip(self._name, self._config, self._key, keep=keep)
        elif not self._config.loop:
            raise SourceEnded(f"{self._name.where} has ended after {self._clip.frames} frames")
        elif not self._clip.file.is_unchanged():
            raise SourceLost(f"{self._name.where} is gone or was replaced")
        return self._clip


class DicomFrames:
    """`ports.NewsSource` over DICOM files."""

    def __init__(self, config: DicomSource, clock: Clock, exam_key: bytes) -> None:
        if len(exam_key) < MIN_KEY_BYTES:
            raise ValueError(f"exam_key has at least {MIN_KEY_BYTES} bytes, not {len(exam_key)}")
        self._config = config
        self._where = _spoken(config.path)
        self._clock = clock
        self._key = exam_key
        self._reel: _Single | Folder | None = None
        self._folder: Folder | None = None  # what was shown of it is known as long as we are
        self._clip: AnyClip | None = None
        self._last: _Card | None = None
        self._learnt: tuple[tuple[str, ...], str] | None = None  # of the clip that is shown
        self._index = 0
        self._pace: GapPace | None = None
        self._gap_us = 0  # to the first frame of another clip
        self._shot: _Shot | None = None
        self._bad: deque[BadFrame] = deque(maxlen=MAX_BAD_AT_OPEN)
        self._number = 0
        self._told: SourceFacts | None = None
        self._told_us = 0
        self._changes = self._looked = 0  # goes up with whatever may change the words

    @property
    def problems(self) -> list[str]:
        """Files of the folder that are bad as they are now, in words, the latest last."""
        return self._reel.files.bad_words if isinstance(self._reel, Folder) else []

    @property
    def files_bad(self) -> int:
        return self._reel.files.count("bad") if isinstance(self._reel, Folder) else 0

    def open(self) -> SourceFacts:
        """Raises: SourceLost, Rejected, ConfigError."""
        self.close()
        path = _resolve(self._config.path)
        if _is_folder(path):
            self._folder = self._folder or Folder(
                path,
                pattern=self._config.pattern,
                loop=self._config.loop,
                clock=self._clock,
                open_clip=lambda name: open_clip(name, self._config, self._key),
            )
            self._folder.begin()
            self._reel = self._folder
        else:
            name = Name(path=path, where=self._where)
            self._reel = _Single(name, self._config, self._key)
        self._number = 0
        self._gap_us = round(MICROSECONDS / (self._config.fps or DEFAULT_FPS))
        for _ in range(MAX_BAD_AT_OPEN):
            try:
                self._turn()
                break
            except BadFrame as bad:
                self._bad.append(bad)
        self._told, self._told_us = self._facts(), self._clock.boot_us()
        return self._told

    def news(self) -> SourceFacts | None:
        """What has changed since it was last told, at most once a second; None: nothing."""
        now_us, changes = self._clock.boot_us(), self._changes
        if isinstance(self._reel, Folder):
            changes += self._reel.changes
        if self._reel is None or changes == self._looked or now_us - self._told_us < NEWS_US:
            return None
        self._looked, self._told_us = changes, now_us
        facts = self._facts()
        if facts == self._told:
            return None
        self._told = facts
        return facts

    def read(self, timeout_s: float) -> Frame | None:
        """Raises: SourceEnded, SourceLost, Rejected, BadFrame."""
        if self._reel is None:
            raise SourceLost(f"{self._where} is not open")
        if self._shot is None and not self._aim_at_next():
            self._clock.sleep_us(round(min(timeout_s, IDLE_S) * MICROSECONDS))
            return None
        pace, shot = self._paced(), self._shot
        assert shot is not None
        wait = pace.wait(self._clock.boot_us(), timeout_s)
        self._clock.sleep_us(wait.sleep_us)
        if not wait.is_due:
            return None
        captured_us = self._clock.boot_us()
        pace.take(captured_us)
        self._shot = None
        if shot.pixels is None:
            raise shot.bad or BadFrame(f"{self._where}: no pixels")
        self._number += 1
        return Frame(
            number=self._number,
            captured_us=captured_us,
            pixels=shot.pixels,
            pts_us=shot.pts_us,
            calibration=shot.calibration,
            exam=shot.exam,
            replay=True,
        )

    def close(self) -> None:
        if self._clip is not None:
            self._clip.close()
        self._reel = self._clip = self._last = self._shot = self._pace = None
        self._bad.clear()

    def _aim_at_next(self) -> bool:
        """Decodes ahead of its time, so that a frame is shown when it is due."""
        self._shot = shot = self._next_shot()
        if shot is not None:
            self._paced().aim(shot.gap_us)
        return shot is not None

    def _next_shot(self) -> _Shot | None:
        gap_us = self._gap_us
        try:
            if self._bad:
                raise self._bad.popleft()
            if self._clip is None or self._index >= self._clip.frames:
                self._turn()
            if (clip := self._clip) is None:
                return None
            index, times = self._index, clip.times
            pixels = self._read(clip)
            if pixels is None:
                return None
            self._index, self._gap_us = index + 1, times.period_us
            if index:
                gap_us = times.pts_us(index) - times.pts_us(index - 1)
        except BadFrame as bad:
            return _Shot(bad=bad, gap_us=gap_us)
        return _Shot(
            pixels=pixels,
            gap_us=gap_us,
            pts_us=times.pts_us(index),
            calibration=clip.calibration,
            exam=clip.exam,
        )

    def _read(self, clip: AnyClip) -> Pixels | None:
        """The frame that is next; None when somebody wrote to the file meanwhile.

        Raises: BadFrame, SourceLost.
        """
        index = self._index
        try:
            pixels: Pixels | BadFrame = clip.pixels(index)
        except BadFrame as bad:
            pixels = bad
        except SourceLost as lost:
            if not isinstance(self._reel, Folder):
                raise
            pixels = BadFrame(lost.what, hint=lost.hint)  # the other files may be sound
        if isinstance(self._reel, Folder):
            if self._reel.has_changed(clip, index):
                clip.close()
                self._clip = self._pace = None
                return None
        elif clip.file.now() != clip.file.signature:
            raise SourceLost(f"{self._where} was written to while it was shown")
        if (learnt := (clip.notes, clip.levels)) != self._learnt:  # of a stream, as it is played
            self._last, self._learnt = _card(clip), learnt
            self._changes += 1
        if isinstance(pixels, BadFrame):
            self._index = index + 1
            raise pixels
        if isinstance(self._reel, Folder):
            self._reel.saw(pixels)
        return pixels

    def _turn(self) -> None:
        """To the next clip, or to the begin of the same one; to none when nothing is there."""
        assert self._reel is not None
        try:
            clip = self._reel.next_clip()
        except SourceEnded:  # what was counted is told at once: nobody asks again
            self._told_us, self._changes = self._clock.boot_us() - NEWS_US, self._changes + 1
            raise
        if self._clip is not None and clip is not self._clip:
            self._clip.close()
        if clip is None:
            self._pace = None
        if clip is not None and clip is not self._clip:
            self._last, self._learnt = _card(clip), (clip.notes, clip.levels)
        self._changes += clip is not self._clip
        self._clip = clip
        self._index = self._reel.begin_at if isinstance(self._reel, Folder) else 0

    def _paced(self) -> GapPace:
        if self._pace is None:
            self._pace = GapPace(self._clock.boot_us(), self._config.pace)
        return self._pace

    def _facts(self) -> SourceFacts:
        """What is there, and of the clip that is shown or was shown last."""
        folder = self._reel if isinstance(self._reel, Folder) else None
        details, clip = folder.words() if folder else {}, self._clip
        if clip is None and self._last is not None:
            details["state"] = "all files were shown, the last one is this"
        elif clip is None:
            details["state"] = "waiting for a first file"
            details["rate"] = "of each file, as its header says"
            if self._config.fps is not None:
                details["rate"] = f"{self._config.fps:g} fps from config"
        last = self._last or _Card(words={}, fps=self._config.fps, size=None)
        return SourceFacts(
            where=self._where,
            expected_fps=last.fps,
            size=last.size,
            live=False,
            watched=folder is not None,
            details={**details, **last.words},
            troubles=_troubles(clip, folder),
        )


def _troubles(clip: AnyClip | None, folder: Folder | None) -> tuple[Trouble, ...]:
    found = []
    if folder is not None and (bounds := folder.bounds()):
        found.append(
            Trouble(
                code="files-unseen",
                severity="warning",
                what=f"the watched folder holds more than is looked at: {bounds}",
                fix="move what was shown elsewhere, or point source.path deeper",
            )
        )
    if clip is not None and clip.times.is_guessed:
        found.append(
            Trouble(
                code="rate-guessed",
                severity="notice",
                what=f"a clip gives no time that can be: {clip.times.words()}",
                fix="set source.fps to its true rate",
            )
        )
    if clip is not None and (odd := clip.oddities):
        found.append(
            Trouble(
                code="header-differs",
                severity="notice",
                what=f"a clip is not as its header says: {'; '.join(odd)}",
                fix="all that is there is shown; compare it with the original, or export it again",
            )
        )
    return tuple(found)


def _card(clip: AnyClip) -> _Card:
    return _Card(words=_words(clip), fps=clip.times.fps, size=clip.size)


def _words(clip: AnyClip) -> dict[str, str]:
    said = {"decoder": clip.decoder} if clip.decoder else {}
    return {
        **said,
        "frames": "; ".join((str(clip.frames), *clip.notes)),
        "rate": clip.times.words(),
        "transfer syntax": clip.syntax,
        "levels": clip.levels,
        "calibration": calibration.words(clip.calibration),
    }


def _spoken(path: str) -> str:
    """How the source is spoken of: its path may be named after a patient."""
    if path == SAMPLE:
        return SAMPLE
    return "DICOM folder" if _is_folder(Path(path)) else "DICOM file"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # opening it says what is wrong
        return False


def _resolve(path: str) -> Path:
    """Raises: ConfigError for a sample that is not there. Downloads nothing."""
    if path and not path.startswith("sample:"):
        return Path(path)
    if path != SAMPLE:
        raise ConfigError(
            "source.path",
            f"expected {SAMPLE} or a path, got {'another sample' if path else 'nothing'}",
            hint=f'path = "{SAMPLE}"',
        )
    file = Path(pydicom.__file__).parent / "data" / "test_files" / SAMPLE_FILE
    if not file.is_file():
        raise ConfigError(
            "source.path",
            f"{SAMPLE} is the clip {SAMPLE_FILE} of pydicom, which this pydicom came without",
            hint="install pydicom from its wheel: pip install --force-reinstall pydicom",
        )
    return file
