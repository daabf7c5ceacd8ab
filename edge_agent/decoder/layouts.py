"""Where the fields of FFmpeg's structs lie, by the major version of libavcodec.

FFmpeg promises the layout of its public structs within a major version of each library. A version
that is not in this table is not used, and that is said. The numbers are those of `offsetof` with
the headers of that version (tests/decoder/test_layouts.py compares them where those are installed);
all types have fixed widths on 64-bit Linux, so that they are the same for x86-64 and aarch64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Fields(NamedTuple):
    """Offsets in bytes, by struct and field."""

    avformat: int  # the major versions that go with this libavcodec
    avutil: int
    swscale: int
    of: Mapping[str, Mapping[str, int]]


FFMPEG_5: Final = Fields(
    avformat=59,
    avutil=57,
    swscale=6,
    of={
        "AVFormatContext": {
            "iformat": 8,
            "nb_streams": 44,
            "streams": 48,
            "start_time": 64,
            "duration": 72,
        },
        "AVInputFormat": {"name": 0},
        "AVStream": {
            "time_base": 16,
            "start_time": 24,
            "duration": 32,
            "nb_frames": 40,
            "disposition": 48,
            "discard": 52,
            "sample_aspect_ratio": 56,
            "avg_frame_rate": 72,
            "r_frame_rate": 200,
            "codecpar": 208,
        },
        "AVCodecParameters": {
            "codec_type": 0,
            "codec_id": 4,
            "extradata": 16,
            "extradata_size": 24,
            "format": 28,
            "width": 56,
            "height": 60,
            "sample_aspect_ratio": 64,
            "field_order": 72,
        },
        "AVCodec": {"name": 0},
        "AVPacket": {
            "pts": 8,
            "dts": 16,
            "data": 24,
            "size": 32,
            "stream_index": 36,
            "flags": 40,
            "pos": 72,
        },
        "AVFrame": {
            "data": 0,
            "linesize": 64,
            "width": 104,
            "height": 108,
            "format": 116,
            "key_frame": 120,
            "pict_type": 124,
            "sample_aspect_ratio": 128,
            "pts": 136,
            "interlaced_frame": 188,
            "top_field_first": 192,
            "flags": 316,
            "color_range": 320,
            "colorspace": 332,
            "best_effort_timestamp": 344,
            "pkt_pos": 352,
            "decode_error_flags": 376,
        },
        "AVFrameSideData": {"data": 8, "size": 16},
        "AVPixFmtDescriptor": {
            "name": 0,
            "nb_components": 8,
            "log2_chroma_w": 9,
            "log2_chroma_h": 10,
            "flags": 16,
        },
    },
)

BY_AVCODEC: Final[Mapping[int, Fields]] = {59: FFMPEG_5}
