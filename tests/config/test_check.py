from __future__ import annotations

import pytest

from edge_agent.config.check import check
from edge_agent.config.load import load_text
from edge_agent.config.problems import Problem

MODELS = 'models = [{ name = "endo-polyp" }]\n'
CAMERA = '[streams.a]\nsource = { kind = "video", where = "/dev/video0" }\n' + MODELS


def _camera(more: str, where: str = "/dev/video0") -> str:
    return f'[streams.a]\nsource = {{ kind = "video", where = "{where}", {more} }}\n{MODELS}'


def _problems(text: str) -> list[str]:
    return load_text(text, file="c").text().splitlines()


SOUND = {
    "camera": CAMERA,
    "two cameras": CAMERA + CAMERA.replace("streams.a", "streams.b").replace("video0", "video1"),
    "password in a file": _camera('password_file = "/etc/x"', "rtsp://u:{password}@10.0.0.1/s"),
    "pipeline": _camera("pipeline = true", "videotestsrc ! videoconvert ! appsink"),
    "video file that waits": _camera('pace = "fast"', "/srv/clip.mp4") + 'queue = "wait"\n',
    "looped file": _camera("loop = true", "/srv/clip.mp4"),
    "roi at the edge": _camera("width = 640, height = 480, roi = [320, 240, 320, 240]"),
    "spacing": _camera("spacing_mm = [0.3, 0.3]"),
    "second model now and then": CAMERA.replace('" }]', '" }, { name = "us-chamber", every = 5 }]'),
    "a short runtime folder": CAMERA.replace("[streams", 'runtime_dir = "/run/e"\n[streams', 1),
}


@pytest.mark.parametrize("text", SOUND.values(), ids=SOUND)
def test_a_sound_config_has_no_problem(text: str) -> None:
    assert _problems(text) == []


ERRORS = {
    "relative state_dir": (
        'state_dir = "state"\n' + CAMERA,
        (
            'c:1: state_dir — relative (expected an absolute path, got "state") -> write the whole '
            "path, from /"
        ),
    ),
    "home in state_dir": (
        'state_dir = "~/state"\n' + CAMERA,
        (
            'c:1: state_dir — relative (expected an absolute path, got "~/state") -> "~" is not '
            "expanded; write the whole path"
        ),
    ),
    "relative model folder": (
        CAMERA + '[models]\ndirs = ["/a", "b"]\n',
        (
            'c:5: models.dirs.1 — relative (expected an absolute path, got "b") -> write the whole '
            "path, from /"
        ),
    ),
    "runtime_dir too long": (
        f'runtime_dir = "/{"x" * 95}"\n' + CAMERA,
        (
            "c:1: runtime_dir — too long for a UNIX socket (expected at most 94 bytes, got 96) -> "
            "a short one, as /run/edge-agent"
        ),
    ),
    "listener": (
        CAMERA + '[engine]\nlisteners = ["os.system"]\n',
        (
            'c:5: engine.listeners.0 — no listener (expected "package.module:factory", got '
            '"os.system")'
        ),
    ),
    "one device twice": (
        CAMERA + CAMERA.replace("streams.a", "streams.b").replace("/dev/", "/dev//"),
        (
            "c:5: streams.b.source.where — /dev/video0 is taken by stream a (expected one stream "
            "per device) -> list both models under one stream"
        ),
    ),
    "first model now and then": (
        CAMERA.replace('" }]', '", every = 2 }]'),
        (
            "c:3: streams.a.models.0.every — the first model looks at every frame (expected 1, got "
            "2) -> lower the fps of the source, or list another model first"
        ),
    ),
    "one model twice": (
        CAMERA.replace('" }]', '" }, { name = "endo-polyp" }]'),
        (
            "c:3: streams.a.models.1.name — endo-polyp is listed twice (expected each model once "
            "per stream)"
        ),
    ),
    "live source that waits": (
        CAMERA + 'queue = "wait"\n',
        (
            'c:4: streams.a.queue — a live source cannot wait (expected "latest", got "wait") -> '
            'queue = "latest", the next frame replaces one that nobody took'
        ),
    ),
    "empty roi": (
        _camera("roi = [0, 0, 0, 10]"),
        (
            "c:2: streams.a.source.roi — no region (expected [x, y, width, height] in pixels, x "
            "and y from 0, width and height from 1, got [0, 0, 0, 10])"
        ),
    ),
    "roi outside": (
        _camera("width = 640, height = 480, roi = [600, 0, 100, 10]"),
        (
            "c:2: streams.a.source.roi — leaves the picture (expected within 640 x 480 pixels, got "
            "[600, 0, 100, 10])"
        ),
    ),
    "spacing of the whole picture": (
        _camera("spacing_mm = [150, 150]"),
        (
            "c:2: streams.a.source.spacing_mm — no size of a pixel (expected 0.001 to 10 mm each, "
            "got [150.0, 150.0]) -> millimetres of one pixel, not of the whole picture"
        ),
    ),
    "width alone": (
        _camera("width = 640"),
        "c:2: streams.a.source.width — without height (expected both or none)",
    ),
    "backend that is not there": (
        CAMERA + '[engine]\nbackend = "tensorrt"\n',
        (
            'c:5: engine.backend — TensorRT is not in this version (expected "auto" or "onnx", '
            'both ONNX Runtime on the CPU, got "tensorrt") -> backend = "auto"'
        ),
    ),
    "pipeline not said": (
        _camera("", "videotestsrc ! appsink").replace(",  }", " }"),
        "c:2: streams.a.source.where — looks like a GStreamer pipeline -> pipeline = true",
    ),
    "no password file": (
        _camera("", "rtsp://u:{password}@h/s").replace(",  }", " }"),
        (
            "c:2: streams.a.source.where — names {password}, but there is no password_file -> "
            'password_file = "/etc/edge-agent/camera.password"'
        ),
    ),
    "password file for nothing": (
        _camera('password_file = "/etc/x"', "rtsp://h/s"),
        (
            "c:2: streams.a.source.password_file — is not used (expected {password} in where) -> "
            'where = "rtsp://user:{password}@host/path"'
        ),
    ),
    "relative password file": (
        _camera('password_file = "x"', "rtsp://u:{password}@h/s"),
        (
            'c:2: streams.a.source.password_file — relative (expected an absolute path, got "x") '
            "-> write the whole path, from /"
        ),
    ),
    "unknown sample": (
        f'[streams.a]\nsource = {{ kind = "dicom", path = "sample:heart" }}\n{MODELS}',
        (
            'c:2: streams.a.source.path — no such sample (expected "sample:ultrasound", got '
            '"sample:heart")'
        ),
    ),
    "relative key": (
        '[streams.a]\nsource = { kind = "dicom", path = "/x", exam_key_file = "k" }\n' + MODELS,
        (
            'c:2: streams.a.source.exam_key_file — relative (expected an absolute path, got "k") '
            "-> write the whole path, from /"
        ),
    ),
}


@pytest.mark.parametrize(("text", "wanted"), ERRORS.values(), ids=ERRORS)
def test_keys_that_do_not_fit_together_are_an_error(text: str, wanted: str) -> None:
    assert _problems(text) == [wanted]
    assert load_text(text).config is None


WARNINGS = {
    "no streams": ("", "c: warning: streams — none: nothing will be inferred"),
    "port of root": (
        CAMERA + "[console]\nport = 80\n",
        "c:5: warning: console.port — below 1024, which only root may open",
    ),
    "pixels for nobody": (
        CAMERA + "[console]\nhttp = false\npixels = true\n",
        "c:6: warning: console.pixels — has no effect while http = false",
    ),
    "no models anywhere": (
        CAMERA + "[models]\nshipped = false\n",
        "c:5: warning: models.shipped — off, and dirs is empty",
    ),
    "fast camera": (
        _camera('pace = "fast"'),
        "c:2: warning: streams.a.source.pace — has no effect on a live source",
    ),
    "fast recording": (
        _camera('pace = "fast"', "/srv/clip.mp4"),
        'c:2: warning: streams.a.source.pace — with queue = "latest" most frames are replaced',
    ),
    "looped camera": (
        _camera("loop = true"),
        "c:2: warning: streams.a.source.loop — has no effect on a live source",
    ),
    "late and never shown": (
        CAMERA + "deadline_ms = 600\n",
        "c:4: warning: streams.a.deadline_ms — above max_age_ms",
    ),
    "plain password": (
        _camera("loop = false", "rtsp://u:secret@h/s"),
        "c:2: warning: streams.a.source.where — holds a password in plain text",
    ),
    "relative folder": (
        f'[streams.a]\nsource = {{ kind = "images", path = "x" }}\n{MODELS}',
        "c:2: warning: streams.a.source.path — relative",
    ),
    "drill": (
        f'[streams.a]\nsource = {{ kind = "phantom", fault = "freeze" }}\n{MODELS}',
        "c:2: warning: streams.a.source.fault — this stream misbehaves on purpose (freeze)",
    ),
}


@pytest.mark.parametrize(("text", "wanted"), WARNINGS.values(), ids=WARNINGS)
def test_what_is_odd_but_works_is_a_warning(text: str, wanted: str) -> None:
    (problem,) = _problems(text)
    assert problem.startswith(wanted)
    assert load_text(text).config is not None


def test_a_config_made_in_code_is_checked_without_file_and_line() -> None:
    config = load_text(CAMERA + "deadline_ms = 600\n").config
    assert config is not None
    (problem,) = check(config)
    assert isinstance(problem, Problem)
    assert (problem.file, problem.line, problem.key) == ("", 0, "streams.a.deadline_ms")
