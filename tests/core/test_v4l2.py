"""What a video node answers, as drivers of the kernel fill it in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import v4l2


def answer(driver: bytes, card: bytes, whole: int, own: int) -> bytes:
    head = struct.pack("=16s32s32sIII", driver, card, b"usb-0000:00:14.0-3", 0x60A00, whole, own)
    return head.ljust(v4l2.CAPABILITY_BYTES, b"\0")


@pytest.mark.parametrize(
    ("driver", "whole", "own", "kind"),
    [
        ("uvcvideo", 0x84A00001, 0x04200001, ""),  # a USB camera
        ("uvcvideo", 0x84A00001, 0x04A00000, "the metadata of a camera, not its pictures"),
        ("tegra-video", 0x85200001, 0x05200001, ""),
        ("v4l2 loopback", 0x85200003, 0x05200003, ""),
        ("em28xx", 0x85250051, 0x05250001, ""),  # a capture stick with a tuner
        ("em28xx", 0x85250051, 0x05250010, "teletext or a tuner"),
        ("bcm2835-codec", 0x84204000, 0x04204000, "a video codec"),
        ("vim2m", 0x84208000, 0x04208000, "a video codec"),
        ("vivid", 0x8D3D0003, 0x05200002, "a video output"),
        ("old", 0x05000001, 0, ""),  # from before there were words of the node itself
        ("odd", 0x84000000, 0x04000000, "a video device that captures nothing"),
        ("isp", 0x84201000, 0x04201000, ""),  # several planes
    ],
)
def test_a_node_is_a_camera_or_it_is_told_what_it_is(
    driver: str, whole: int, own: int, kind: str
) -> None:
    """A USB camera has two nodes, and OpenCV says of the second one only that it can't open it."""
    able = v4l2.capability(answer(driver.encode(), b"HD Grabber: HD Grabber", whole, own))
    assert (able.driver, able.card) == (driver, "HD Grabber: HD Grabber")
    assert able.is_camera == (not kind)
    assert able.is_camera or able.kind == kind


@pytest.mark.parametrize(
    ("order", "words"),
    [(0, ""), (1, ""), (4, "interlaced"), (8, "interlaced, top field first"), (77, "")],
)
def test_an_interlaced_grabber_is_said(order: int, words: str) -> None:
    for kind in (v4l2.BUFFER_CAPTURE, v4l2.BUFFER_CAPTURE_MPLANE):
        said = struct.pack("=I4xIIIIII", kind, 720, 576, 0x56595559, order, 1440, 829440)
        assert v4l2.fields(said.ljust(v4l2.FORMAT_BYTES, b"\0")) == words
    assert v4l2.fields(b"") == ""


def test_the_questions_have_the_lengths_that_their_numbers_say() -> None:
    for number, question in (
        (v4l2.QUERYCAP, bytes(v4l2.CAPABILITY_BYTES)),
        (v4l2.G_FMT, v4l2.format_question(v4l2.CAPTURE)),
        (v4l2.REQBUFS, v4l2.release_question(v4l2.CAPTURE_MPLANE)),
    ):
        assert number >> 16 & 0x3FFF == len(question)
    assert v4l2.format_question(v4l2.CAPTURE_MPLANE)[0] == v4l2.BUFFER_CAPTURE_MPLANE


@given(st.binary(max_size=300))
def test_whatever_a_driver_answers_is_words_or_an_error(said: bytes) -> None:
    v4l2.fields(said)
    try:
        able = v4l2.capability(said)
    except ValueError:
        assert len(said) < v4l2.CAPABILITY_BYTES
    else:
        assert able.card.isprintable()
        assert able.kind


def test_only_names_that_udev_made_are_listed() -> None:
    found = [
        *("usb-046d_C920_A1B2-video-index1", "usb-046d_C920_A1B2-video-index0"),
        *("Mustermann", "usb-Muster mann-video-index0", "pci-0000:01:00.0-video-index0"),
    ]
    names = v4l2.names(found)
    assert names == ["pci-0000:01:00.0-video-index0", "usb-046d_C920_A1B2-video-index0"]
    many = [f"usb-{n}-video-index0" for n in range(50)]
    assert v4l2.listed(many, []).endswith("usb-7-video-index0 and 42 more")
    assert v4l2.listed([], ["/dev/video2"]) == "there are: /dev/video2"
    assert v4l2.listed([], []) == "no camera is plugged in"


def test_a_permission_is_mended_by_the_group_that_has_it_and_never_by_root() -> None:
    assert "usermod -aG video edge-agent" in v4l2.permission("video", 0o660, "edge-agent")
    for group, mode in (("root", 0o660), ("video", 0o600), ("video", 0)):
        assert "usermod" not in v4l2.permission(group, mode, "edge-agent")
        assert group in v4l2.permission(group, mode, "edge-agent")
