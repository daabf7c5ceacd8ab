"""A watched folder that has shown all it has is idle, and that is no fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from tests.agents.living import config_of, stream, sums, until
from tests.sources import dicoms

pytestmark = pytest.mark.anyio


def folder_stream(folder: Path, **source: Any) -> dict[str, Any]:
    return {**stream(), "source": {"kind": "dicom", "path": str(folder), **source}}


def put(path: Path, frames: int = 20, **elements: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(frames).integers(40, 200, (frames, 48, 64), np.uint8)
    dicoms.write(path, pixels, **elements)


async def idle(agent: Agent, name: str) -> None:
    await until(lambda: sums(agent, name)["state"] == "idle", f"{name} is idle")


async def test_a_folder_that_has_shown_all_is_idle_and_nothing_was_alarmed(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    put(watched / "P1" / "a.dcm")
    (watched / "README.TXT").write_text("beside the clips")
    put(tmp_path / "odd.dcm", FrameTime="0.0333")
    put(tmp_path / "more.dcm", NumberOfFrames=5)
    streams = {
        "us": folder_stream(watched),
        "more": folder_stream(tmp_path / "more.dcm", loop=True),
        "odd": folder_stream(tmp_path / "odd.dcm", loop=True),
    }
    async with running(config_of(tmp_path, streams)) as agent:
        await until(lambda: sums(agent, "us")["captured"] == 20, "the clip is shown")
        await idle(agent, "us")
        put(watched / "P1" / "b.dcm", frames=30)
        await until(lambda: sums(agent, "us")["captured"] == 50, "a second one")
        await idle(agent, "us")
        status = agent.views.status()
        differs, told = sorted(status["problems"], key=lambda one: str(one["code"]))
        assert (differs["code"], differs["severity"]) == ("header-differs", "notice")
        assert "20 images, the header says 5" in differs["what"]
        assert (told["code"], told["severity"], told["stream"]) == ("rate-guessed", "notice", "odd")
        assert "FrameTime 0.0333 ms (30030 fps)" in told["what"]
        assert status["state"] == "ok"
        assert sums(agent, "us")["dropped"]["error"] == 0
        alarms = [one for one in agent.views.events() if one.get("state")]
        assert alarms == [], "none was raised meanwhile either"
        text = agent.metrics.render(status).decode()
        assert 'edge_agent_stream_idle{stream="us"} 1.0' in text
        assert 'edge_agent_stream_up{stream="us"} 1.0' in text
        details = sums(agent, "us")["facts"]["details"]
        assert details["files"] == "2 in the watched folder"
        assert details["other files"].startswith("1, ")
