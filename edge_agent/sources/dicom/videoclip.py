"""One DICOM file whose frames are a bit stream of video: MPEG-2, H.264 or HEVC.

It is decoded by a process of its own, frame by frame as they are asked for. How many there are is
known at the end: up to there the header's number is what is expected. Pixels stay where they were
coded, neither turned nor made square: regions and measures of the header count them so.
"""

from __future__ import annotations

import os
from collections import deque

from edge_agent.config.structs import DicomSource
from edge_agent.core import calibration, dicom_counts, upright
from edge_agent.core.errors import BadFrame, EdgeAgentError, Rejected, SourceLost
from edge_agent.core.frames import Pixels
from edge_agent.decoder.process import (
    WHOLE,
    Bad,
    Decoder,
    Ended,
    Opened,
    Order,
    Shown,
    Unusable,
    usable,
    within,
)
from edge_agent.sources.dicom import header as head
from edge_agent.sources.dicom import stream, streamtimes, syntax
from edge_agent.sources.dicom.openfile import Name, OpenFile

OPEN_TIMEOUT_S = 20.0  # of a file on a slow disk
FRAME_TIMEOUT_S = 20.0  # of a decoder that does not answer
MAX_LEAD = 1000  # damaged frames before the first sound one: several groups of pictures
MAX_AHEAD = 2  # frames; each keeps a place in the memory of the decoder, which has few
FORMATS = "h264,hevc,mpegvideo,mpegts,mpeg,mov,mp4"
NAMES = {"mpeg2video": "MPEG-2", "h264": "H.264", "hevc": "HEVC"}
SETTINGS = {"protocol_whitelist": "file,subfile", "format_whitelist": FORMATS}
STEREO = "1.2.840.10008.1.2.4.106"
UPRIGHT = upright.Turn()

Item = Shown | BadFrame | SourceLost


class VideoClip:
    """An open file. Raises at construction: Rejected, SourceLost, ConfigError, Overloaded.

    frames: as many as are known of, at least one more than were given as long as there is one.
    """

    def __init__(self, name: Name, config: DicomSource, key: bytes) -> None:
        self.file = OpenFile(name, config.max_file_bytes)
        self.decoder = ""  # in words, and what it reads
        self._memory: int | None = None
        self._decoder: Decoder | None = None
        try:
            self._open(config, key)
        except BaseException:
            self.close()
            raise

    def _open(self, config: DicomSource, key: bytes) -> None:
        file, where = self.file, self.file.name.where
        header = head.read(file.name.path, file.content, where=where, key=key, is_video=True)
        with head.translated(where):
            self._stream = stream.find(
                file.content, header, where=where, file_bytes=file.size_bytes
            )
            self._memory = stream.joined(file.content, self._stream, where=where)
        self.header, self.size, self.exam = header, header.size, header.exam
        self.syntax = syntax.name(header.syntax)
        self._claimed = header.claimed
        self.calibration = calibration.override(
            calibration.from_regions(header.regions, header.size),
            header.size,
            roi=config.roi,
            spacing_mm=config.spacing_mm,
        )
        self._ahead: deque[Item] = deque()
        self._next = 0  # of the frame that `_ahead` begins with
        self._is_over = self._is_counted = self._is_short_told = False
        self._count = 0  # frames, once that is known
        self._last_word: BadFrame | None = None  # behind the last frame
        self._broke = ""  # why nothing more is decoded
        opened = self._begin()
        self._times = streamtimes.StreamTimes(header, opened, config.fps, frames=self._expected)
        first = self._first()
        self._more()  # whether there is a second one
        self.levels = self._levels(first)
        self._said = self._oddities(opened, first)

    @property
    def times(self) -> streamtimes.StreamTimes:
        return self._times

    @property
    def _expected(self) -> int | None:
        return self._claimed if self._claimed is not None and self._claimed > 0 else None

    @property
    def frames(self) -> int:
        if self._is_counted:
            return self._count + (self._last_word is not None)
        return max(self._expected or 0, self._next + len(self._ahead))

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the stream is otherwise than its header says, as far as it is known."""
        if self._broke:
            return (f"not shown from frame {self._count} on: {self._broke}", *self._said)
        if self._is_counted and self._last_word is None:
            return (*dicom_counts.notes(self._count, self._claimed), *self._said)
        if self._expected is None:
            counted = "so far, the header does not say how many"
        elif self.frames > self._expected:
            counted = f"so far, the header says {self._expected}"
        else:
            counted = "as the header says; they are counted at its end"
        return (counted, *self._said)

    def pixels(self, index: int) -> Pixels:
        """Frame `index` from 0, best in order: uint8, HxW gray or HxWx3 BGR, read-only.

        Raises: BadFrame, SourceLost.
        """
        if index < self._next:
            self._again()
        while self._next < index and self._ahead:
            self._drop()
        if not self._ahead:
            last, self._last_word = self._last_word, None
            none = f"decode frame {index + 1} of {self.file.name.where}: it has {self._next}"
            raise last or BadFrame(none)
        item = self._ahead.popleft()
        self._next += 1
        self._times.book(index, item.pts_us if isinstance(item, Shown) else None)
        try:
            return self._picture(item, index)
        finally:
            if len(self._ahead) < MAX_AHEAD:
                self._more()

    def _picture(self, item: Item, index: int) -> Pixels:
        """Raises: BadFrame, SourceLost."""
        if not isinstance(item, Shown):
            raise item
        assert self._decoder is not None
        try:
            size = (item.width, item.height)
            if size != self.size:
                raise BadFrame(
                    f"decode frame {index + 1} of {self.file.name.where}: expected "
                    f"{_px(self.size)}, its stream changes to {_px(size)}",
                    hint="export it again, as clips of one size",
                )
            pixels = self._decoder.pixels(item, UPRIGHT)
        finally:
            self._decoder.release(item)
        if item.field and not self._is_interlaced:  # not from its begin on
            self.levels = self._levels(item)
        pixels.flags.writeable = False
        return pixels

    # ── the same as of a clip of images ───────────────────────────────────────────────────────

    @property
    def oddities(self) -> tuple[str, ...]:
        """What of the stream is otherwise than its header says, once it was played to its end."""
        return dicom_counts.notes(self._count, self._claimed) if self._is_counted else ()

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = None
        if self._memory is not None:
            os.close(self._memory)
        self._memory = None
        self.file.close()

    # ── its decoder ───────────────────────────────────────────────────────────────────────────

    def _begin(self) -> Opened:
        """From the first frame on. Raises: Rejected, SourceLost, Overloaded."""
        where, ffmpeg = self.file.name.where, usable()
        family = NAMES[syntax.CODECS[self.header.syntax]]
        try:
            if ffmpeg.why:
                raise Unusable(ffmpeg.why)
            if self._decoder is None:
                self._decoder = ffmpeg.start()
            opened = self._decoder.open(self._order(), OPEN_TIMEOUT_S)
        except Unusable as wrong:
            ffmpeg.why = wrong.what
            raise Rejected(
                f"open {where}: expected images, or an FFmpeg that may be used for video, got "
                f"{family} ({wrong.what})",
                hint=f"install opencv-python-headless>=4.10,<4.13 with pip, or {syntax.VIDEO}",
            ) from None
        except Rejected as wrong:
            raise Rejected(
                f"open {where}: expected {family}, as {self.syntax} says, bare or in MPEG-TS, "
                f"MPEG-PS or MP4, got something else, or damage ({wrong.what})",
                hint=syntax.VIDEO,
            ) from None
        except SourceLost as lost:
            raise SourceLost(f"open {where}: {lost.what}", hint=stream.UNREADABLE) from None
        self.decoder = (
            f"FFmpeg (libavcodec {self._decoder.version}): {opened.codec} in {opened.container}"
        )
        return opened

    def _order(self) -> Order:
        """Its one fragment where it lies, or the memory that several were joined in."""
        is_joined = self._memory is not None
        return Order(
            address=WHOLE if is_joined else within(*self._stream.pieces[0]),
            live=False,
            settings=SETTINGS,
            descriptor=self._memory if is_joined else self.file.content.fileno(),
            as_coded=True,
        )

    def _again(self) -> None:
        """To the first frame. Raises: BadFrame, SourceLost."""
        if self._decoder is not None and (self._broke or not self._is_over):
            self._decoder.close()
            self._decoder = None
        if self._broke:
            self._is_counted = False
        self._ahead.clear()
        self._next, self._is_over, self._broke = 0, False, ""
        self._last_word = None
        try:
            self._begin()
        except Rejected as wrong:
            raise SourceLost(wrong.what, hint=wrong.hint) from None
        self._times.rewind()
        self._more()

    def _first(self) -> Shown:
        """The first frame that is sound; those before it are bad frames. Raises: Rejected,
        SourceLost.
        """
        while not self._is_over and len(self._ahead) < MAX_LEAD:
            self._more()
            if self._ahead and isinstance(found := self._ahead[-1], Shown):
                self._check(found)
                return found
        where, many = self.file.name.where, len(self._ahead)
        if self._ahead and isinstance(lost := self._ahead[-1], SourceLost):
            raise lost
        damaged = f"{many} damaged ones" if many else "none"
        raise Rejected(
            f"open {where}: expected frames of video, got {damaged}: nothing of it decodes",
            hint=f"{stream.UNREADABLE}; if that does not help, {syntax.VIDEO}",
        )

    def _check(self, first: Shown) -> None:
        """Raises: Rejected."""
        if (first.width, first.height) != self.size:
            raise Rejected(
                f"open {self.file.name.where}: expected {_px(self.size)}, as its header says, its "
                f"stream is {_px((first.width, first.height))}",
                hint="export it again; regions and measures hold for one of the two alone",
            )

    def _more(self) -> None:
        """One frame ahead, or to know that there is none."""
        if self._is_over or self._decoder is None:
            return
        number = self._next + len(self._ahead) + 1
        where = f"decode frame {number} of {self.file.name.where}"
        try:
            got = self._decoder.next(FRAME_TIMEOUT_S)
            if got is None:
                raise SourceLost(f"silent for {FRAME_TIMEOUT_S:g} s")
        except EdgeAgentError as lost:
            self._decoder.kill()  # not closed: frames that it gave are still there
            self._broke = lost.what
            self._ahead.append(SourceLost(f"{where}: {lost.what}; the rest of it is not shown"))
            self._end(number)
            return
        if isinstance(got, Ended):
            self._end(number - 1)
        elif isinstance(got, Bad):
            why = f" ({got.why})" if got.why else ""
            words = f"{where}: it is damaged, or is built on one that is{why}"
            self._ahead.append(BadFrame(words, hint=stream.UNREADABLE))
        else:
            self._ahead.append(got)

    def _end(self, count: int) -> None:
        self._is_over = self._is_counted = True
        self._count = count
        wanted = self._expected or 0
        if 0 < count < wanted and not self._broke and not self._is_short_told:
            self._is_short_told = True  # once, however often it is played
            self._last_word = BadFrame(
                f"{self.file.name.where}: expected {wanted} frames, as its header says, its stream "
                f"ends after {count}: it was cut off when it was exported, or miscounted",
                hint="export it again, and compare the end of the clip",
            )

    def _drop(self) -> None:
        item = self._ahead.popleft()
        if isinstance(item, Shown):
            assert self._decoder is not None
            self._decoder.release(item)
        self._times.book(self._next, item.pts_us if isinstance(item, Shown) else None)
        self._next += 1
        if len(self._ahead) < MAX_AHEAD:
            self._more()

    # ── its words ─────────────────────────────────────────────────────────────────────────────

    def _levels(self, frame: Shown) -> str:
        self._is_interlaced = bool(frame.field)
        scan = f"interlaced, {frame.field} field first: deinterlaced"
        return f"{frame.colours} to 0..255, {scan if frame.field else 'progressive'}"

    def _oddities(self, opened: Opened, first: Shown) -> tuple[str, ...]:
        said = list(self._stream.notes)
        family = syntax.CODECS[self.header.syntax]
        if opened.codec != family:
            said.append(f"coded as {NAMES.get(opened.codec, opened.codec)}, not {NAMES[family]}")
        if opened.streams > 1:
            said.append(f"the best of {opened.streams} streams of video")
        if self.header.samples == 1 and first.channels == 3:
            said.append("shown as colour, the header says gray")
        if self.header.syntax.startswith(STEREO):
            said.append("of stereo, the base view alone")
        wide, high = first.aspect
        if wide > 0 and high > 0 and wide != high:
            said.append(f"pixels are not square ({wide}:{high}), shown as stored")
        if turn := upright.turn(first.matrix).words:
            said.append(f"its stream asks to be {turn.removeprefix('asks to be ')}: not done")
        if odd := self._times.disagreement:
            said.append(odd)
        return tuple(said)


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
