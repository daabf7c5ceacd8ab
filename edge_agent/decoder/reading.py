"""Opens a file or an address with FFmpeg and gives its coded pictures, decoded. In the child alone.

A decoder that meets damage conceals it; what it said meanwhile, its flags and the container's
marks tell. Each packet is numbered in its `pos`, a field that is ours to write and that a frame
inherits, so that what is heard while a packet is decoded finds the frame it belongs to.
"""

from __future__ import annotations

import ctypes
import functools
from collections import deque
from typing import Final, NamedTuple

from edge_agent.core import bitstream
from edge_agent.core.damage import Chain
from edge_agent.core.errors import EdgeAgentError, Rejected, SourceLost
from edge_agent.core.lateness import Lateness
from edge_agent.decoder import library
from edge_agent.decoder.library import Library
from edge_agent.decoder.messages import now_us

VIDEO: Final = 0
NOT_LISTED: Final = -22  # EINVAL: found, and not among those that were allowed
NO_TIME: Final = -(1 << 63)
HARDWARE_ALONE: Final = frozenset({"av1"})  # of that name is the decoder that only asks a GPU
SENDERS_STAMPS: Final = frozenset({"rtsp", "rtp", "sdp", "mpegts"})  # others are made up here
MAX_STAMP_US: Final = 1 << 53  # 285 years; what is longer is no time, and fits in no message
MICROSECONDS: Final = 1_000_000
ATTACHED_PICTURE: Final = 0x400
DISCARD_ALL: Final = 48
KEY_PACKET, CORRUPT_PACKET = 0x1, 0x2
AFTER_A_BREAK: Final = 1 << 20  # ours: the container lost its way before this packet
SPLICE_PACKETS: Final = 2
SPLICE_US: Final = 1_000_000
CORRUPT_FRAME: Final = 0x1
PACKET_MATRIX, FRAME_MATRIX = 5, 6
LOOK_AHEAD_PACKETS: Final = 96
LOOK_AHEAD_BYTES: Final = 32 << 20
MAX_UNKNOWN_STREAMS: Final = 64
# Without a key frame for so long the decoder is emptied: it finds its own way back, also into a
# stream that refreshes a slice at a time and has no key frame.
MAX_DARK_FRAMES: Final = 300
MAX_DARK_STEPS: Final = 100_000  # packets without a picture or an error before the file is given up
FILE_FORMATS: Final = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,m4v,mjpeg,asf,dv,flv,ivf,ogg,mxf,nut,av1,obu,"
    "gif,vc1,vc1test,yuv4mpegpipe,wtv,rm,swf,gxf,h263,h261,dirac,webm,mp4"
)
MARKS_EVERYTHING: Final = frozenset({"mpjpeg"})  # read in pieces, each of which it calls corrupt
# Said at the level of an error, and no damage to a picture.
HARMLESS: Final = (
    b"unable to decode APP fields",
    b"co located POCs unavailable",
    b"no frame!",
    b"APP",
    b"deprecated pixel format",
    b"error, wrong picture type",
)
# Said as a warning, and damage all the same.
WARNS_OF_DAMAGE: Final = (
    b"EOI missing",
    b"RTP: missed",
    b"Packet corrupt",
    b"max delay reached",
    b"DPB",
    b"concealing",
    library.GAP,
)
# What is missing may have been missed by pictures that were fed shortly before, and are not shown
# yet: as many as lie between two that others lean on.
MISSING: Final = (b"issing", b"Could not find ref", b"unref short failure", library.GAP)
MISSED_PACKETS: Final = 3
BY_ITSELF: Final = frozenset(
    {"mjpeg", "dvvideo", "prores", "ffv1", "rawvideo", "huffyuv", "utvideo"}
)


class Picture(NamedTuple):
    """A decoded frame, in the AVFrame at `at` until the next call. pts_us: from the start."""

    at: int
    pts_us: int | None
    shown: bool
    why: str = ""


class Spoilt(NamedTuple):
    """A packet that gave no picture at all."""

    pts_us: int | None
    why: str


class Facts(NamedTuple):
    """What the container says, unjudged. stamps_us: of the first packets, in order of display.

    rates: average and base, numerator by denominator.
    """

    container: str
    codec: str
    width: int
    height: int
    aspect: tuple[int, int]
    average: tuple[int, int]
    base: tuple[int, int]
    frames: int
    duration_us: int | None
    stamps_us: list[int]
    whole: bool  # the stamps are those of all frames
    streams: int  # of video; the best of them is shown
    field_order: int  # AVFieldOrder


class Reading:
    """One file or address, from its beginning to its end."""

    def __init__(
        self, ffmpeg: Library, address: str, *, live: bool, settings: dict[str, str]
    ) -> None:
        """Raises: SourceLost when nothing answers, Rejected when it is no video."""
        self._ffmpeg = ffmpeg
        self._live = live
        self._format = ctypes.c_void_p()
        self._codec = ctypes.c_void_p()
        self._frame = ffmpeg.av_frame_alloc()
        self._packet = ffmpeg.av_packet_alloc()
        self._ahead: deque[int] = deque()
        self._misses = False  # whether that was of a picture that is not there
        self._heard = ""  # what was said of damage since it was last asked
        self._chain = Chain(intra=False)
        self._fed = 0
        self._is_over = False
        self._broke = ""  # why a file ended before its end
        self._dark = 0
        ffmpeg.listen(self._hear)
        ffmpeg.avformat_network_init()
        self._open(address, settings)
        if not live:
            self._said()  # what a file is short of is marked on its packets
        self._container = self._named()
        self._trusts_marks = self._container not in MARKS_EVERYTHING
        self._stream, self._index, self._videos = self._best()
        self.codec_name = ""
        self._lengths = 0
        self._torn_words = ""  # what the newest damage was
        self._start_decoder()
        self._start = self._beginning()

    # ── opening ───────────────────────────────────────────────────────────────────────────────

    def _open(self, address: str, settings: dict[str, str]) -> None:
        ffmpeg = self._ffmpeg
        forced = settings.pop("format", "")
        wanted = ffmpeg.av_find_input_format(forced.encode()) if forced else None
        options = ffmpeg.options(settings)
        try:
            code = ffmpeg.avformat_open_input(
                ctypes.byref(self._format),
                address.encode("utf-8", "surrogateescape"),
                wanted,
                ctypes.byref(options),
            )
        finally:
            ffmpeg.av_dict_free(ctypes.byref(options))
        if code < 0:
            raise self._lost(code)
        code = ffmpeg.avformat_find_stream_info(self._format, None)
        if code < 0:
            raise self._lost(code)

    def _lost(self, code: int) -> EdgeAgentError:
        if self._live:
            return SourceLost(self._ffmpeg.words(code))
        words = "a kind that is not played here" if code == NOT_LISTED else self._ffmpeg.words(code)
        return Rejected(words)

    def _named(self) -> str:
        kind = self._ffmpeg.pointer("AVFormatContext", self._format.value or 0, "iformat")
        return self._ffmpeg.text("AVInputFormat", kind, "name")

    def _best(self) -> tuple[int, int, int]:
        """Raises: Rejected when there is no video; a picture of a cover is none."""
        ffmpeg, context = self._ffmpeg, self._format.value or 0
        count = min(ffmpeg.int32("AVFormatContext", context, "nb_streams"), MAX_UNKNOWN_STREAMS)
        table = ffmpeg.pointer("AVFormatContext", context, "streams")
        every = [ctypes.c_void_p.from_address(table + 8 * i).value or 0 for i in range(count)]
        kinds = [self._kind(stream) for stream in every]
        best = ffmpeg.av_find_best_stream(self._format, VIDEO, -1, -1, None, 0)
        if not 0 <= best < count or not kinds[best]:
            best = kinds.index(True) if True in kinds else -1
        if best < 0:
            raise Rejected(f"no video in it ({count} other streams)" if count else "nothing in it")
        offset = ffmpeg.fields["AVStream"]["discard"]
        for index, stream in enumerate(every):
            if index != best:
                ctypes.c_int32.from_address(stream + offset).value = DISCARD_ALL
        return every[best], best, sum(kinds)

    def _kind(self, stream: int) -> bool:
        """Whether it is video that plays."""
        ffmpeg = self._ffmpeg
        coded = ffmpeg.pointer("AVStream", stream, "codecpar")
        cover = ffmpeg.int32("AVStream", stream, "disposition") & ATTACHED_PICTURE
        return not cover and ffmpeg.int32("AVCodecParameters", coded, "codec_type") == VIDEO

    def _start_decoder(self) -> None:
        """Raises: Rejected."""
        ffmpeg = self._ffmpeg
        coded = ffmpeg.pointer("AVStream", self._stream, "codecpar")
        decoder = ffmpeg.avcodec_find_decoder(ffmpeg.int32("AVCodecParameters", coded, "codec_id"))
        if not decoder:
            raise Rejected("it is coded in a way that this FFmpeg does not know")
        self.codec_name = ffmpeg.text("AVCodec", decoder, "name")
        if self.codec_name in HARDWARE_ALONE:
            raise Rejected(f"it is coded as {self.codec_name}, which this FFmpeg does not decode")
        self._chain = Chain(intra=self.codec_name in BY_ITSELF)
        head = ffmpeg.pointer("AVCodecParameters", coded, "extradata")
        size = ffmpeg.int32("AVCodecParameters", coded, "extradata_size")
        head_bytes = ctypes.string_at(head, size) if head and size > 0 else b""
        self._lengths = bitstream.length_bytes(self.codec_name, head_bytes)
        self._codec = ctypes.c_void_p(ffmpeg.avcodec_alloc_context3(decoder))
        code = ffmpeg.avcodec_parameters_to_context(self._codec, coded)
        # One thread: with more, what is said of damage comes with another frame than its own.
        options = ffmpeg.options({"threads": "1", "err_detect": "crccheck+buffer"})
        if code >= 0:
            code = ffmpeg.avcodec_open2(self._codec, decoder, ctypes.byref(options))
        ffmpeg.av_dict_free(ctypes.byref(options))
        if code < 0:
            raise Rejected(f"its decoder ({self.codec_name}) does not start: {ffmpeg.words(code)}")

    def _beginning(self) -> int | None:
        """Time zero, in units of the stream; None: the first frame's own."""
        start = self._ffmpeg.int64("AVStream", self._stream, "start_time")
        return None if start == NO_TIME else start

    def facts(self) -> Facts:
        """Also reads the first packets of a file, to know of its times before it is played."""
        ffmpeg, stream = self._ffmpeg, self._stream
        stamps, whole = ([], False) if self._live else self._look_ahead()
        coded = ffmpeg.pointer("AVStream", stream, "codecpar")
        duration = ffmpeg.int64("AVStream", stream, "duration")
        return Facts(
            container=self._container,
            codec=self.codec_name,
            width=ffmpeg.int32("AVCodecParameters", coded, "width"),
            height=ffmpeg.int32("AVCodecParameters", coded, "height"),
            aspect=ffmpeg.ratio("AVStream", stream, "sample_aspect_ratio"),
            average=ffmpeg.ratio("AVStream", stream, "avg_frame_rate"),
            base=ffmpeg.ratio("AVStream", stream, "r_frame_rate"),
            frames=ffmpeg.int64("AVStream", stream, "nb_frames"),
            duration_us=None if duration == NO_TIME else self._us(duration),
            stamps_us=stamps,
            whole=whole,
            streams=self._videos,
            field_order=ffmpeg.int32("AVCodecParameters", coded, "field_order"),
        )

    def _look_ahead(self) -> tuple[list[int], bool]:
        held = 0
        while not self._is_over and len(self._ahead) < LOOK_AHEAD_PACKETS:
            held += self._look_on()
            if held > LOOK_AHEAD_BYTES:
                break
        every = [self._ffmpeg.int64("AVPacket", packet, "pts") for packet in self._ahead]
        stamps = [self._since_start(stamp) or 0 for stamp in every if stamp != NO_TIME]
        return stamps, self._is_over

    def matrix(self) -> tuple[int, ...] | None:
        """The display matrix of the frame at hand, or of its stream: nine numbers."""
        ffmpeg = self._ffmpeg
        side = ffmpeg.av_frame_get_side_data(self._frame, FRAME_MATRIX)
        data = ffmpeg.pointer("AVFrameSideData", side, "data") if side else None
        size = ctypes.c_size_t(36 if data else 0)
        if not data:
            data = ffmpeg.av_stream_get_side_data(self._stream, PACKET_MATRIX, ctypes.byref(size))
        return tuple((ctypes.c_int32 * 9).from_address(data)) if data and size.value >= 36 else None

    # ── reading on ────────────────────────────────────────────────────────────────────────────

    def next(self) -> Picture | Spoilt | None:
        """The next picture in the order of display, damage, or None at the end.

        Raises: SourceLost when what is live breaks off.
        """
        for _ in range(MAX_DARK_STEPS):
            code = self._ffmpeg.avcodec_receive_frame(self._codec, self._frame)
            if code >= 0:
                return self._picture()
            if code == library.END:
                return None
            if code != library.AGAIN:
                self._chain.damage(self._fed)
                return Spoilt(None, self._ffmpeg.words(code))
            spoilt = self._feed()
            if spoilt is not None:
                return spoilt
        return None

    def _picture(self) -> Picture:
        ffmpeg, frame = self._ffmpeg, self._frame
        number = ffmpeg.int64("AVFrame", frame, "pkt_pos")
        if not 0 < number <= self._fed:
            number = self._fed
        why = self._said()
        if why:
            self._chain.damage(self._fed)
        flags = ffmpeg.int32("AVFrame", frame, "decode_error_flags")
        corrupt = ffmpeg.int32("AVFrame", frame, "flags") & CORRUPT_FRAME
        if flags or corrupt:
            self._chain.damage(number)
            why = why or "the decoder marked it"
        key = bool(ffmpeg.int32("AVFrame", frame, "key_frame"))
        shown = self._chain.shows(number, key=key)
        self._dark = 0 if shown else self._dark + 1
        if self._dark > MAX_DARK_FRAMES:
            ffmpeg.avcodec_flush_buffers(self._codec)
            self._chain.forget()
            self._dark = 0
        stamp = ffmpeg.int64("AVFrame", frame, "pts")
        if stamp == NO_TIME:
            stamp = ffmpeg.int64("AVFrame", frame, "best_effort_timestamp")
        why = why or self._torn_words
        return Picture(frame, self._since_start(stamp), shown, "" if shown else why)

    def _feed(self) -> Spoilt | None:
        """One packet into the decoder, or the end."""
        ffmpeg = self._ffmpeg
        packet, broke = self._next_packet()
        if packet is None:
            ffmpeg.avcodec_send_packet(self._codec, None)
            return Spoilt(None, broke) if broke else None
        self._fed += 1
        flags = ffmpeg.int32("AVPacket", packet, "flags")
        stamp = ffmpeg.int64("AVPacket", packet, "pts")
        where = packet + ffmpeg.fields["AVPacket"]["pos"]
        ctypes.c_int64.from_address(where).value = self._fed
        marked = flags & CORRUPT_PACKET and self._trusts_marks
        torn = self._torn(packet)
        if torn or (marked and not self._is_spliced(packet)):
            self._chain.damage(self._fed)
        if self._breaks_off(packet):
            self._chain.damage(self._fed)
        code = ffmpeg.avcodec_send_packet(self._codec, packet)
        held = ctypes.c_void_p(packet)
        if packet == self._packet:
            ffmpeg.av_packet_unref(held)
        else:
            ffmpeg.av_packet_free(ctypes.byref(held))
        said = self._said()
        self._torn_words = torn or said or self._torn_words
        if said or code < 0:
            self._chain.damage(self._fed)
        if code < 0 and code != library.AGAIN:
            return Spoilt(self._since_start(stamp), torn or said or ffmpeg.words(code))
        return None

    def _torn(self, packet: int) -> str:
        """What can be seen in its bytes."""
        return bitstream.torn(self.codec_name, self._content(packet), self._lengths)

    def _next_packet(self) -> tuple[int | None, str]:
        """A packet of our stream; None at the end, with words when it ended before its time.

        Raises: SourceLost.
        """
        if not self._live and not self._is_over and len(self._ahead) <= SPLICE_PACKETS:
            self._look_on()
        if self._ahead:
            return self._ahead.popleft(), ""
        if self._is_over:
            broke, self._broke = self._broke, ""
            return None, broke
        asked_us = now_us()
        code = self._read_packet()
        if code >= 0:
            if late := self._lateness.packet(asked_us, now_us(), self._packet_us()):
                raise SourceLost(late)
            return self._packet, ""
        words = self._ffmpeg.words(code)
        raise SourceLost("it hung up" if code == library.END else words)

    @functools.cached_property
    def _lateness(self) -> Lateness:
        return Lateness(now_us(), has_stamps=self._container in SENDERS_STAMPS)

    def _packet_us(self) -> int | None:
        """The stamp of the packet at hand, in the order of decoding."""
        for field in ("dts", "pts"):
            stamp = self._ffmpeg.int64("AVPacket", self._packet, field)
            if stamp != NO_TIME:
                return self._us(stamp)
        return None

    def _look_on(self) -> int:
        """One packet of a file more into `_ahead`; its size, or 0 at the end."""
        code = self._read_packet()
        if code < 0:
            self._is_over = True
            self._broke = "" if code == library.END else self._ffmpeg.words(code)
            return 0
        size = self._ffmpeg.int32("AVPacket", self._packet, "size")
        self._ahead.append(self._ffmpeg.av_packet_clone(self._packet))
        self._ffmpeg.av_packet_unref(self._packet)
        return max(1, size)

    def _read_packet(self) -> int:
        """What is said of loss meanwhile is marked on the packet."""
        ffmpeg = self._ffmpeg
        while (code := ffmpeg.av_read_frame(self._format, self._packet)) >= 0:
            if ffmpeg.int32("AVPacket", self._packet, "stream_index") == self._index:
                marks = ctypes.c_int32.from_address(
                    self._packet + ffmpeg.fields["AVPacket"]["flags"]
                )
                if self._said() and not marks.value & CORRUPT_PACKET:
                    marks.value |= CORRUPT_PACKET | AFTER_A_BREAK
                return 0
            ffmpeg.av_packet_unref(self._packet)
        return int(code)

    def _is_spliced(self, packet: int) -> bool:
        """Whether the packet is marked because another recording was appended close behind it: that
        one begins with a key frame, at a time of its own, and nothing is missing. The mark comes a
        packet early where a parser holds one back.
        """
        before = packet
        for after in self._ahead:
            stamps = [self._ffmpeg.int64("AVPacket", one, "dts") for one in (before, after)]
            jumps = NO_TIME not in stamps and not 0 < self._us(stamps[1] - stamps[0]) < SPLICE_US
            if jumps and self._ffmpeg.int32("AVPacket", after, "flags") & KEY_PACKET:
                return True
            before = after
            if after == self._ahead[min(SPLICE_PACKETS, len(self._ahead)) - 1]:
                break
        return False

    def _breaks_off(self, packet: int) -> bool:
        """Whether what follows was found behind a break or a hole, whose beginning may lie in this
        packet. Known of files alone: they are looked ahead in.
        """
        if not self._ahead or not self._trusts_marks:
            return False
        after = self._ahead[0]
        flags = self._ffmpeg.int32("AVPacket", after, "flags")
        is_broken = flags & AFTER_A_BREAK and not self._is_spliced(packet)
        content = self._content(after)
        return bool(is_broken) or (bitstream.begins_in_a_hole(content) and bool(self._torn(after)))

    def _content(self, packet: int) -> bytes:
        size = self._ffmpeg.int32("AVPacket", packet, "size")
        data = self._ffmpeg.pointer("AVPacket", packet, "data")
        return ctypes.string_at(data, size) if data and size > 0 else b""

    def _hear(self, level: int, words: bytes) -> None:
        is_error = level <= library.LOG_ERROR and not words.startswith(HARMLESS)
        if is_error or any(known in words for known in WARNS_OF_DAMAGE):
            # up to the first number that would be put in: it is not known here
            told = words.decode("ascii", "replace").partition("%")[0].strip(" \n,:;=([")
            self._heard = (told or "the decoder complains")[:80]
            self._misses = self._misses or any(known in words for known in MISSING)

    def _said(self) -> str:
        said, self._heard = self._heard, ""
        if self._misses:
            self._misses = False
            self._chain.damage(max(1, self._fed - MISSED_PACKETS))
        return said

    def _since_start(self, stamp: int) -> int | None:
        if stamp == NO_TIME:
            return None
        if self._start is None:
            self._start = stamp
        since_us = self._us(stamp - self._start)
        return since_us if abs(since_us) < MAX_STAMP_US else None

    def _us(self, units: int) -> int:
        numerator, denominator = self._ffmpeg.ratio("AVStream", self._stream, "time_base")
        return units * MICROSECONDS * numerator // max(1, denominator)

    def close(self) -> None:
        ffmpeg = self._ffmpeg
        while self._ahead:
            ffmpeg.av_packet_free(ctypes.byref(ctypes.c_void_p(self._ahead.popleft())))
        ffmpeg.avcodec_free_context(ctypes.byref(self._codec))
        ffmpeg.avformat_close_input(ctypes.byref(self._format))
        ffmpeg.av_frame_unref(self._frame)
        ffmpeg.av_packet_unref(self._packet)
