"""A network camera as real as a test can have one: Debian's gst-rtsp-server, on loopback.

`with rtsp.served(clip) as camera: ... camera.where()`. What is missing here skips the test.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Literal
from urllib.parse import quote

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly"
)
CHECK = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
wanted = ("h264parse", "rtph264pay", "mpegvideoparse", "rtpmpvpay", "tsdemux", "parsebin")
raise SystemExit(any(Gst.ElementFactory.find(name) is None for name in wanted))
"""
START_TIMEOUT_S = 30.0
Codec = Literal["h264", "hevc", "mpeg2", "mjpeg"]


@functools.cache
def is_here() -> bool:
    """Whether this machine has what the server needs."""
    if not Path(SYSTEM_PYTHON).exists():
        return False
    found = subprocess.run(
        [SYSTEM_PYTHON, "-c", CHECK], capture_output=True, timeout=START_TIMEOUT_S, check=False
    )
    return found.returncode == 0


def need() -> None:
    """Skips the test where there is no server."""
    if not is_here():
        pytest.skip(f"no RTSP server here (sudo apt install {PACKAGES})")


def encoded(path: Path, filters: str, *options: str) -> Path:
    """A clip of an ffmpeg test source, as `color=red:s=320x240:r=25:d=1`; the suffix says the
    container. Skips where there is no ffmpeg.
    """
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg here (sudo apt install ffmpeg)")
    words = ["ffmpeg", "-y", "-loglevel", "error", "-f", "lavfi", "-i", filters]
    subprocess.run([*words, *(options or H264), str(path)], check=True, timeout=60)
    return path


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0", "-g", "25")
MPEG2 = ("-c:v", "mpeg2video", "-qscale:v", "2", "-bf", "0", "-g", "12")
MJPEG = ("-c:v", "mjpeg", "-qscale:v", "2", "-huffman", "default", "-pix_fmt", "yuvj420p")


class Camera:
    """A running server. user, password: what it asks for, "" for nothing."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.port = port
        self._user = user
        self._password = password

    def where(self, path: str = "/live", *, password: str | None = None) -> str:
        """Its address, with its user and password, or with another one."""
        said = self._password if password is None else password
        login = f"{self._user}:{quote(said, safe='')}@" if self._user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}{path}"

    def bare(self, path: str = "/live") -> str:
        """Its address without a user."""
        return f"rtsp://127.0.0.1:{self.port}{path}"


@contextlib.contextmanager
def served(
    clip: Path | Mapping[str, Path],
    *,
    codec: Codec = "h264",
    user: str = "",
    password: str = "",
    digest: bool = False,
) -> Iterator[Camera]:
    """Serves a clip (any container that GStreamer reads) at /live, or several by their paths.

    Each client sees it from its first picture, at its own pace and looped for ever. digest: the
    password is asked for by Digest, else by Basic.
    """
    need()
    mounts = clip if isinstance(clip, Mapping) else {"/live": clip}
    order = {
        "mounts": {at: {"file": str(file), "codec": codec} for at, file in mounts.items()},
        "user": user,
        "password": password,
        "digest": digest,
    }
    process = subprocess.Popen(
        [SYSTEM_PYTHON, str(SERVER), json.dumps(order)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Camera(_port(process.stdout), user, password)
    finally:
        process.kill()
        process.communicate()


def _port(stdout: IO[str] | None) -> int:
    line = stdout.readline() if stdout is not None else ""
    if not line.strip():
        pytest.fail("the RTSP server did not start")
    return int(line)


class Mute:
    """A server that takes connections and says nothing, from the first word on or from SETUP on.

    count: connections that came.
    """

    def __init__(self, *, from_setup: bool = False) -> None:
        self._from_setup = from_setup
        self._open: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.count = 0
        threading.Thread(target=self._take, daemon=True).start()

    @property
    def where(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for wire in (*self._open, self._socket):
            wire.close()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                wire, _ = self._socket.accept()
                self._open.append(wire)
                self.count += 1
                if self._from_setup:
                    threading.Thread(target=self._answer, args=(wire,), daemon=True).start()

    def _answer(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (got := wire.recv(4096)) and not got.startswith(b"SETUP"):
                sequence = re.search(rb"CSeq: *(\d+)", got, re.IGNORECASE)
                number = sequence[1].decode() if sequence else "1"
                body = SDP if got.startswith(b"DESCRIBE") else ""
                kind = "Content-Type: application/sdp\r\n" if body else ""
                head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{kind}"
                wire.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 26\r\na=control:track1\r\n"
)
