"""When each frame of a DICOM clip was taken, and where that is said (PS3.3 C.7.6.5, C.7.6.6).

Pure; the header is read elsewhere. The FrameIncrementPointer decides. What can't be is not played:
the next element that says something plausible is, and what was passed over stays told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, pairwise

import msgspec

DEFAULT_FPS = 30.0
LOWEST_FPS, HIGHEST_FPS = 0.1, 240.0  # of a header; the operator's own word is not bounded here
ROUNDED = 1.001  # 240 fps are written as 4.166 ms
LONGEST_GAP_MS = 100_000.0  # of a vector: a triggered clip pauses
MICROSECONDS = 1_000_000
MAX_TOLD = 4  # elements that were passed over, in words
MOMENT = re.compile(r"(\d{14})(?:\.(\d{1,6}))?(?:[+-]\d{4})?")  # one offset for all frames

FRAME_TIME, VECTOR = "FrameTime", "FrameTimeVector"
MOMENTS = "FrameAcquisitionDateTime"  # of each frame, in functional groups (enhanced multi-frame)
CINE_RATE, DISPLAY_RATE = "CineRate", "RecommendedDisplayFrameRate"
TAGS = {
    0x0018_1063: FRAME_TIME,
    0x0018_1065: VECTOR,
    0x0018_0040: CINE_RATE,
    0x0008_2144: DISPLAY_RATE,
    0x0018_9074: MOMENTS,
}
ORDER = (FRAME_TIME, VECTOR, MOMENTS, CINE_RATE, DISPLAY_RATE)  # where no pointer decides
RATES = (FRAME_TIME, CINE_RATE, DISPLAY_RATE)  # of one value, for all frames


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The elements that speak of time, as far as the header has them.

    pointers: the tags of FrameIncrementPointer. rates: of RATES, by name, ms (FrameTime) or 1/s.
    frame_times_ms: FrameTimeVector, the gap before each frame, the first one 0. unread: elements
    that are there, and whose value is no number. moments: when each frame was acquired, as texts
    (DT); empty where no functional groups say so.
    """

    pointers: tuple[int, ...] = ()
    rates: Mapping[str, float] = {}
    frame_times_ms: tuple[float, ...] = ()
    moments: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """From one moment to the next, before each frame, the first one 0; nan: not legible."""
        moments_us = [_moment_us(text) for text in self.moments]
        return (0.0, *((b - a) / 1000 for a, b in pairwise(moments_us))) if moments_us else ()


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """fps: of the whole clip; where frames have stamps of their own, their mean.

    stamps_us: of each frame, rising from 0; empty: they are even. origin: the element that says so,
    `config` or `default`. refused: what the header says and is not played, in words.
    """

    fps: float
    origin: str
    stamps_us: tuple[int, ...] = ()
    refused: tuple[str, ...] = ()

    def pts_us(self, index: int) -> int:
        """Of frame `index` from 0, since the first one."""
        if index < len(self.stamps_us):
            return self.stamps_us[index]
        return round(index * MICROSECONDS / self.fps)

    @property
    def period_us(self) -> int:
        """From one frame to the next, on average."""
        return round(MICROSECONDS / self.fps)

    @property
    def is_guessed(self) -> bool:
        """The header says something of time, and nothing that can be played."""
        return self.origin == "default" and bool(self.refused)

    def words(self) -> str:
        """The rate and where it is from, always; what was refused."""
        said = f"{self.fps:.4g} fps from {self.origin}"
        if self.stamps_us:
            gaps = [b - a for a, b in zip(self.stamps_us, self.stamps_us[1:], strict=False)]
            said = f"{self.fps:.4g} fps on average from {self.origin}, "
            said += f"{min(gaps) / 1000:.6g} to {max(gaps) / 1000:.6g} ms apart"
        if self.refused:
            said += f"; not played: {', '.join(self.refused[:MAX_TOLD])}"
        return said


def times(timing: Timing, frames: int, configured_fps: float | None = None) -> Times:
    """The times of so many frames. The operator's word goes first, 30 fps last."""
    if configured_fps is not None:
        return Times(fps=configured_fps, origin="config")
    refused: list[str] = []
    for name in _candidates(timing, refused):
        found = _rate(timing, name) if name in RATES else _stamps(timing, name, frames)
        if isinstance(found, Times):
            return msgspec.structs.replace(found, refused=tuple(refused))
        if found:
            refused.append(found)
    return Times(fps=DEFAULT_FPS, origin="default", refused=tuple(refused))


def _candidates(timing: Timing, refused: list[str]) -> Iterator[str]:
    """Names of elements, the one that the pointer names first; says what can't be followed."""
    pointed = [TAGS[tag] for tag in timing.pointers if tag in TAGS]
    if timing.pointers and not pointed:
        tag = timing.pointers[0]
        refused.append(f"FrameIncrementPointer to ({tag >> 16:04x},{tag & 0xFFFF:04x})")
    absent = [name for name in pointed if not _is_there(timing, name)]
    refused += [f"FrameIncrementPointer to {name}, which is not there" for name in absent]
    yield from dict.fromkeys([*pointed, *ORDER])


def _is_there(timing: Timing, name: str) -> bool:
    if name == MOMENTS:
        return bool(timing.moments)
    is_vector = name == VECTOR and bool(timing.frame_times_ms)
    return is_vector or name in timing.unread or name in timing.rates


def _rate(timing: Timing, name: str) -> Times | str:
    """One rate for all frames; else why not, "" when nothing is said."""
    if name in timing.unread:
        return f"{name}, which is no number"
    if (value := timing.rates.get(name)) is None:
        return ""
    unit = " ms" if name == FRAME_TIME else " fps"
    said = f"{name} {value:.6g}{unit}"
    if not math.isfinite(value) or value <= 0:
        return said
    fps = 1000.0 / value if name == FRAME_TIME else value
    if LOWEST_FPS <= fps <= HIGHEST_FPS * ROUNDED:
        return Times(fps=fps, origin=name)
    also = f" ({fps:.6g} fps)" if name == FRAME_TIME else ""
    return f"{said}{also}, expected {LOWEST_FPS:g} to {HIGHEST_FPS:g} fps"


def _stamps(timing: Timing, name: str, frames: int) -> Times | str:
    """A stamp for each frame; else why not, "" when nothing gives any."""
    if name in timing.unread:
        return f"{name}, which is not all numbers"
    increments_ms = timing.frame_times_ms if name == VECTOR else timing.gaps_ms
    gaps_ms = increments_ms[1:]
    if not increments_ms or (not gaps_ms and frames == 1):
        return ""
    wrong = _wrong_gap(increments_ms)
    if wrong:
        return f"{name} {wrong}"
    is_whole = len(increments_ms) == frames
    if not is_whole and (not gaps_ms or min(gaps_ms) != max(gaps_ms)):
        return f"{name} of {len(increments_ms)} values for {frames} frames"
    if min(gaps_ms) == max(gaps_ms):  # even: then its rate holds for any number of frames
        return Times(fps=1000.0 / gaps_ms[0], origin=name)
    stamps_us = tuple(round(ms * 1000) for ms in accumulate(gaps_ms, initial=0.0))
    return Times(fps=MICROSECONDS * len(gaps_ms) / stamps_us[-1], origin=name, stamps_us=stamps_us)


def _wrong_gap(increments_ms: Sequence[float]) -> str:
    """What makes the increments unplayable, "" when nothing does; the first one counts for none."""
    shortest_ms = 1000.0 / (HIGHEST_FPS * ROUNDED)
    for number, gap_ms in enumerate(increments_ms, 1):
        if not math.isfinite(gap_ms) or gap_ms < 0:
            return f"with {gap_ms:.6g} ms at value {number}"
        if number > 1 and not shortest_ms <= gap_ms <= LONGEST_GAP_MS:
            return (
                f"with {gap_ms:.6g} ms at value {number}, expected "
                f"{1000 / HIGHEST_FPS:.3g} to {LONGEST_GAP_MS:.0f} ms"
            )
    return ""


def _moment_us(text: str) -> float:
    """Of a DT (PS3.5 6.2): YYYYMMDDHHMMSS, a fraction, an offset; nan for anything less."""
    parts = MOMENT.fullmatch(text.strip(" \0"))
    if parts is None:
        return math.nan
    try:
        moment = datetime.strptime(f"{parts[1]}+0000", "%Y%m%d%H%M%S%z")
    except ValueError:
        return math.nan
    return moment.timestamp() * 1e6 + int((parts[2] or "").ljust(6, "0"))
