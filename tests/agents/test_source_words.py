"""What a clinical engineer reads of a source that shows nothing: true, one per cause, mendable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from tests.agents.living import config_of, stream, until
from tests.tiny import SIZE

pytestmark = pytest.mark.anyio


def of(source: dict[str, Any]) -> dict[str, Any]:
    return {**stream(), "source": {"reopen_max_s": 0.2, **source}}


def pictures(folder: Path, levels: list[int]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for index, level in enumerate(levels):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((SIZE[1], SIZE[0], 3), level, np.uint8))
    return str(folder)


def said(agent: Agent, name: str) -> dict[str, Any]:
    """The one fault of a stream, with the reason that is shown beside its state."""
    status = agent.views.status()
    found = [one for one in status["problems"] if one["stream"] == name]
    faults = [one for one in found if one["severity"] != "notice"]
    assert len(faults) <= 1, faults
    return {**(faults[0] if faults else {}), "reason": status["streams"][name]["reason"]}


async def test_each_source_is_told_with_words_and_a_fix_of_its_kind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watched, gone = tmp_path / "watched", tmp_path / "DOE_JANE"
    watched.mkdir()
    gone.mkdir()
    still = pictures(tmp_path / "still", [90])
    streams = {
        "quiet": of({"kind": "dicom", "path": str(watched), "expect_every_s": 0.3,
                     "no_signal_after_s": 0.3}),
        "gone": of({"kind": "dicom", "path": str(gone)}),
        "still": of({"kind": "images", "path": still, "loop": True, "fps": 10.0}),
        "camera": of({"kind": "video", "where": "/dev/video97"}),
    }  # fmt: skip
    async with running(config_of(tmp_path, streams)) as agent:

        def is_told(name: str, code: str) -> bool:
            return said(agent, name).get("code") == code

        await until(lambda: is_told("quiet", "no-signal"), "a folder that stays empty is told")
        quiet = said(agent, "quiet")
        assert "expect_every_s" in quiet["what"]
        assert "expect_every_s" in quiet["reason"]
        assert "longer expect_every_s" in quiet["fix"], "nothing has to be put back"

        await until(lambda: is_told("camera", "source-lost"), "a camera that is not there")
        camera = said(agent, "camera")
        assert "it is not there" in camera["what"]
        assert "plug it in" in camera["fix"]
        assert "password" not in camera["fix"]

        await until(lambda: is_told("still", "frozen"), "a picture that stands still")
        assert "put the file" not in said(agent, "still")["fix"], "the folder is there"

        await until(lambda: agent.views.streams()["gone"]["state"] == "idle", "it is watched")
        gone.rmdir()
        await until(lambda: is_told("gone", "source-lost"), "a folder that is taken away")
        assert "DOE" not in str(agent.views.status()), "folders are named after patients"
        gone.mkdir()
        await until(lambda: "code" not in said(agent, "gone"), "it is back, and empty is no fault")
        await until(lambda: agent.views.streams()["gone"]["state"] == "idle", "it is watched again")
    lost = [line for line in caplog.messages if "it is not there" in line]
    assert lost == [], "one line of a change: that of the status, problem source-lost"


async def test_a_recording_that_came_late_and_was_over_soon_is_not_lost(tmp_path: Path) -> None:
    streams = {
        "late": of({"kind": "images", "path": str(tmp_path / "late"), "fps": 100.0}),
    }
    async with running(config_of(tmp_path, streams)) as agent:
        await until(
            lambda: said(agent, "late").get("code") == "source-lost",
            "a folder that is not there yet",
        )
        pictures(tmp_path / "later", [60, 90, 120])
        (tmp_path / "later").rename(tmp_path / "late")
        await until(lambda: agent.views.streams()["late"]["ended"], "it is shown to its end")
        await until(lambda: "code" not in said(agent, "late"), "a source that came is not lost")
        assert "has ended after 3 images" in said(agent, "late")["reason"]
