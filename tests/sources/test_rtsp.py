"""A network camera as it is: a real RTSP server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import SourceLost
from edge_agent.host import SystemClock
from edge_agent.sources.video import VideoFrames
from tests.sources import rtsp
from tests.sources.hand import taken

PASSWORD = "s3cret/p@ss:word"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of H.264: gray, 128."""
    rtsp.need()
    folder = tmp_path_factory.mktemp("rtsp")
    return rtsp.encoded(folder / "gray.ts", "color=gray:s=160x120:r=25:d=1")


@pytest.fixture(scope="module")
def camera(clip: Path) -> Iterator[rtsp.Camera]:
    with rtsp.served(clip, user="nurse", password=PASSWORD) as made:
        yield made


def opened(where: str) -> VideoFrames:
    source = VideoFrames(VideoSource(where=where), SystemClock())
    try:
        source.open()
    except BaseException:
        source.close()
        raise
    return source


def test_a_network_camera_gives_its_picture(camera: rtsp.Camera) -> None:
    source = opened(camera.where())
    frames = taken(source, 3, timeout_s=5.0)
    source.close()
    assert all(frame.size == (160, 120) for frame in frames)
    assert all(abs(float(np.mean(frame.pixels)) - 127) < 4 for frame in frames)


def refused(where: str) -> str:
    with pytest.raises(SourceLost) as lost:
        opened(where)
    assert "another" not in str(lost.value)
    assert "nurse" not in str(lost.value)
    return lost.value.what


def test_refused_unknown_and_a_wrong_password_have_sentences_of_their_own(
    camera: rtsp.Camera,
) -> None:
    """They shared one."""
    assert "none is configured" in refused(camera.bare())
    assert "the user or the password is wrong" in refused(camera.where(password="another"))
    assert "no stream of this path" in refused(camera.where("/another"))


def test_a_wrong_password_of_a_camera_that_asks_by_digest(clip: Path) -> None:
    with rtsp.served(clip, user="nurse", password=PASSWORD, digest=True) as camera:
        assert "the user or the password is wrong" in refused(camera.where(password="another"))
        assert "no stream of this path" in refused(camera.where("/another")), "it is the right one"
        source = opened(camera.where())
        assert taken(source, 1, timeout_s=5.0)
        source.close()
