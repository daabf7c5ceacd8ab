"""A model is known before it runs: a rotten one never does, and what is sound stands in."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.cli.main import main
from edge_agent.config.structs import Config
from edge_agent.stores import package
from tests.agents.living import config_of, inferred, kill_child, stream, sums, until, words_of
from tests.stores.packages import store_at
from tests.tiny import SIZE, write_package

pytestmark = pytest.mark.anyio
WITHOUT = {"name": "tiny"}  # a stream that names no version
NOTED = Path("state/models-known.json")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.agent.READ_AGAIN_S", 0.3)


def sampled(root: Path, version: str = "1.0.0", *, right: bool = True, fault: str = "") -> Path:
    """A tiny package whose golden sample has an output, the right one or another."""
    folder = write_package(root, version=version, fault=fault)
    says = 60 / 8 if right else 7.0
    np.savez(
        folder / "golden.npz",
        input_0=np.zeros((1, SIZE[1], SIZE[0], 1), np.uint8),
        output_y_0=np.full((1, 1, SIZE[1], SIZE[0]), says, np.float32),
    )
    return folder


def flip(path: Path, at: int | None = None) -> bytes:
    """Gives what it was before."""
    before = path.read_bytes()
    content = bytearray(before)
    content[len(content) // 2 if at is None else at] ^= 1
    path.write_bytes(content)
    return before


async def until_failed(agent: Agent, name: str, *words: str) -> None:
    def is_so() -> bool:
        shown = sums(agent, name)
        return shown["state"] == "failed" and all(word in words_of(agent) for word in words)

    await until(is_so, f"{name} is failed: {words}; {sums(agent, name)}; {words_of(agent)}")


async def until_ok(agent: Agent, name: str, version: str = "") -> None:
    def is_so() -> bool:
        shown = sums(agent, name)
        return shown["state"] == "ok" and version in shown["model_version"]

    await until(is_so, f"{name} is ok")


async def test_a_package_that_rots_in_a_folder_never_runs_again_until_it_is_mended(
    tmp_path: Path,
) -> None:
    """It ran on as OK; the child that came after a crash took whatever the disk gave."""
    folder = sampled(tmp_path / "models")
    write_package(tmp_path / "models", name="other")
    config = config_of(tmp_path, {"a": stream(model=WITHOUT), "b": stream(model={"name": "other"})})
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > 2 and inferred(agent, "b") > 2, "results")
        before = flip(folder / "model.onnx")
        kill_child(signal.SIGSEGV)
        await until_failed(agent, "a", "is damaged", "reinstall it", "models accept tiny 1.0.0")
        await until_ok(agent, "b")
        (folder / "model.onnx").write_bytes(before)
        await until_ok(agent, "a")
        await until(lambda: "damaged" not in words_of(agent), "nothing is left of it")


async def test_a_package_that_rots_while_nothing_runs_is_known_at_the_next_start(
    tmp_path: Path,
) -> None:
    folder = sampled(tmp_path / "models")
    config = config_of(tmp_path, {"a": stream()})
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > 2, "results")
        await until((tmp_path / NOTED).exists, "it is noted")
    manifest = folder / "manifest.toml"
    manifest.write_text(manifest.read_text().replace("min_area_px = 50", "min_area_px = 51"))
    async with running(config) as agent:
        await until_failed(agent, "a", "is damaged", "what ran here under that version")
        assert inferred(agent, "a") == 0 if "a" in agent.engine.taps else True


async def test_one_that_is_rotten_at_its_first_load_does_not_give_its_golden_sample(
    tmp_path: Path,
) -> None:
    """Nobody had said what it has to be: 7 to 11 findings of 1.00 on each frame, and OK."""
    sampled(tmp_path / "models", right=False)
    config = config_of(tmp_path, {"a": stream()})
    async with running(config) as agent:
        await until_failed(agent, "a", "is damaged: its golden sample: y differs by 0.5", "reinst")
        shutil.rmtree(tmp_path / "models" / "tiny")
        sampled(tmp_path / "models")
        await until_ok(agent, "a")


async def test_the_last_good_version_of_a_folder_stands_in(tmp_path: Path) -> None:
    old = sampled(tmp_path / "models")
    (old.parent / "current").write_text("1.0.0")
    config = config_of(tmp_path, {"a": stream(model=WITHOUT), "p": stream(model={
        "name": "tiny", "version": "1.1.0"})})  # fmt: skip
    new = sampled(tmp_path / "models", "1.1.0", right=False)
    async with running(config) as agent:
        await until_ok(agent, "a", "1.0.0")
        await until_failed(agent, "p", "its golden sample")
        (old.parent / "current").write_text("1.1.0")
        await agent.reorder()
        await until_ok(agent, "a", "1.0.0")
        await until(lambda: "1.0.0, which ran before, stands in" in words_of(agent), "it is told")
        assert sums(agent, "p")["state"] == "failed", "it names its version, and waits"
        shutil.rmtree(new)
        sampled(tmp_path / "models", "1.1.0")
        await until_ok(agent, "a", "1.1.0")
        await until_ok(agent, "p", "1.1.0")


async def test_what_ran_before_stands_in_for_an_installed_one_that_has_none_before(
    tmp_path: Path,
) -> None:
    sampled(tmp_path / "models")
    new = sampled(tmp_path / "made", "1.1.0")
    store = store_at(tmp_path / "state" / "models")
    sha = install(store, new, tmp_path)
    config = config_of(tmp_path, {"a": stream(model=WITHOUT)})
    flip(tmp_path / "state" / "models" / "tiny" / sha / "model.onnx")
    async with running(config) as agent:
        await until_ok(agent, "a", "1.0.0")
        assert "no longer what was installed" in words_of(agent)
        assert "stands in" in words_of(agent)
        store.admit(tmp_path / "new.eam", sha)
        await until_ok(agent, "a", "1.1.0")


def install(store: Any, folder: Path, tmp_path: Path) -> str:
    tar = tmp_path / "new.eam"
    tar.write_bytes(b"".join(package.pack(folder, package.read_manifest(folder))))
    sha = package.look(folder).sha
    store.admit(tar, sha)
    store.commit("tiny", sha)
    return sha


@pytest.fixture
def harmed(tmp_path: Path) -> tuple[Path, Config]:
    folder = sampled(tmp_path / "models")
    write_package(tmp_path / "models", name="other")
    return folder, config_of(tmp_path, {"a": stream(), "b": stream(model={"name": "other"})})


def put(path: Path, content: bytes | str | None) -> None:
    """None: nothing. A word: a folder."""
    path.unlink(missing_ok=True)
    if isinstance(content, str):
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)


async def test_whatever_is_wrong_with_a_package_the_rest_runs(
    harmed: tuple[Path, Config],
) -> None:
    folder, config = harmed
    async with running(config) as agent:
        await until_ok(agent, "b")
        for name, content in (
            ("package.sha256", b"0" * 64),
            ("package.sha256", b"\xff rot"),
            ("golden.npz", None),
            ("golden.npz", "a folder"),
            ("model.onnx", b""),
            ("manifest.toml", b"schema = \xff"),
            ("manifest.toml", None),
        ):
            put(folder / name, content)
            await agent.reorder()
            await until_failed(agent, "a", "damaged", "reinstall it")
            assert sums(agent, "b")["state"] == "ok"
        assert agent.engine.starts == 1


async def test_what_was_changed_on_purpose_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sampled(tmp_path / "models")
    config = config_of(tmp_path, {"a": stream()})
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'state_dir = "{tmp_path}/state"\n[models]\nshipped = false\ndirs = ["{tmp_path}/models"]\n'
    )
    async with running(config) as agent:
        await until_ok(agent, "a")
        manifest = folder / "manifest.toml"
        await until((tmp_path / NOTED).exists, "it is noted")
        manifest.write_text(manifest.read_text().replace("min_area_px = 50", "min_area_px = 60"))
        await agent.reorder()
        await until_failed(agent, "a", "models accept tiny 1.0.0")
        accept = ["models", "accept", "tiny", "1.0.0", "--config", str(settings)]
        assert main(accept) == 0, capsys.readouterr().err
        await until_ok(agent, "a")
        assert agent.views.manifests["tiny@1.0.0"].heads[0].min_area_px == 60
    flip(folder / "model.onnx")
    assert main(["models", "verify", "tiny", "--config", str(settings)]) == 3
    assert "package.sha256 says so" in capsys.readouterr().out
