"""Rules that span several keys of a sound configuration. Pure: never looks at this machine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from edge_agent.config.check_rollouts import rollouts
from edge_agent.config.check_uplink import uplink
from edge_agent.config.problems import Flaw, Key, Problem, dotted, masked, quoted
from edge_agent.config.structs import (
    Config,
    DicomSource,
    ImagesSource,
    PhantomSource,
    Source,
    StreamConfig,
    VideoSource,
)
from edge_agent.core.places import local_path

MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path of a UNIX socket is 108, with its end
SOCKET_NAME: Final = "control.sock"
SAMPLES: Final = ("sample:ultrasound",)
SPACING_MM: Final = (0.001, 10.0)  # one pixel: a micrometre to a centimetre
_LISTENER = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def check(config: Config) -> tuple[Problem, ...]:
    """Every cross-field problem, without file and line; `load` adds those."""
    return tuple(
        Problem(key=dotted(flaw.key), message=flaw.message, hint=flaw.hint, severity=flaw.severity)
        for flaw in findings(config)
    )


def findings(config: Config) -> list[Flaw]:
    """As `check`, with the path of each key."""
    own = (_folders(config), _rooms(config), uplink(config.uplink), rollouts(config))
    return [flaw for found in (*own, _streams(config)) for flaw in found]


def is_live(source: Source) -> bool:
    """A camera or a network stream: its frames are gone when nobody takes them."""
    if not isinstance(source, VideoSource):
        return False
    return source.pipeline or _is_device(source) or "://" in local_path(source.where)


def device_of(source: Source) -> str:
    """The V4L2 device of a source, "" when it has none."""
    if isinstance(source, VideoSource) and _is_device(source):
        return posixpath.normpath(source.where)
    return ""


def _is_device(source: VideoSource) -> bool:
    return not source.pipeline and source.where.startswith("/dev/")


def _warn(key: Key, message: str, hint: str = "") -> Flaw:
    return Flaw(key=key, message=message, hint=hint, severity="warn")


def _relative(key: Key, path: str) -> Flaw:
    hint = '"~" is not expanded; write the whole path' if path.startswith("~") else ""
    return Flaw(
        key=key,
        message=f"relative (expected an absolute path, got {quoted(path)})",
        hint=hint or "write the whole path, from /",
    )


def _folders(config: Config) -> Iterator[Flaw]:
    if not config.state_dir.startswith("/"):
        yield _relative(("state_dir",), config.state_dir)
    if config.runtime_dir and not config.runtime_dir.startswith("/"):
        yield _relative(("runtime_dir",), config.runtime_dir)
    size = len(posixpath.join(config.runtime_dir, SOCKET_NAME).encode())
    if config.runtime_dir and size > MAX_SOCKET_PATH_BYTES:
        limit = MAX_SOCKET_PATH_BYTES - len(SOCKET_NAME) - 1
        yield Flaw(
            key=("runtime_dir",),
            message=f"too long for a UNIX socket (expected at most {limit} bytes, "
            f"got {len(config.runtime_dir.encode())})",
            hint="a short one, as /run/edge-agent",
        )
    for index, folder in enumerate(config.models.dirs):
        if not folder.startswith("/"):
            yield _relative(("models", "dirs", index), folder)


def _rooms(config: Config) -> Iterator[Flaw]:
    console, engine = config.console, config.engine
    if console.http and 0 < console.port < 1024:
        yield _warn(("console", "port"), "below 1024, which only root may open", "port = 9810")
    if console.pixels and not console.http:
        yield _warn(("console", "pixels"), "has no effect while http = false")
    if engine.backend == "tensorrt":
        yield Flaw(
            key=("engine", "backend"),
            message='TensorRT is not in this version (expected "auto" or "onnx", both ONNX Runtime '
            'on the CPU, got "tensorrt")',
            hint='backend = "auto"',
        )
    for index, listener in enumerate(engine.listeners):
        if not _LISTENER.fullmatch(listener):
            yield Flaw(
                key=("engine", "listeners", index),
                message=f'no listener (expected "package.module:factory", got {quoted(listener)})',
            )
    if not config.models.shipped and not config.models.dirs and config.streams:
        yield _warn(
            ("models", "shipped"),
            "off, and dirs is empty: only installed models are found",
        )


def _streams(config: Config) -> Iterator[Flaw]:
    if not config.streams:
        yield _warn(("streams",), "none: nothing will be inferred", "edge-agent config sample demo")
    users: dict[str, str] = {}
    for name, stream in config.streams.items():
        key: Key = ("streams", name)
        device = device_of(stream.source)
        first = users.setdefault(device, name)
        if device and first != name:
            yield Flaw(
                key=(*key, "source", "where"),
                message=f"{device} is taken by stream {first} (expected one stream per device)",
                hint="list both models under one stream",
            )
        yield from _models(stream, key)
        yield from _pace(stream, key)
        yield from _picture(stream.source, (*key, "source"))
        yield from _KINDS[type(stream.source)](stream.source, (*key, "source"))


def _models(stream: StreamConfig, key: Key) -> Iterator[Flaw]:
    every = stream.models[0].every
    if every > 1:
        yield Flaw(
            key=(*key, "models", 0, "every"),
            message=f"the first model looks at every frame (expected 1, got {every})",
            hint="lower the fps of the source, or list another model first",
        )
    seen: set[str] = set()
    for index, model in enumerate(stream.models):
        if model.name in seen:
            yield Flaw(
                key=(*key, "models", index, "name"),
                message=f"{model.name} is listed twice (expected each model once per stream)",
            )
        seen.add(model.name)


def _pace(stream: StreamConfig, key: Key) -> Iterator[Flaw]:
    source = stream.source
    if is_live(source) and stream.queue == "wait":
        yield Flaw(
            key=(*key, "queue"),
            message='a live source cannot wait (expected "latest", got "wait")',
            hint='queue = "latest", the next frame replaces one that nobody took',
        )
    if is_live(source) and source.pace == "fast":
        yield _warn((*key, "source", "pace"), "has no effect on a live source")
    elif source.pace == "fast" and stream.queue == "latest":
        yield _warn(
            (*key, "source", "pace"),
            'with queue = "latest" most frames are replaced before they are looked at',
            'queue = "wait", or pace = "real"',
        )
    if source.fps and 1000 / source.fps > stream.max_age_ms:
        yield _warn(
            (*key, "max_age_ms"),
            f"below one frame period: each result is stale before the next one comes "
            f"(expected at least {1000 / source.fps:g}, got {stream.max_age_ms:g})",
        )
    if stream.deadline_ms is not None and stream.deadline_ms > stream.max_age_ms:
        yield _warn(
            (*key, "deadline_ms"),
            f"above max_age_ms: a result may be too old to be shown when it comes "
            f"(expected at most {stream.max_age_ms:g}, got {stream.deadline_ms:g})",
        )


def _picture(source: Source, key: Key) -> Iterator[Flaw]:
    if source.roi is not None:
        x, y, width, height = source.roi
        if min(x, y) < 0 or min(width, height) < 1:
            yield Flaw(
                key=(*key, "roi"),
                message=f"no region (expected [x, y, width, height] in pixels, x and y from 0, "
                f"width and height from 1, got {list(source.roi)})",
            )
        size = _size(source)
        if size and (x + width > size[0] or y + height > size[1]):
            yield Flaw(
                key=(*key, "roi"),
                message=f"leaves the picture (expected within {size[0]} x {size[1]} pixels, "
                f"got {list(source.roi)})",
            )
    low, high = SPACING_MM
    if source.spacing_mm is not None and not all(low <= mm <= high for mm in source.spacing_mm):
        yield Flaw(
            key=(*key, "spacing_mm"),
            message=f"no size of a pixel (expected {low:g} to {high:g} mm each, "
            f"got {list(source.spacing_mm)})",
            hint="millimetres of one pixel, not of the whole picture",
        )


def _size(source: Source) -> tuple[int, int] | None:
    if isinstance(source, PhantomSource):
        return source.size
    if isinstance(source, VideoSource) and source.width and source.height:
        return source.width, source.height
    return None


def _dicom(source: DicomSource, key: Key) -> Iterator[Flaw]:
    if source.path.startswith("sample:"):
        if source.path not in SAMPLES:
            yield Flaw(
                key=(*key, "path"),
                message=f"no such sample (expected {quoted(SAMPLES[0])}, "
                f"got {quoted(source.path)})",
            )
    else:
        yield from _recorded(source, key)
    if source.exam_key_file is not None and not source.exam_key_file.startswith("/"):
        yield _relative((*key, "exam_key_file"), source.exam_key_file)


def _recorded(source: DicomSource | ImagesSource, key: Key) -> Iterator[Flaw]:
    if not source.path.startswith("/"):
        yield _warn(
            (*key, "path"),
            f"relative, found only from the folder in which the agent starts "
            f"(expected an absolute path, got {quoted(source.path)})",
        )


def _video(source: VideoSource, key: Key) -> Iterator[Flaw]:
    if (source.width is None) != (source.height is None):
        there, missing = ("width", "height") if source.width else ("height", "width")
        yield Flaw(key=(*key, there), message=f"without {missing} (expected both or none)")
    if not source.pipeline and " ! " in source.where:
        yield Flaw(
            key=(*key, "where"), message="looks like a GStreamer pipeline", hint="pipeline = true"
        )
    if source.loop and is_live(source):
        yield _warn((*key, "loop"), "has no effect on a live source")
    yield from _password(source, key)


def _password(source: VideoSource, key: Key) -> Iterator[Flaw]:
    has_place = "{password}" in source.where
    if has_place and source.password_file is None:
        yield Flaw(
            key=(*key, "where"),
            message="names {password}, but there is no password_file",
            hint='password_file = "/etc/edge-agent/camera.password"',
        )
    if source.password_file is not None:
        if not has_place:
            yield Flaw(
                key=(*key, "password_file"),
                message="is not used (expected {password} in where)",
                hint='where = "rtsp://user:{password}@host/path"',
            )
        if not source.password_file.startswith("/"):
            yield _relative((*key, "password_file"), source.password_file)
    if masked(source.where) != source.where:
        yield _warn(
            (*key, "where"),
            "holds a password in plain text",
            "write {password} in its place and name a password_file",
        )


def _phantom(source: PhantomSource, key: Key) -> Iterator[Flaw]:
    if source.fault:
        yield _warn((*key, "fault"), f"this stream misbehaves on purpose ({source.fault})")


_KINDS: Final[dict[type, Callable[[Any, Key], Iterator[Flaw]]]] = {
    DicomSource: _dicom,
    ImagesSource: _recorded,
    PhantomSource: _phantom,
    VideoSource: _video,
}
