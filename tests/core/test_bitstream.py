"""Holes that can be seen in coded pictures, and what only looks like one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edge_agent.core import bitstream
from edge_agent.core.bitstream import LENGTHS, MARKER, ZEROS, torn


def jpeg(picture: np.ndarray, **settings: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", **settings)
    return file.getvalue()


NOISE = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
BLACK = np.zeros((1200, 1600, 3), np.uint8)


def nal(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@pytest.mark.parametrize(
    ("packet", "found"),
    [
        (nal(b"\x65abc", b"\x41\0\0\x03\x01def\x80"), ""),
        (nal(b"\x65abc\0\0\0"), ""),  # what a muxer left of a start code
        (nal(b"\x65a\0\0\0\0bc"), ZEROS),
        (nal(b"\x65abc" + bytes(4)), ZEROS),
        (nal(b"\x65a\0\0\x02bc"), ZEROS),
        (nal(b"\x65abc")[:-1], LENGTHS),
        (nal(b"\x65abc") + b"\0", LENGTHS),
        (b"", ""),
    ],
)
def test_parts_of_h264_and_hevc_are_whole_and_escaped(packet: bytes, found: str) -> None:
    for codec in ("h264", "hevc"):
        expected = ZEROS if packet.endswith(b"abc\0") and found else found
        assert bool(torn(codec, packet, 4)) == bool(expected)
    if found != LENGTHS:
        assert torn("h264", packet, 4) == found


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg2video", "mpeg4"])
def test_zeros_are_for_start_codes(codec: str) -> None:
    assert torn(codec, b"\0\0\0\x01abc\0\0\x01def\0\0\0\0\0\x01gh\0\0") == ""
    assert torn(codec, b"\0\0\x01abc\0\0\0def") == ZEROS


def test_pictures_of_motion_jpeg() -> None:
    for settings in ({}, {"optimize": True}, {"subsampling": 2}, {"restart_marker_blocks": 2}):
        sound = jpeg(NOISE, **settings)
        assert torn("mjpeg", sound) == ""
        assert torn("mjpeg", jpeg(BLACK, **settings)) == ""
        middle = len(sound) * 2 // 3
        assert torn("mjpeg", sound[:middle] + bytes(99) + sound[middle + 99 :]) == ZEROS
        assert torn("mjpeg", sound[:middle] + b"\xff\xc4" + sound[middle + 2 :]) == MARKER
        assert torn("mjpeg", sound[:middle]) != ""
    assert torn("mjpeg", jpeg(NOISE, progressive=True)) == ""


@given(
    st.sampled_from(["h264", "hevc", "mjpeg", "vp8", "mpeg4", "dvvideo"]),
    st.binary(),
    st.integers(0, 4),
)
def test_any_bytes_are_judged_and_nothing_is_raised(codec: str, packet: bytes, size: int) -> None:
    assert isinstance(torn(codec, packet, size), str)
    assert isinstance(torn(codec, b"\xff\xd8" + packet, size), str)
    assert 0 <= bitstream.length_bytes(codec, packet) <= 4
