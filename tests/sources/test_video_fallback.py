"""OpenCV as the decoder, where no FFmpeg is found that may be used; if it passes a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import Rejected
from edge_agent.decoder.process import CLIP, usable
from edge_agent.sources.video import VideoFrames, selftest
from tests.sources.hand import HandClock, taken


@pytest.fixture
def without() -> Iterator[None]:
    """As on a machine whose OpenCV brought no FFmpeg of its own."""
    found = usable()
    before, found.why = found.why, "OpenCV did not come as a wheel, with FFmpeg beside it"
    yield
    found.why = before


@pytest.mark.usefixtures("without")
def test_an_opencv_that_decodes_is_used_and_named() -> None:
    source = VideoFrames(VideoSource(where=str(CLIP), pace="fast"), HandClock())
    try:
        facts = source.open()
        frames = taken(source, 4)
    finally:
        source.close()
    assert facts.details["decoder"].startswith("OpenCV 4.")
    assert facts.details["rate"] == "25 fps (said by OpenCV)"
    assert all(np.abs(frame.pixels.astype(int) - selftest.BGR).max() <= 6 for frame in frames)


def test_memory_a_wrong_size_and_nothing_are_no_frames() -> None:
    """From 4.13 on, OpenCV gives memory for interlaced video and calls it a frame."""
    right = np.full((48, 64, 3), selftest.BGR, np.uint8)
    assert selftest.judged([right] * selftest.FRAMES) == ""
    memory = right.copy()
    memory[7, 9] = 0
    assert "levels off" in selftest.judged([right, memory])
    assert "got nothing" in selftest.judged([right, None])
    assert "got 24x64x3" in selftest.judged([right[:24]])


@pytest.mark.usefixtures("without")
def test_what_is_no_video_is_refused_by_it_too(tmp_path: Path) -> None:
    letter = tmp_path / "letter.mp4"
    letter.write_text("Dear colleague")
    with pytest.raises(Rejected, match="expected a video file"):
        VideoFrames(VideoSource(where=str(letter)), HandClock()).open()
