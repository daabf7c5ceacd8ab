"""What runs without a daemon, on real parts: bench, replay, probe; and top in a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.data import get_testdata_file

from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.cli.recording import source_of
from edge_agent.config.structs import DicomSource, ImagesSource, VideoSource
from tests.tiny import write_package

FRAMES = 12
OF_A_RUN = {
    "boot", "at_us", "captured_us", "utc_offset_us", "utc_error_us", "pts_us",
    "wait_us", "infer_us", "latency_us",
}  # fmt: skip


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    write_package(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A dark square on bright ground that walks to the right."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(FRAMES):
        pixels = np.full((120, 160), 150, np.uint8)
        pixels[30:70, 20 + 4 * number : 60 + 4 * number] = 10
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def test_bench_says_what_fits(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["bench", "--model", "tiny@1.0.0", "--models-dir", str(models), "--seconds", "0.2"]
    assert main([*verb, "--json"]) == exits.OK
    document = json.loads(capsys.readouterr().out)
    (measured,) = document["models"]
    assert document["schema"] == 1
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]
    assert measured["streams"]["30"] >= measured["streams"]["60"]
    assert main([*verb, "--lanes", "2"]) == exits.OK
    assert "on 2 lane(s)" in capsys.readouterr().out


def test_no_verb_lets_onnx_runtime_report_to_its_maker(models: Path, tmp_path: Path) -> None:
    """Its reporting begins at import, with a file `.ses` in the temporary folder."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    words = ["bench", "--model", "tiny", "--models-dir", str(models), "--seconds", "0.2"]
    environ = {**os.environ, "TMPDIR": str(temporary)}
    environ.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run(
        [sys.executable, "-m", "edge_agent", *words], env=environ, check=True, timeout=50
    )
    assert list(temporary.iterdir()) == []


def test_bench_of_an_unknown_model_names_those_there_are(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--model", "huge", "--models-dir", str(models)]) == exits.ERROR
    assert "tiny" in capsys.readouterr().err


def test_a_model_that_does_not_fit_its_manifest_is_refused_by_bench(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_package(tmp_path / "bad", fault="wrong-input")
    assert main(["bench", "--model", "tiny", "--models-dir", str(tmp_path / "bad")]) == exits.ERROR
    assert "tiny 1.0.0" in capsys.readouterr().err


def test_a_recording_is_known_by_what_it_is(tmp_path: Path, pictures: Path) -> None:
    dicom, clip = tmp_path / "a", tmp_path / "b.mp4"
    dicom.write_bytes(bytes(128) + b"DICM")
    clip.write_bytes(b"short")
    assert isinstance(source_of(dicom), DicomSource)
    assert isinstance(source_of(clip), VideoSource)
    assert isinstance(source_of(pictures), ImagesSource)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nowhere.dcm", "--model", "tiny"], exits.ERROR),
        ([".", "--model", "NOT A NAME"], exits.USAGE),
        ([".", "--model", "tiny", "--threshold", "7"], exits.USAGE),
    ],
)
def test_a_replay_that_cannot_be_says_why(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", *words]) == code
    assert "hint:" in capsys.readouterr().err


def replayed(clip: str, models: Path, out: Path) -> list[dict[str, Any]]:
    words = ["replay", clip, "--model", "tiny", "--models-dir", str(models), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *words], capture_output=True, check=False, timeout=50
    )
    assert done.returncode == exits.OK, done.stderr.decode()
    records = [json.loads(line) for line in out.read_bytes().splitlines()]
    return [{key: item[key] for key in item if key not in OF_A_RUN} for item in records]


def test_a_replay_twice_gives_equal_records_but_for_times(models: Path, tmp_path: Path) -> None:
    clip = get_testdata_file("examples_ybr_color.dcm", download=False)
    assert isinstance(clip, str)
    first = replayed(clip, models, tmp_path / "a.jsonl")
    assert [item["frame"] for item in first] == list(range(1, 31))
    assert all(item["objects"] and not item["exam"] for item in first)
    assert replayed(clip, models, tmp_path / "b.jsonl") == first


def test_a_replay_of_what_cannot_be_read_ends_with_a_hint(models: Path, tmp_path: Path) -> None:
    clip = tmp_path / "a.dcm"
    clip.write_text("this is no DICOM")
    words = ["replay", str(clip), "--model", "tiny", "--models-dir", str(models)]
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *words],
        capture_output=True,
        check=False,
        text=True,
        timeout=50,
    )
    assert done.returncode == exits.ERROR
    assert done.stdout == ""
    assert "edge-agent: replay:" in done.stderr


def config_with(tmp_path: Path, source: str) -> Path:
    config = tmp_path / "config.toml"
    config.write_text(
        f'state_dir = "{tmp_path}"\n[streams.us0]\nmodels = [{{name = "tiny"}}]\n'
        f'[streams.us0.source]\nkind = "phantom"\n{source}'
    )
    return config


def test_probe_opens_the_source_itself_where_no_daemon_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_with(tmp_path, "fps = 50\n")
    verb = ["streams", "probe", "us0", "--config", str(config), "--seconds", "0.4", "--json"]
    assert main(verb) == exits.OK
    said = json.loads(capsys.readouterr().out)
    assert said["state"] == "ok"
    assert 25 <= said["fps_in"] <= 60
    assert said["facts"]["size"] == [640, 480]


def test_a_direct_probe_fails_where_the_picture_is_black(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_with(tmp_path, 'fault = "black"\n')
    verb = ["streams", "probe", "us0", "--direct", "--config", str(config), "--seconds", "1"]
    assert main(verb) == exits.CHECK_FAILED
    assert "black" in capsys.readouterr().out


def test_a_direct_probe_of_a_wrong_config_says_where_it_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_with(tmp_path, "fsp = 50\n")
    verb = ["streams", "probe", "us0", "--direct", "--config", str(config)]
    assert main(verb) == exits.ERROR
    assert "fsp" in capsys.readouterr().err


@pytest.mark.usefixtures("daemon")
def test_top_redraws_in_place_until_q(control: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    words = [sys.executable, "-m", "edge_agent", "top", "--period", "0.1", "--socket", str(control)]
    environ = {**os.environ, "TERM": "xterm"}
    environ.pop("NO_COLOR", None)
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        until = time.monotonic() + 20
        while shown.count(b"\x1b[H") < 3 and time.monotonic() < until:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 4096)
        os.write(ours, b"q")
        assert process.wait(20) == exits.OK
        shown += os.read(ours, 65536)
    os.close(ours)
    assert shown.startswith(b"\x1b[?1049h")
    assert shown.rstrip().endswith(b"\x1b[?1049l")
    assert "cart-3" in shown.decode()
