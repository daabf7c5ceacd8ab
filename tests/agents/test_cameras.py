"""A network camera beside others that are silent: nobody waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.app import running
from tests.agents.living import config_of, inferred, stream, until, words_of
from tests.sources import rtsp

pytestmark = pytest.mark.anyio

SILENT = 4
ONE_BY_ONE = pytest.mark.skip(reason="OpenCV opens streams one after the other")
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
        pytest.param("setup", "it describes its video, and none came", marks=ONE_BY_ONE),
    ],
    indirect=["silent"],
)
async def test_silent_cameras_hold_up_nobody(
    tmp_path: Path, camera: rtsp.Camera, silent: list[rtsp.Mute], words: str
) -> None:
    """They were opened one after the other, five seconds each."""
    alone_s = await until_seen(tmp_path / "a", {"camera": of(camera.where())}, words)
    streams = {f"silent-{n}": of(one.where) for n, one in enumerate(silent)}
    streams["camera"] = of(camera.where())
    began_s = time.monotonic()
    beside_s = await until_seen(tmp_path / "b", streams, words)
    assert beside_s < alone_s + MORE_S
    tries = 2 + (time.monotonic() - began_s) / 2.0  # a camera that answers nothing is not beset
    assert all(1 <= one.count <= 3 * tries for one in silent)
