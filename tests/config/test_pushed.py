"""Configuration that comes down: below the operator's files, taken whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import pushed
from edge_agent.config.load import Loaded, load, load_over, paths
from edge_agent.core.errors import Damaged
from edge_agent.services.rollouts.layer import Layer

STREAM = """
[streams.us-1]
source = { kind = "phantom", fps = 30 }
models = [{ name = "us-chamber" }]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'state_dir = "{tmp_path}/state"\n[console]\nport = 0\n')
    (tmp_path / "state").mkdir()
    return path


def push(file: Path, text: str) -> Loaded:
    (file.parent / "state" / pushed.FILE_NAME).write_text(text)
    return load(paths(file))


def test_a_pushed_layer_is_in_force_below_the_files(file: Path) -> None:
    config = push(file, STREAM + "[log]\nlevel = 'debug'\n").config
    assert config is not None
    assert list(config.streams) == ["us-1"]
    file.write_text(file.read_text() + "[log]\nlevel = 'error'\n")
    again = load(paths(file)).config
    assert again is not None
    assert again.log.level == "error"  # the operator's file wins


def test_one_that_does_not_fit_is_left_out_and_said(file: Path) -> None:
    loaded = push(file, "[streams.us-1]\nfps = 1\n")
    assert loaded.config is not None
    assert loaded.config.streams == {}
    assert "left out" in loaded.text()
    assert push(file, "no toml at all").config is not None


@pytest.mark.parametrize(
    "text",
    [
        "node = 'other'", "state_dir = '/tmp/x'", "[rollouts]\nenabled = false",
        "[uplink]\nenabled = false", "[engine]\nlisteners = ['a.b:c']", "[console]\nhttp = false",
        "[models]\ndirs = ['/tmp']",
    ],
)  # fmt: skip
def test_what_could_cut_the_machine_off_is_not_to_be_pushed(file: Path, text: str) -> None:
    assert "not to be pushed down" in load_over(text, paths(file)).text()
    assert load_over("[engine]\nlanes = 1\n", paths(file)).errors == ()


class File:
    """`layer.Kept` in memory; `full` is a disk that takes nothing."""

    def __init__(self) -> None:
        self.content = b""
        self.full = False

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        if self.full:
            raise Damaged("write config.pushed.toml: no space left on device")
        self.content = content


def layer(file: Path, kept: File, told: dict[str, Any]) -> Layer:
    async def reload() -> dict[str, Any]:
        return told

    return Layer(paths(file), (), kept, reload)


@pytest.mark.anyio
async def test_it_is_taken_whole_or_refused_with_every_reason(file: Path) -> None:
    kept = File()
    taken = layer(file, kept, {"reloaded": True})
    assert await taken.apply(STREAM, "7") == ""
    assert kept.content == STREAM.encode()
    flaws = await taken.apply("[streams.us-1]\nfps = 1\n[log]\nlevel = 'loud'\nnode = 'x'", "8")
    assert "unknown key" in flaws
    assert "level" in flaws
    assert kept.content == STREAM.encode()
    assert "at most" in await taken.apply("#" * (pushed.MAX_BYTES + 1), "9")


@pytest.mark.anyio
async def test_one_that_the_agent_does_not_take_leaves_the_old_one(file: Path) -> None:
    kept = File()
    kept.content = b"# old\n"
    refused = layer(file, kept, {"reloaded": False, "why": "it is stopping"})
    assert await refused.apply(STREAM, "7") == "it is stopping"
    assert kept.content == b"# old\n"
    kept.full = True
    assert "no space" in await refused.apply(STREAM, "7")
