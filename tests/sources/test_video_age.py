"""How old a frame of a network stream is, where something was held up in between."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import SourceLost
from edge_agent.decoder.process import usable
from edge_agent.host import SystemClock
from edge_agent.sources.video import VideoFrames
from edge_agent.sources.video.decoded import DecodedStream
from tests import clips

HELD_S = 1.6  # more than a decoder may be held up, less than what is silence
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=b\r\n\r\n"
PART = b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n"
BITS = 12


class Camera:
    """25 pictures a second over HTTP; each shows its number, whose time of sending is known."""

    def __init__(self) -> None:
        self.sent_us: dict[int, int] = {}
        self._stop = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.where = f"http://127.0.0.1:{self._socket.getsockname()[1]}/x"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            line, _ = self._socket.accept()
            with line:
                line.recv(4096)
                line.sendall(HEAD)
                while not self._stop.wait(0.04):
                    number = len(self.sent_us) + 1
                    blocks = [[255 * (number >> bit & 1) for bit in range(BITS)]]
                    picture = np.kron(np.array(blocks, np.uint8), np.ones((64, 16), np.uint8))
                    coded = cv2.imencode(".jpg", picture)[1].tobytes()
                    self.sent_us[number] = SystemClock().boot_us()
                    line.sendall(PART % (len(coded), coded))

    def of(self, pixels: np.ndarray) -> int:
        """When the picture was sent, microseconds since boot."""
        row = pixels[32] if pixels.ndim == 2 else pixels[32, :, 0]
        return self.sent_us[sum(1 << bit for bit in range(BITS) if row[bit * 16 + 8] > 127)]

    def close(self) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def camera() -> Iterator[Camera]:
    if usable().why:
        pytest.skip(usable().why)
    made = Camera()
    yield made
    made.close()


def test_a_decoder_that_was_stopped_shows_nothing_old_as_new(camera: Camera) -> None:
    """What had come meanwhile was shown as new, 2.4 s old."""
    source = VideoFrames(VideoSource(where=camera.where), SystemClock())
    source.open()
    try:
        assert source.read(2.0) is not None
        reader = source._reader
        assert isinstance(reader, DecodedStream)
        pid = reader._decoder.pid
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(HELD_S, os.kill, (pid, signal.SIGCONT)).start()
        with pytest.raises(SourceLost, match=r"held up for \d"):
            for _ in range(100):
                frame = source.read(0.5)
                if frame is not None:
                    assert frame.captured_us - camera.of(frame.pixels) < 500_000
    finally:
        source.close()


def test_a_frame_that_waited_for_the_agent_has_its_age(camera: Camera) -> None:
    """Up to four frames lie between decoder and agent; they were given the time of their taking."""
    decoder = usable().start()
    try:
        from edge_agent.sources.video import decoded  # noqa: PLC0415

        decoded.open_stream(decoder, VideoSource(where=camera.where))
        time.sleep(1.0)  # the agent is held up
        reader = DecodedStream(decoder, where="a stream", clock=SystemClock())
        shot = reader.read(1.0)
        assert shot is not None
        assert abs(shot.captured_us - camera.of(shot.pixels)) < 400_000
    finally:
        reader.close()


class Stalling:
    """MPEG-TS over HTTP, as it is played; after two seconds the road is silent for HELD_S, and then
    gives what was sent meanwhile.
    """

    def __init__(self, clip: Path) -> None:
        self._content = clip.read_bytes()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.where = f"http://127.0.0.1:{self._socket.getsockname()[1]}/x.ts"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        step = len(self._content) // 100
        with contextlib.suppress(OSError):
            line, _ = self._socket.accept()
            with line:
                line.recv(4096)
                line.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n")
                for number in range(100):
                    line.sendall(self._content[number * step : (number + 1) * step])
                    time.sleep(HELD_S if number == 50 else 0.04)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def test_what_was_held_up_on_the_road_is_not_shown_as_new(tmp_path: Path) -> None:
    """The network, or the camera, kept what it could not send; it came at last, and looked new."""
    noise = "testsrc2=s=160x96:r=25:d=4"
    camera = Stalling(clips.make(tmp_path / "c.ts", noise, *clips.x264("-bf", "0", "-g", "12")))
    source = VideoFrames(VideoSource(where=camera.where), SystemClock())
    try:
        source.open()
        with pytest.raises(SourceLost, match="a silence of"):
            for _ in range(200):
                source.read(0.5)
    finally:
        source.close()
        camera.close()
