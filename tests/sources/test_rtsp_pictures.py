"""The picture of a network camera is the one that was sent: colours, fields and sizes, live."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edge_agent.config.structs import VideoSource
from edge_agent.core.frames import Frame
from edge_agent.host import SystemClock
from edge_agent.ports import SourceFacts
from edge_agent.sources.video import VideoFrames
from tests import clips
from tests.sources import rtsp
from tests.sources.hand import taken

NEAR = 5  # levels, of a plain colour
FIELDS = ("-vf", "interlace=scan=tff")
WOVEN = ("-crf", "1", "-flags", "+ilme+ildct", "-x264opts", "tff=1:keyint=12")
FREQUENT = ("-crf", "1", "-x264opts", "keyint=12")
HD_TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709")


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rtsp.Camera]:
    rtsp.need()
    top = tmp_path_factory.mktemp("cameras")
    sd, hd = f"{clips.PLAIN}:s=320x256", f"{clips.PLAIN}:s=1280x720"
    in709 = ("-vf", "scale=out_color_matrix=bt709,format=yuv420p")
    made = {
        "/plain": clips.make(top / "plain.ts", f"{sd}:r=25:d=2", *clips.x264(*FREQUENT)),
        "/fields": clips.make(top / "fields.ts", f"{sd}:r=50:d=2", *FIELDS, *clips.x264(*WOVEN)),
        "/moving": clips.make(
            top / "moving.ts", "testsrc2=s=320x256:r=50:d=2", *FIELDS, *clips.x264(*WOVEN)
        ),
        "/untagged": clips.make(top / "hd.ts", f"{hd}:r=25:d=1", *in709, *clips.x264(*FREQUENT)),
        "/tagged": clips.make(
            top / "tagged.ts", f"{sd}:r=25:d=2", *in709, *clips.x264(*FREQUENT, *HD_TAGS)
        ),
    }
    both = top / "sizes.ts"
    other = clips.make(top / "b.ts", f"{clips.PLAIN}:s=160x96:r=25:d=1", *clips.x264(*FREQUENT))
    both.write_bytes(made["/plain"].read_bytes() + other.read_bytes())
    with rtsp.served({**made, "/sizes": both}) as served:
        yield served


def looked_at(where: str, count: int, transport: str = "tcp") -> tuple[list[Frame], SourceFacts]:
    config = VideoSource(where=where, transport="udp" if transport == "udp" else "tcp")
    source = VideoFrames(config, SystemClock())
    try:
        facts = source.open()
        return taken(source, count, timeout_s=5.0), facts
    finally:
        source.close()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("path", ["/plain", "/fields", "/untagged", "/tagged"])
def test_a_plain_colour_arrives_as_it_was_sent(
    camera: rtsp.Camera, path: str, transport: str
) -> None:
    """Interlaced ones were noise, or another stream's picture; HD without tags was greenish."""
    frames, facts = looked_at(camera.where(path), 8, transport)
    for frame in frames:
        off = np.abs(frame.pixels[..., ::-1].astype(int) - clips.COLOUR)
        assert off.max() <= NEAR, facts.details
    assert ("interlaced" in facts.details["scan"]) == (path == "/fields")
    assert ("BT.709" in facts.details["colours"]) == (path in ("/untagged", "/tagged"))


def test_moving_fields_arrive_without_combs(camera: rtsp.Camera) -> None:
    """In a comb each row differs from both neighbours, which are alike: woven fields have 3e-4."""
    frames, _ = looked_at(camera.where("/moving"), 10)
    combed = []
    for frame in frames:
        rows = frame.pixels.astype(int).mean(2)
        comb = np.minimum(np.abs(rows[1:-1] - rows[:-2]), np.abs(rows[1:-1] - rows[2:]))
        alike = np.abs(rows[:-2] - rows[2:]) < 10
        combed.append(float(((comb > 60) & alike).mean()))
        assert np.abs(frame.pixels.reshape(-1, 3).mean(0)[::-1] - (123, 130, 124)).max() < 8
    assert np.mean(combed) < 1e-4


def test_frames_of_another_size_arrive_at_their_own(camera: rtsp.Camera) -> None:
    frames, _ = looked_at(camera.where("/sizes"), 90)
    assert {frame.size for frame in frames} == {(320, 256), (160, 96)}
    for frame in frames:
        assert np.abs(frame.pixels[..., ::-1].astype(int) - clips.COLOUR).max() <= NEAR
