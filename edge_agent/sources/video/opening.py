"""Opens captures quietly: no password and no address on stderr or in a message."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import cv2

from edge_agent.config.structs import VideoSource
from edge_agent.core.errors import ConfigError, Rejected, SourceLost
from edge_agent.core.places import in_words, local_path, reduced
from edge_agent.held import open_plain
from edge_agent.sources.video import devices, preflight

OPEN_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 3.0
MAX_PASSWORD_BYTES = 4096
PLACEHOLDER = "{password}"
PIPELINE = "GStreamer pipeline"
FILE = "video file"
SILENT = 0  # OpenCV's LOG_LEVEL_SILENT
AT_FILE = "check source.where; the next try follows"
AT_FOLDER = 'name a file in it, or use kind = "images" or kind = "dicom" for the folder'
AT_BUSY = "check that nobody else has it open (fuser -v, its path), and its video input"
FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
SIDES = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
NETWORK = [
    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(OPEN_TIMEOUT_S * 1000)),
    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(READ_TIMEOUT_S * 1000)),
]


class _FfmpegOptions:
    """OpenCV reads the RTSP transport from the environment, which all streams share: those that
    open at the same time must want the same, the others wait.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._opening = 0
        self._operators = os.environ.get(FFMPEG_OPTIONS, "")

    @contextlib.contextmanager
    def transport(self, name: str) -> Iterator[None]:
        """Raises: SourceLost when others take too long."""
        own = "|".join(part for part in (self._operators, f"rtsp_transport;{name}") if part)
        with self._turn:
            if not self._turn.wait_for(lambda: self._may(own), timeout=4 * OPEN_TIMEOUT_S):
                raise SourceLost("open a stream: others with another transport are being opened")
            if os.environ.get(FFMPEG_OPTIONS) != own:
                os.environ[FFMPEG_OPTIONS] = own
            self._opening += 1
        try:
            yield
        finally:
            with self._turn:
                self._opening -= 1
                self._turn.notify_all()

    def _may(self, own: str) -> bool:
        return self._opening == 0 or os.environ.get(FFMPEG_OPTIONS) == own


_OPTIONS = _FfmpegOptions()


def is_device(where: str) -> bool:
    return where.startswith("/dev/")


def is_live(config: VideoSource) -> bool:
    return config.pipeline or is_device(config.where) or "://" in local_path(config.where)


def place(config: VideoSource) -> str:
    """In a message: never a host."""
    return PIPELINE if config.pipeline else in_words(config.where, FILE)


def told_address(config: VideoSource) -> str:
    """In its facts: scheme and host at most."""
    return PIPELINE if config.pipeline else reduced(config.where, FILE)


def opened(config: VideoSource) -> cv2.VideoCapture:
    """Raises: SourceLost, Rejected, ConfigError."""
    quieten()
    where, url = place(config), ""
    capture = cv2.VideoCapture()
    try:
        if config.pipeline:
            _need_gstreamer()
            capture.open(address(config), cv2.CAP_GSTREAMER)
        elif is_device(config.where):
            devices.check(config.where, where)
            capture.open(config.where, cv2.CAP_V4L2)
            _request(capture, config)
        elif is_live(config):
            url = address(config)
            preflight.check(url, where)
            with _OPTIONS.transport(config.transport):
                _open_stream(capture, url)
        else:
            check_file(local_path(config.where), where)
            capture.open(local_path(config.where), ffmpeg_backend())
    except cv2.error:
        capture.release()
    if capture.isOpened():
        return capture
    if not is_live(config):
        raise Rejected(
            f"open {where}: expected a video file, got something that does not decode",
            hint="play it with another program, or encode it again as H.264 or MJPEG",
        )
    if is_device(config.where):
        raise SourceLost(f"open {where}: it is there and gives no video", hint=AT_BUSY)
    raise preflight.reason(url, where, _no_video(where))


def _no_video(where: str) -> SourceLost:
    return SourceLost(
        f"open {where}: no video came: refused, unknown, or silent for {OPEN_TIMEOUT_S:g} s",
        hint="check that it is on, its address, user and password, and the network",
    )


def _open_stream(capture: cv2.VideoCapture, address: str) -> None:
    if ffmpeg_backend() == cv2.CAP_FFMPEG:
        capture.open(address, cv2.CAP_FFMPEG, NETWORK)
    else:
        capture.open(address)


def ffmpeg_backend() -> int:
    """Its backend, or any where OpenCV was built without it."""
    has = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
    return int(cv2.CAP_FFMPEG if has else cv2.CAP_ANY)


def check_file(path: str, where: str) -> None:
    """Raises: SourceLost."""
    _look_at(path, where, AT_FILE)
    if Path(path).is_dir():
        raise SourceLost(f"open {where}: expected a file, got a folder", hint=AT_FOLDER)
    if not Path(path).is_file():
        raise SourceLost(f"open {where}: expected a file, got something else", hint=AT_FILE)


def _look_at(path: str, where: str, hint: str) -> None:
    """Why OpenCV could not open it, which it never says. Raises: SourceLost."""
    words = ""
    try:
        Path(path).stat()
        if not os.access(path, os.R_OK, effective_ids=True):
            words = os.strerror(errno.EACCES)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "no such file"
    if words:
        raise SourceLost(f"open {where}: {words}", hint=hint)


def quieten() -> None:
    """OpenCV and FFmpeg write to stderr themselves, addresses included."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(SILENT)
    else:  # from 5.0 on
        vars(cv2.utils)["logging"].setLogLevel(SILENT)


def _request(capture: cv2.VideoCapture, config: VideoSource) -> None:
    """What a camera can't do it ignores; its facts say what came of it."""
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    sizes = zip(SIDES, (config.width, config.height), strict=True)
    for setting, value in (*sizes, (cv2.CAP_PROP_FPS, config.fps)):
        if value is not None:
            capture.set(setting, float(value))


def _need_gstreamer() -> None:
    """Raises: ConfigError."""
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise ConfigError(
            "source.pipeline",
            "this OpenCV was built without GStreamer (the wheels of PyPI are)",
            hint="use the OpenCV of the system (JetPack: python3-opencv, in a venv made with "
            "--system-site-packages), or give a device, URL or file without pipeline = true",
        )


def address(config: VideoSource) -> str:
    """`where` with its password, read anew each time: it may have changed. Raises: ConfigError."""
    if PLACEHOLDER not in config.where:
        return config.where
    if config.password_file is None:
        raise ConfigError(
            "source.password_file",
            f"expected the file that holds the password for {PLACEHOLDER}, got none",
            hint="name a file that the service can read",
        )
    try:
        with open_plain(Path(config.password_file)) as file:  # a pipe would be waited for
            password = file.read(MAX_PASSWORD_BYTES).decode().strip("\r\n")
    except (OSError, ValueError, Rejected):
        raise ConfigError(
            "source.password_file",
            "expected a readable text file, got none",
            hint="check that the file exists and that the service may read it",
        ) from None
    words = config.where.split(" ")
    quoted = quote(password, safe="")  # in an address; a plain property of a pipeline takes it raw
    return " ".join(
        word.replace(PLACEHOLDER, quoted if "://" in word else password) for word in words
    )
