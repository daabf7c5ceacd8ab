"""`python -m tools.hot_tier pack`: what it prints, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cli import exits
from edge_agent.stores.models import Models
from tests import house
from tests.packing import foreign
from tools.hot_tier.__main__ import main


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    model, manifest = foreign.write(tmp_path, "yolo")
    frames = foreign.write_frames(tmp_path / "frames", 3)
    return ["pack", str(model), "--manifest", str(manifest), "--frames", str(frames)]


def test_it_says_what_it_did_measured_and_found(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "-o", str(tmp_path / "y.eam")]) == exits.OK
    said = capsys.readouterr().out
    assert "batch of input images fixed to 1" in said
    assert "uint8 nhwc rgb, times 0.00392157 plus 0" in said
    assert "findings agree with fp32 to 1.000 on 3 frames" in said
    assert "on 3 frames: " in said
    assert "warning: head h: never found on the frames: " in said
    assert said.splitlines()[-1].startswith(f"{tmp_path}/y.eam: ")


def test_json_holds_the_whole_report(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--dir", str(tmp_path / "made"), "--json"]) == exits.OK
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    store = Models([tmp_path / "made"], shipped=False)
    assert said["schema"] == 1
    assert said["sha256"] == store.identity(store.resolve("yolo", "1.0.0"))
    assert said["out"] == "", "only the folder was asked for"
    assert [one["precision"] for one in said["variants"]] == ["fp16", "fp32"]
    assert said["frames"] == 3
    assert sum(said["found_by_label"].values()) == said["objects"]


def test_without_a_place_the_package_gets_its_own_name_here(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--no-fp16", "--max-frames", "2"]) == exits.OK
    assert (tmp_path / "yolo-1.0.0.eam").stat().st_size > 10_000
    assert not list(tmp_path.glob(".*")), "nothing half written is left"


def test_a_refusal_is_six_and_says_why_in_json_too(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "yolo.toml"
    manifest.write_text(manifest.read_text().replace('"output0"', '"other"'))
    assert main([*arguments, "--json"]) == exits.REFUSED
    said = capsys.readouterr()
    assert "expected outputs ['other']" in json.loads(said.out)["refused"]["what"]
    assert said.err.startswith("refused: pack model: expected outputs ['other']")
    assert " -> correct outputs of [[heads]]" in said.err


def test_a_file_that_ends_the_process_that_reads_it_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by turning over bytes: a pad so negative that onnx.shape_inference aborts on it."""
    model = foreign.unet()
    pads = model.graph.initializer[0]
    assert model.graph.node[0].input[1] == pads.name
    pads.raw_data = pads.raw_data[:-1] + bytes([0xCC])
    (tmp_path / "yolo.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "yolo.toml").write_text(foreign.MANIFESTS["unet"])
    assert main([*arguments, "-o", str(tmp_path / "y.eam")]) == exits.REFUSED
    said = capsys.readouterr().err
    assert "refused: pack model: reading or running yolo.onnx ended the process with SIG" in said
    assert not (tmp_path / "y.eam").exists()


def test_a_region_that_is_none_is_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--roi", "1,2,3"])


def test_without_onnx_it_says_what_to_install(arguments: list[str]) -> None:
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from tools.hot_tier.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=house.ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == exits.ERROR
    assert "needs the Python package onnx" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("poor", ["ascii", "gone"])
def test_what_was_packed_is_packed_whatever_becomes_of_the_words(
    arguments: list[str], tmp_path: Path, poor: str
) -> None:
    """A poor terminal, or one that went away (`| head -1`)."""
    manifest = tmp_path / "yolo.toml"
    manifest.write_text(manifest.read_text().replace('"k0"', '"päpste 教"'), encoding="utf-8")
    program = [sys.executable, "-m", "tools.hot_tier", *arguments, "--no-fp16", "--no-picture"]
    into, out = os.pipe()
    if poor == "gone":
        os.close(into)
    with os.fdopen(out, "wb") as pipe:
        ended = subprocess.run(
            [*program, "-o", str(tmp_path / "y.eam")], cwd=house.ROOT, stdout=pipe,
            stderr=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"},
            timeout=60, check=False,
        )  # fmt: skip
    if poor == "ascii":
        with os.fdopen(into, "rb") as kept:
            assert rb"p\xe4pste" in kept.read()
    assert (ended.returncode, ended.stderr) == (exits.OK, b"")
    assert (tmp_path / "y.eam").exists()
