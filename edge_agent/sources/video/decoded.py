"""Files and network streams through the decoder process: what is shown, by whose clock.

What is recorded is taken frame by frame, each when it is due; the decoder waits. What is live is
decoded on and on, and a reader gets the newest frame alone.
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.config.structs import VideoSource
from edge_agent.core import upright
from edge_agent.core.errors import BadFrame, EdgeAgentError, Rejected, SourceEnded, SourceLost
from edge_agent.core.places import local_path
from edge_agent.core.stamps import Rate, Timeline, is_plausible, rate
from edge_agent.decoder import messages
from edge_agent.decoder.process import (
    FILE_SETTINGS,
    WHOLE,
    Bad,
    Decoder,
    Ended,
    Opened,
    Order,
    Shown,
)
from edge_agent.held import open_plain
from edge_agent.ports import Clock
from edge_agent.sources.video import opening, preflight
from edge_agent.sources.video.readers import Shot

FILE_TIMEOUT_S: Final = 20.0  # of one that lies on a slow disk, or has its index at its end
FRAME_TIMEOUT_S: Final = 20.0  # of a decoder that is not waiting for us
FIRST_FRAME_S: Final = 1.0  # so long a live stream is waited for, to tell how its frames are
SILENCE_S: Final = opening.READ_TIMEOUT_S + 1.0  # the library's own time-out comes first
JOIN_TIMEOUT_S: Final = 1.0
MAX_WAITING: Final = 64
RAW: Final = frozenset({"h264", "hevc", "mpegvideo", "m4v", "mjpeg", "vc1", "h263", "av1", "obu"})
# What is not told by its content: the child does not know the name.
BY_SUFFIX: Final = {".mjpeg": "mjpeg", ".mjpg": "mjpeg"}
NETWORK_SETTINGS: Final = {
    "protocol_whitelist": "rtsp,rtp,udp,tcp,tls,http,https,httpproxy,rtmp,rtmps,crypto,hls,data",
    "timeout": str(round(opening.READ_TIMEOUT_S * 1e6)),
    "rw_timeout": str(round(opening.READ_TIMEOUT_S * 1e6)),
    "analyzeduration": "500000",
    "fpsprobesize": "2",
}
NO_VIDEO: Final = "play it with another program, or encode it again as H.264 or MJPEG"
AT_STREAM: Final = "check that it is on, its address, user and password, and the network"


def open_file(decoder: Decoder, config: VideoSource) -> Opened:
    """Raises: Unusable, SourceLost, Rejected."""
    where, path = opening.place(config), local_path(config.where)
    opening.check_file(path, where)
    settings = dict(FILE_SETTINGS)
    if (forced := BY_SUFFIX.get(Path(path).suffix.lower())) is not None:
        settings["format"] = forced
    with _opened(path, where) as file:
        order = Order(address=WHOLE, live=False, settings=settings, descriptor=file.fileno())
        return _asked(decoder, order, where)


def _opened(path: str, where: str) -> BinaryIO:
    """Raises: SourceLost; it names no file."""
    try:
        return open_plain(Path(path))
    except OSError as error:
        words = error.strerror or "it can't be read"
    except Rejected:
        words = "expected a file, got something else"
    raise SourceLost(f"open {where}: {words}", hint=opening.AT_FILE)


def _asked(decoder: Decoder, order: Order, where: str) -> Opened:
    """Raises: Unusable, SourceLost, Rejected."""
    try:
        return decoder.open(order, FILE_TIMEOUT_S)
    except Rejected as wrong:
        raise Rejected(
            f"open {where}: expected a video file, got something that does not decode "
            f"({wrong.what})",
            hint=NO_VIDEO,
        ) from None
    except SourceLost as lost:
        raise SourceLost(f"open {where}: {lost.what}", hint=opening.AT_FILE) from None


def open_stream(decoder: Decoder, config: VideoSource) -> Opened:
    """Raises: Unusable, SourceLost, Rejected, ConfigError."""
    where = opening.place(config)
    settings = {**NETWORK_SETTINGS}
    if config.where.startswith("rtsp"):
        settings["rtsp_transport"] = config.transport
    url = opening.address(config)
    preflight.check(url, where)
    order = Order(address=url, live=True, settings=settings)
    try:
        return decoder.open(order, opening.OPEN_TIMEOUT_S)
    except (SourceLost, Rejected) as lost:
        otherwise = SourceLost(f"open {where}: no video came ({lost.what})", hint=AT_STREAM)
        raise preflight.reason(url, where, otherwise) from None


def rate_of(opened: Opened, configured: float | None) -> Rate:
    """By what a recording is played."""
    seen = [_ratio(opened.average), _ratio(opened.base)]
    return rate(
        () if opened.container in RAW else opened.stamps_us,  # those of a bare stream are made up
        configured=configured,
        said=next((fps for fps in reversed(seen) if fps), None),
        average=seen[0],
        whole=opened.whole,
        assumed=opened.container in RAW,
    )


def _ratio(pair: tuple[int, int]) -> float | None:
    return pair[0] / pair[1] if pair[0] > 0 and pair[1] > 0 else None


def details(opened: Opened, first: Shown | None, version: str) -> dict[str, str]:
    """What `streams probe` says of it."""
    said = {
        "decoder": f"FFmpeg (libavcodec {version})",
        "coded": f"{opened.codec} in {opened.container}",
    }
    if opened.streams > 1:
        said["streams"] = f"the best of {opened.streams} of video"
    if first is None:
        return said
    said["colours"] = first.colours
    said["scan"] = (
        f"interlaced, {first.field} field first: deinterlaced" if first.field else "progressive"
    )
    if first.width != first.source[0]:
        said["pixels"] = (
            f"not square: {first.source[0]} x {first.source[1]} px shown as "
            f"{first.width} x {first.height} px"
        )
    turn = upright.turn(first.matrix)
    if turn.words:
        said["turned"] = turn.words
    return said


def size_of(opened: Opened, first: Shown | None) -> tuple[int, int] | None:
    """[width, height] px as shown, once that is known."""
    if first is not None:
        turn = upright.turn(first.matrix)
        return (first.height, first.width) if turn.transposed else (first.width, first.height)
    return (opened.width, opened.height) if opened.width > 0 and opened.height > 0 else None


def live_rate(opened: Opened) -> float | None:
    """What a live stream says of its rate, if that can be."""
    seen = (_ratio(pair) for pair in (opened.average, opened.base))
    return next((fps for fps in seen if is_plausible(fps)), None)


class DecodedFile:
    """Plays a file at its own time; the decoder is as far ahead as its memory allows."""

    def __init__(
        self, decoder: Decoder, config: VideoSource, opened: Opened, *, clock: Clock
    ) -> None:
        self._decoder = decoder
        self._config = config
        self._where = opening.place(config)
        self._clock = clock
        self.rate = rate_of(opened, config.fps)
        self._is_bare = opened.container in RAW
        self._time = Timeline(self.rate, clock.boot_us(), config.pace)
        self._ahead: Shown | Bad | None = None
        self._frames = 0  # of this round
        self._is_over = False
        self._waited_s = 0.0  # for the frame that is next
        self.first = self._await_first()

    def _await_first(self) -> Shown | None:
        """Raises: Rejected, SourceLost."""
        try:
            self._fetch(FRAME_TIMEOUT_S)
        except SourceEnded:  # not one picture: said by read
            return None
        return self._ahead if isinstance(self._ahead, Shown) else None

    def read(self, timeout_s: float) -> Shot | None:
        """Raises: SourceEnded, SourceLost, Rejected, BadFrame."""
        if self._ahead is None and not self._fetch(timeout_s):
            return None
        wait = self._time.wait(self._clock.boot_us(), timeout_s)
        self._clock.sleep_us(wait.sleep_us)
        if not wait.is_due:
            return None
        captured_us = self._clock.boot_us()
        self._time.take(captured_us)
        frame, self._ahead = self._ahead, None
        assert frame is not None
        if isinstance(frame, Bad):
            raise damaged(self._where, self._frames, frame)
        pixels = self._decoder.pixels(frame, upright.turn(frame.matrix))
        self._decoder.release(frame)
        return Shot(captured_us, pixels, None if self._is_bare else frame.pts_us)

    def _fetch(self, timeout_s: float) -> bool:
        """Raises: SourceEnded, SourceLost, Rejected."""
        got = Ended() if self._is_over else self._decoder.next(timeout_s)
        if isinstance(got, Ended):
            self._is_over = True
            self._rewind()
            self._is_over = False
            got = self._decoder.next(timeout_s)
            if isinstance(got, Ended):
                raise self._empty()
        if got is None:
            self._waited_s += timeout_s
            if self._waited_s > FRAME_TIMEOUT_S:
                raise SourceLost(
                    f"{self._where}: the decoder gave nothing for {FRAME_TIMEOUT_S:g} s",
                    hint="play it with another program; check the disk it lies on",
                )
            return False
        self._waited_s = 0.0
        self._frames += 1
        self._time.frame(got.pts_us)
        self._ahead = got
        return True

    def _rewind(self) -> None:
        """To the first frame again, or to the end. Raises: SourceEnded, SourceLost, Rejected."""
        if not self._frames:
            raise self._empty()
        if not self._config.loop:
            raise SourceEnded(f"{self._where} has ended after {self._frames} frames")
        open_file(self._decoder, self._config)
        self._frames = 0
        self._time.rewind()

    def _empty(self) -> Rejected:
        return Rejected(
            f"open {self._where}: expected a video, got a file without a frame that decodes",
            hint=NO_VIDEO,
        )

    def close(self) -> None:
        self._decoder.close()


class DecodedStream:
    """Takes what a network stream brings; holds its newest frame alone."""

    def __init__(self, decoder: Decoder, *, where: str, clock: Clock) -> None:
        self._decoder = decoder
        self._where = where
        self._clock = clock
        self._changed = threading.Condition()
        self._newest: tuple[int, Shown] | None = None
        self._bad: deque[BadFrame] = deque(maxlen=MAX_WAITING)
        self._lost: EdgeAgentError | None = None
        self._frames = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take_on, name="video-take", daemon=True)
        self._thread.start()
        self.first = self._await_first()

    def _await_first(self) -> Shown | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._lost, timeout=FIRST_FRAME_S)
            return self._newest[1] if self._newest else None

    def read(self, timeout_s: float) -> Shot | None:
        """Raises: SourceLost, BadFrame."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._newest or self._bad or self._lost, timeout=timeout_s
            )
            if self._bad:
                raise self._bad.popleft()
            got, self._newest = self._newest, None
            if got is None and self._lost is not None:
                raise SourceLost(
                    f"{self._where} gives no more frames ({self._lost.what})",
                    hint="check that the camera is on, and the network",
                )
        if got is None:
            return None
        captured_us, frame = got
        pixels = self._decoder.pixels(frame, upright.turn(frame.matrix))
        self._decoder.release(frame)
        return Shot(captured_us, pixels)

    def close(self) -> None:
        self._stop.set()
        self._decoder.kill()
        self._thread.join(JOIN_TIMEOUT_S)
        if not self._thread.is_alive():
            self._decoder.close()

    def _take_on(self) -> None:
        try:
            while not self._stop.is_set():
                got = self._decoder.next(SILENCE_S)
                if got is None:
                    raise SourceLost(f"silent for {SILENCE_S:g} s")
                if isinstance(got, Ended):
                    raise SourceLost("it hung up")
                self._book(got)
        except EdgeAgentError as lost:
            with self._changed:
                self._lost = lost
                self._changed.notify_all()

    def _book(self, got: Shown | Bad) -> None:
        captured_us = self._clock.boot_us()
        self._frames += 1
        with self._changed:
            if isinstance(got, Bad):
                self._bad.append(damaged(self._where, self._frames, got))
            else:
                if self._newest is not None:
                    self._decoder.release(self._newest[1])
                self._newest = captured_us - max(0, messages.now_us() - got.came_us), got
            self._changed.notify_all()


def damaged(where: str, number: int, bad: Bad) -> BadFrame:
    why = f" ({bad.why})" if bad.why else ""
    return BadFrame(
        f"{where}: frame {number} is damaged, or is built on one that is{why}",
        hint="look for loss on the network, or on the disk of the recording",
    )
