"""A network camera beside others that are silent: nobody waits for them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from tests.agents.living import config_of, inferred, stream, until, words_of
from tests.sources import rtsp

pytestmark = pytest.mark.anyio

SILENT = 4
MORE_S = 2.0  # that an opening may take longer beside them


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rtsp.Camera]:
    rtsp.need()
    folder = tmp_path_factory.mktemp("camera")
    clip = rtsp.encoded(folder / "live.ts", "testsrc=s=160x120:r=25:d=1")
    with rtsp.served(clip) as made:
        yield made


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Iterator[list[rtsp.Mute]]:
    made = [rtsp.Mute(from_setup=request.param == "setup") for _ in range(SILENT)]
    yield made
    for one in made:
        one.close()


def of(where: str) -> dict[str, Any]:
    return {**stream(), "source": {"kind": "video", "where": where, "reopen_max_s": 2.0}}


async def until_seen(folder: Path, streams: dict[str, Any], words: str) -> float:
    """Seconds from the order of all streams to the first result of the camera."""
    began_s = time.monotonic()
    async with running(config_of(folder, streams)) as agent:
        await until(lambda: inferred(agent, "camera"), "a result of the camera")
        took_s = time.monotonic() - began_s
        told = len(streams) - 1
        await until(lambda: words_of(agent).count(words) >= told, "all are told")
        assert "127.0.0.1" not in words_of(agent)
    return took_s


@pytest.mark.parametrize(
    ("silent", "words"),
    [
        ("silent", "answers nothing within 2 s"),
        ("setup", "it describes its video, and none came"),
    ],
    indirect=["silent"],
)
async def test_silent_cameras_hold_up_nobody(
    tmp_path: Path, camera: rtsp.Camera, silent: list[rtsp.Mute], words: str
) -> None:
    """They were opened one after the other, five seconds each (13 s with four)."""
    alone_s = await until_seen(tmp_path / "a", {"camera": of(camera.where())}, words)
    streams = {f"silent-{n}": of(one.where) for n, one in enumerate(silent)}
    streams["camera"] = of(camera.where())
    began_s = time.monotonic()
    beside_s = await until_seen(tmp_path / "b", streams, words)
    assert beside_s < alone_s + MORE_S
    tries = 2 + (time.monotonic() - began_s) / 2.0  # a camera that answers nothing is not beset
    assert all(1 <= one.count <= 3 * tries for one in silent)


def clear(place: Path) -> None:
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)


def told(agent: Agent, words: str) -> bool:
    return words in words_of(agent)


async def test_what_stands_in_the_place_of_a_camera_is_told_as_it_changes() -> None:
    """Nobody has to restart anything once the right thing is plugged in."""
    with tempfile.TemporaryDirectory(prefix="ea-", dir="/dev/shm") as folder:
        place = Path(folder) / "camera"
        source = {"kind": "video", "where": str(place), "reopen_max_s": 0.2}
        config = config_of(Path(folder), {"us": {**stream(), "source": source}})
        async with running(config) as agent:
            made: dict[str, Callable[[], Any]] = {
                "it is not there": lambda: None,
                "a link to a device": lambda: place.symlink_to(f"{folder}/gone"),
                "expected a camera, got a folder": place.mkdir,
                "expected a camera, got a plain file": place.touch,
                "got another kind of device": lambda: place.symlink_to("/dev/null"),
            }
            for words, make in made.items():
                make()
                await until(partial(told, agent, words), words)
                assert folder not in words_of(agent)
                clear(place)
            await until(lambda: "it is not there" in words_of(agent), "and none of them sticks")
