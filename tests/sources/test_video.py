"""Video files, and live streams from a real server on loopback."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import BadFrame, ConfigError, Rejected, SourceEnded, SourceLost
from edge_agent.host import SystemClock
from edge_agent.ports import Clock, SourceFacts
from edge_agent.sources.video import VideoFrames
from tests.sources.hand import HandClock, taken

SIZE = (64, 48)
PASSWORD = "s3cret/p@ss:word"


class Sources:
    """Opens video sources; closes them in the end."""

    def __init__(self) -> None:
        self.all: list[VideoFrames] = []

    def __call__(
        self, where: Path | str, *, clock: Clock | None = None, **settings: Any
    ) -> tuple[VideoFrames, SourceFacts]:
        config = VideoSource(where=str(where), **{"pace": "fast", **settings})
        self.all.append(VideoFrames(config, clock or HandClock()))
        return self.all[-1], self.all[-1].open()


@pytest.fixture
def video() -> Iterator[Sources]:
    sources = Sources()
    yield sources
    for source in sources.all:
        source.close()


def picture(level: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((SIZE[1], SIZE[0], 3), level, np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Ten frames of 25 a second, levels 20, 40, ... 200."""
    path = tmp_path / "clip.avi"
    motion_jpeg = cv2.VideoWriter.fourcc(*"MJPG")
    # OpenCV's own writer: FFmpeg must not start before the source has silenced it
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, motion_jpeg, 25.0, SIZE)
    assert writer.isOpened()
    for number in range(1, 11):
        writer.write(picture(number * 20))
    writer.release()
    return path


def test_a_file_gives_each_frame_once_and_ends(video: Sources, clip: Path) -> None:
    source, facts = video(clip)
    assert (facts.where, facts.size, facts.expected_fps) == ("video file", SIZE, 25.0)
    assert not facts.live
    frames = taken(source, 10)
    assert [frame.number for frame in frames] == list(range(1, 11))
    assert [round(float(frame.pixels.mean()) / 20) for frame in frames] == list(range(1, 11))
    assert [frame.pts_us for frame in frames] == [number * 40_000 for number in range(10)]
    assert all(frame.replay and frame.pixels.shape == (48, 64, 3) for frame in frames)
    assert frames[0].calibration.reason == "a video says nothing of its scale"
    for _ in range(2):
        with pytest.raises(SourceEnded, match="has ended after 10 frames"):
            source.read(1.0)


def test_a_file_is_paced_and_looped(video: Sources, clip: Path) -> None:
    source, _ = video(clip, pace="real", loop=True)
    frames = taken(source, 31)
    assert frames[-1].captured_us - frames[0].captured_us == 30 * 40_000
    assert np.array_equal(frames[0].pixels, frames[10].pixels)
    assert frames[0].pixels is not frames[10].pixels
    assert source.read(0.01) is None
    slow, facts = video(clip, pace="real", fps=5.0)
    assert facts.expected_fps == 5.0
    first, second = taken(slow, 2)
    assert second.captured_us - first.captured_us == 200_000


def test_a_file_can_be_opened_again_after_close(video: Sources, clip: Path) -> None:
    source, _ = video(clip)
    taken(source, 3)
    source.close()
    source.close()
    with pytest.raises(SourceLost, match="not open"):
        source.read(0.1)
    source.open()
    assert taken(source, 1)[0].number == 1


def test_a_looped_file_that_is_taken_away_is_lost(video: Sources, clip: Path) -> None:
    source, _ = video(clip, loop=True)
    clip.unlink()
    with pytest.raises(SourceLost, match="No such file"):
        taken(source, 25)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 100, b"RIFF\x10\0\0\0AVI LIST"])
def test_what_is_no_video_is_refused(
    video: Sources, tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "letter.avi"
    path.write_bytes(content)
    with pytest.raises(Rejected, match=r"expected a video.*encode it again"):
        taken(video(path)[0], 1)
    assert capfd.readouterr() == ("", ""), "OpenCV and FFmpeg hold their tongue"


def test_a_file_cut_off_ends_early_and_nothing_worse(video: Sources, clip: Path) -> None:
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises((SourceEnded, Rejected, BadFrame)):
        taken(video(clip)[0], 11)


@pytest.mark.parametrize("where", ["/nonexistent/clip.avi", "x" * 3000, "/dev/video250", "a\0b"])
def test_what_is_not_there_is_lost(video: Sources, where: str) -> None:
    with pytest.raises(SourceLost):
        video(where)


def test_the_operators_calibration_is_on_each_frame(video: Sources, clip: Path) -> None:
    source, _ = video(clip, roi=(4, 4, 32, 32), spacing_mm=(0.2, 0.2))
    assert taken(source, 1)[0].calibration.roi == (4, 4, 32, 32)
    source, _ = video(clip, roi=(40, 4, 32, 32))
    assert "does not fit frames of 64x48 px" in taken(source, 1)[0].calibration.reason


def test_a_pipeline_without_gstreamer_says_what_to_do(video: Sources) -> None:
    if cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(ConfigError, match=r"without GStreamer.*--system-site-packages"):
        video(f"rtspsrc location=rtsp://u:{PASSWORD}@host ! appsink", pipeline=True)


# ── passwords ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_closed_port_is_lost_and_the_password_stays_hidden(
    video: Sources, tmp_path: Path, transport: str, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "camera"
    secret.write_text(PASSWORD + "\n")
    for where in ("rtsp://nurse:{password}@127.0.0.1:9/x", f"rtsp://nurse:{PASSWORD}@127.0.0.1:9"):
        with pytest.raises(SourceLost, match=r"open rtsp stream: ") as lost:
            video(where, password_file=str(secret), transport=transport)
        assert PASSWORD not in str(lost.value)
        assert not any(word in str(lost.value) for word in ("s3cret", "nurse", "/x"))
        assert lost.value.__cause__ is None
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("file", [None, "/nonexistent/password"])
def test_a_password_that_can_not_be_read_is_the_operators_to_mend(
    video: Sources, file: str | None
) -> None:
    with pytest.raises(ConfigError, match=r"source\.password_file: expected"):
        video("rtsp://nurse:{password}@127.0.0.1:9/x", password_file=file)


# ── live ──────────────────────────────────────────────────────────────────────────────────────


class Camera:
    """A network camera: MJPEG over HTTP, numbered by level; it may stall or hang up."""

    def __init__(self) -> None:
        camera = self
        self.period_s = 0.02
        self.is_stalled = threading.Event()
        self.hangs_up = threading.Event()
        self.authorization: str | None = None

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                camera.authorization = self.headers["Authorization"]
                if camera.authorization is None:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="ward"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                try:
                    for number in itertools.count():
                        camera.send(self.wfile, number)
                        if camera.hangs_up.is_set():
                            return
                except OSError:  # the reader has gone
                    return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def send(self, wire: Any, number: int) -> None:
        while self.is_stalled.is_set() and not self.hangs_up.is_set():
            time.sleep(0.01)
        done, jpeg = cv2.imencode(".jpg", picture(number % 250))
        assert done
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {jpeg.size}\r\n\r\n"
        wire.write(head.encode() + jpeg.tobytes() + b"\r\n")
        wire.flush()
        time.sleep(self.period_s)

    @property
    def where(self) -> str:
        return f"http://nurse:{{password}}@127.0.0.1:{self.server.server_port}/live"

    def close(self) -> None:
        self.hangs_up.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[Camera]:
    (tmp_path / "password").write_text("pass word")
    made = Camera()
    yield made
    made.close()


def watched(video: Sources, camera: Camera, tmp_path: Path) -> tuple[VideoFrames, SourceFacts]:
    return video(camera.where, clock=SystemClock(), password_file=str(tmp_path / "password"))


def test_a_live_stream_is_live_and_of_its_address_the_host_is_shown(
    video: Sources, camera: Camera, tmp_path: Path
) -> None:
    source, facts = watched(video, camera, tmp_path)
    assert facts.live
    assert "pass word" not in facts.where
    assert facts.where == "http://127.0.0.1"
    frames = taken(source, 5, timeout_s=5.0)
    assert not any(frame.replay for frame in frames)
    stamps = [frame.captured_us for frame in frames]
    assert stamps == sorted(set(stamps))
    assert camera.authorization == "Basic bnVyc2U6cGFzcyB3b3Jk", "nurse:pass word"


def test_a_late_reader_gets_the_newest_frame_of_a_live_stream(
    video: Sources, camera: Camera, tmp_path: Path
) -> None:
    clock = SystemClock()
    source, _ = watched(video, camera, tmp_path)
    (first,) = taken(source, 1, timeout_s=5.0)
    time.sleep(0.6)
    (late,) = taken(source, 1, timeout_s=5.0)
    assert clock.boot_us() - late.captured_us < 300_000
    assert float(late.pixels.mean()) - float(first.pixels.mean()) > 8
    assert late.number == 2


def test_a_live_stream_that_stalls_times_out_and_goes_on(
    video: Sources, camera: Camera, tmp_path: Path
) -> None:
    source, _ = watched(video, camera, tmp_path)
    taken(source, 3, timeout_s=5.0)
    camera.is_stalled.set()
    started = time.monotonic()
    silent = [source.read(0.2) for _ in range(4)]
    assert silent[-1] is None
    assert time.monotonic() - started < 2.0, "a read never outlasts its time-out by much"
    camera.is_stalled.clear()
    assert taken(source, 1, timeout_s=5.0)


def test_a_live_stream_that_hangs_up_is_lost_and_can_be_opened_again(
    video: Sources, camera: Camera, tmp_path: Path
) -> None:
    source, _ = watched(video, camera, tmp_path)
    taken(source, 3, timeout_s=5.0)
    camera.hangs_up.set()
    with pytest.raises(SourceLost, match="gives no more frames"):
        taken(source, 500, timeout_s=5.0)
    camera.hangs_up.clear()
    source.open()
    assert taken(source, 1, timeout_s=5.0)[0].number == 1


def test_closing_a_live_stream_that_hangs_does_not_hang(
    video: Sources, camera: Camera, tmp_path: Path
) -> None:
    source, _ = watched(video, camera, tmp_path)
    taken(source, 3, timeout_s=5.0)
    camera.is_stalled.set()
    time.sleep(0.2)
    started = time.monotonic()
    source.close()
    assert time.monotonic() - started < 2.0


def test_a_file_address_is_a_recording_with_its_pace_and_not_a_camera(
    video: Sources, clip: Path
) -> None:
    """It was played as fast as it decodes, and was `lost` after each round."""
    clock = HandClock()
    source, facts = video(clip.as_uri(), clock=clock, pace="real", fps=5.0, loop=True)
    assert not facts.live
    frames = taken(source, 12)
    assert len(frames) == 12, "and begins again"
    assert frames[-1].captured_us - frames[0].captured_us >= 11 * 200_000


def test_a_camera_that_is_not_there_is_told_as_that(video: Sources) -> None:
    with pytest.raises(SourceLost, match=r"open /dev/video97: it is not there.*plug it in"):
        video("/dev/video97")


def test_a_file_that_may_not_be_read_is_no_damaged_video(video: Sources, clip: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read it")
    clip.chmod(0)
    with pytest.raises(SourceLost, match="Permission denied"):
        video(clip)
