from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.cameras import Roots
from edge_agent.cli import config as verbs
from edge_agent.cli import exits
from edge_agent.cli.main import main
from edge_agent.config.load import load, paths
from edge_agent.config.merge import parse_toml
from edge_agent.config.samples import names, sample

SOUND = sample("demo")
BROKEN = "nod = 'x'\n[engine]\nlanes = -1\n[console]\nport = '1'\n"


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_check_of_a_sound_file_is_0(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(SOUND, "utf-8")
    assert main(["config", "check", "--config", str(file)]) == exits.OK
    assert capsys.readouterr().out == f"ok: {file}: 2 streams\n"


def test_check_of_a_broken_file_is_3_and_tells_all(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(BROKEN)
    assert main(["config", "check", "--config", str(file)]) == exits.CHECK_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'{file}:1: nod — unknown key, did you mean "node"?'
    assert [line.split(" — ")[0] for line in lines[1:3]] == [
        f"{file}:3: engine.lanes",
        f"{file}:5: console.port",
    ]
    assert lines[3:] == ["3 errors, 0 warnings"]


def test_check_with_only_warnings_is_4(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("")
    assert main(["config", "check", "--config", str(file)]) == exits.WARNINGS
    assert "0 errors, 1 warnings" in capsys.readouterr().out


def test_check_as_json_names_each_problem(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(BROKEN)
    assert main(["config", "check", "--json", "--config", str(file)]) == exits.CHECK_FAILED
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["ok"], answer["files"]) == (1, False, [str(file)])
    assert [(found["line"], found["key"]) for found in answer["problems"]] == [
        (1, "nod"),
        (3, "engine.lanes"),
        (5, "console.port"),
    ]


def test_show_prints_what_is_in_effect(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(SOUND, "utf-8")
    override = ["--set", "engine.lanes=3"]
    assert main(["config", "show", "--config", str(file), *override]) == exits.OK
    shown = capsys.readouterr()
    tables = parse_toml(shown.out)
    assert (tables["engine"]["lanes"], tables["engine"]["hang_s"]) == (3, 10.0)
    assert shown.err == ""
    assert main(["config", "show", "--json", "--config", str(file), *override]) == exits.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["config"]["engine"]["lanes"] == 3


def test_show_of_a_broken_file_shows_nothing_but_why(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(BROKEN)
    assert main(["config", "show", "--config", str(file)]) == exits.CHECK_FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "engine.lanes" in shown.err


def test_sample_prints_a_sample_or_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "sample"]) == exits.OK
    assert capsys.readouterr().out.split() == list(names())
    assert main(["config", "sample", "ultrasound"]) == exits.OK
    assert capsys.readouterr().out == sample("ultrasound-cart")
    assert main(["config", "sample", "nothing"]) == exits.ERROR
    assert "expected one of" in capsys.readouterr().err


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == exits.OK
    assert "Config" in json.loads(capsys.readouterr().out)["$defs"]


# ── init ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("use", ["ultrasound", "endoscopy", "demo"])
def test_init_writes_a_sound_config(
    use: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = file.parent / "new" / "edge.toml"
    assert main(["init", "--use", use, "--output", str(output)]) == exits.OK
    assert load(paths(output)).text() == ""
    assert output.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in output.parent.iterdir()] == ["edge.toml"]
    assert f"edge-agent config check --config {output}" in capsys.readouterr().out


def test_init_chooses_a_use_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--output", "-"]) == exits.OK
    assert "[streams." in capsys.readouterr().out


def test_init_replaces_a_file_only_by_force(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("# mine\n")
    assert main(["init", "--output", str(file)]) == exits.ERROR
    assert capsys.readouterr().err == (
        f"edge-agent: write {file}: it is there already\n  hint: add --force\n"
    )
    assert file.read_text() == "# mine\n"
    assert main(["init", "--output", str(file), "--force"]) == exits.OK
    assert "# mine" not in file.read_text("utf-8")


def test_init_where_nobody_may_write_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--output", "/sys/edge-agent.toml"]) == exits.ERROR
    assert "--output FILE for another place" in capsys.readouterr().err


def test_init_into_what_is_no_folder_is_an_error(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("")
    assert main(["init", "--output", str(file / "x.toml")]) == exits.ERROR
    assert f"edge-agent: write {file}/x.toml: " in capsys.readouterr().err


def test_cameras_are_found_in_order_and_without_their_metadata_nodes(tmp_path: Path) -> None:
    nodes = {"video10": "0", "video2": "0", "video3": "1", "v4l-subdev0": "0"}
    for name, index in nodes.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "index").write_text(f"{index}\n")
    links = tmp_path / "links"
    roots = Roots(links, links, tmp_path)
    assert verbs.found_cameras(roots) == ["/dev/video2", "/dev/video10"]
    links.mkdir()
    (links / "usb-Grabber_0042-video-index0").symlink_to("/dev/video10")
    assert verbs.found_cameras(roots) == ["/dev/video2", f"{links}/usb-Grabber_0042-video-index0"]
    assert verbs.found_cameras(Roots(sys=tmp_path / "none")) == []


def test_the_port_is_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert verbs.free_port(port) != port


# ── how it starts ─────────────────────────────────────────────────────────────────────────────


def test_the_verbs_need_no_vendor_to_register() -> None:
    program = (
        "import argparse, sys; import edge_agent.cli.config as verbs;"
        "verbs.add(argparse.ArgumentParser().add_subparsers());"
        "print(sorted({'msgspec', 'numpy', 'rich', 'edge_agent.config.load'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_verb_has_a_handler() -> None:
    parser = argparse.ArgumentParser()
    verbs.add(parser.add_subparsers())
    for line in (["init"], *(["config", verb] for verb in ("check", "show", "sample", "schema"))):
        assert callable(parser.parse_args(line).run)
