"""Frames that change their size: a roi that no longer fits is told with both, and is over by
itself; nothing is carried over from one size to the next."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
import cv2
import numpy as np
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.core.frames import Record, Result
from tests.agents.living import config_of, is_balanced, stream, sums, until
from tests.sources import dicoms

pytestmark = pytest.mark.anyio

ROI = [0, 0, 64, 48]
LARGE, SMALL = (64, 48), (32, 24)


def picture(folder: Path, index: int, size: tuple[int, int], level: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{index:03d}.png"), np.full((size[1], size[0]), level, np.uint8))


def misfits(agent: Agent) -> list[dict[str, Any]]:
    return [one for one in agent.views.status()["problems"] if one["code"] == "roi-misfit"]


async def test_a_roi_that_no_longer_fits_is_told_with_both_sizes_and_is_over_when_it_does(
    tmp_path: Path,
) -> None:
    """It was `source-rejected`, and the source opened and closed again and again."""
    folder = tmp_path / "shots"
    sizes = [LARGE] * 15 + [SMALL] * 30 + [LARGE] * 30
    for index, size in enumerate(sizes):
        picture(folder, index, size, 100 + index)
    source = {"kind": "images", "path": str(folder), "fps": 15.0, "roi": ROI}
    seen: list[Record] = []
    config = config_of(tmp_path, {"us": {**stream(), "source": source}})
    async with running(config, on_record=seen.append) as agent:
        await until(lambda: misfits(agent), "the roi does not fit")
        (told,) = misfits(agent)
        words = "us: roi [0, 0, 64, 48] does not fit frames of 32x24 px; it was checked with 64x48"
        assert told["what"] == words
        assert "source.roi" in told["fix"]
        assert told["severity"] == "critical"
        await until(lambda: sums(agent, "us")["state"] == "stale", "nothing fresh is shown")
        codes = {one["code"] for one in agent.views.status()["problems"]}
        assert not codes & {"results-stale", "frames-lost", "source-rejected", "no-signal"}
        assert agent.views.streams()["us"]["facts"]["size"] == list(SMALL), "what comes is told"
        await until(lambda: not misfits(agent), "it fits again")
        await until(lambda: agent.views.streams()["us"]["ended"], "to the end")
    shown = sums(agent, "us")
    assert shown["reopened"] == 0
    assert shown["dropped"]["error"] == 30
    assert is_balanced(shown)
    assert {result.size for result in seen if isinstance(result, Result)} == {LARGE}


async def test_no_object_is_followed_from_one_size_to_the_next(tmp_path: Path) -> None:
    """Its place in the one picture says nothing of its place in the other."""
    folder, other = tmp_path / "shots", (64, 46)
    for index, size in enumerate([LARGE] * 10 + [other] * 10 + [LARGE] * 10):
        picture(folder, index, size, 30 + index % 7)  # dark: the model says so
    source = {"kind": "images", "path": str(folder), "pace": "fast"}
    one = {**stream(), "source": source, "queue": "wait", "tracking": True}
    seen: list[Record] = []
    async with running(config_of(tmp_path, {"us": one}), on_record=seen.append) as agent:
        await until(lambda: agent.views.streams()["us"]["ended"], "to the end")
        await until(lambda: len([r for r in seen if isinstance(r, Result)]) == 30, "all results")
    found = [record for record in seen if isinstance(record, Result)]
    assert [n for n, r in enumerate(found) if "state_reset" in r.flags] == [0, 10, 20]
    tracks = [{thing.track for thing in r.objects} - {0} for r in found]
    runs = [set().union(*tracks[start : start + 10]) for start in (0, 10, 20)]
    assert all(len(run) == 1 for run in runs), runs
    assert len(set.union(*runs)) == 3, "an id never comes back"


async def test_a_folder_with_clips_of_several_sizes_shows_those_that_fit(tmp_path: Path) -> None:
    folder, late = tmp_path / "clips", tmp_path / "late"
    folder.mkdir()
    late.mkdir()
    dicoms.write(folder / "a.dcm", dicoms.moving(3, LARGE))
    dicoms.write(folder / "b.dcm", dicoms.moving(3, SMALL))
    dicoms.write(late / "c.dcm", dicoms.moving(3, LARGE))
    source = {"kind": "dicom", "path": str(folder), "roi": ROI}
    async with running(config_of(tmp_path, {"us": {**stream(), "source": source}})) as agent:
        await until(lambda: misfits(agent), "the second clip does not fit")
        (told,) = misfits(agent)
        assert "does not fit frames of 32x24 px; it was checked with 64x48" in told["what"]
        await anyio.sleep(1.2)
        assert misfits(agent), "nothing that fits has come"
        shutil.copy(late / "c.dcm", folder / "c.dcm")
        await until(lambda: not misfits(agent), "the third one fits")
        assert sums(agent, "us")["reopened"] == 0
