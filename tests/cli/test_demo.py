"""The demo on this machine: its sums, its picture, its report; never its speed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len
from rich.console import Console

from edge_agent.app import running
from edge_agent.cli import screen, theatre
from edge_agent.cli.exits import CommandError
from edge_agent.cli.wings import scratch, wings
from edge_agent.core.frames import DROPS
from tests.agents.living import config_of, stream, sums, until

FAR_SIDE = f"{sys.executable} -m tools.far_side"


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", "demo", "--no-ui", *words],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip


def test_every_frame_of_a_short_demo_is_accounted_for(tmp_path: Path) -> None:
    report_file, picture = tmp_path / "r.json", tmp_path / "view.png"
    words = ("--seconds", "2", "--report", str(report_file), "--save", str(picture))
    done = demo(*words, "--far-side", FAR_SIDE)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(report_file.read_text())
    assert report["errors"] == 0
    assert set(report["streams"]) == {"ultrasound", "endoscope"}
    for name, one in report["streams"].items():
        assert one["captured"] == one["inferred"] + sum(one["dropped"].values()), name
        assert set(one["dropped"]) == {why.value for why in DROPS}
        assert one["inferred"] > 0
        assert one["state"] == "ok"
        assert f"{one['captured']} captured" in done.stdout
    clip = report["streams"]["ultrasound"]
    assert clip["calibrated"] is False  # the clip was scaled and its region overruns the image
    assert clip["calibration"]["spacing_mm"] is None
    assert "outside its image" in clip["calibration"]["reason"]
    assert report["records_spooled"] >= sum(s["inferred"] for s in report["streams"].values())
    assert report["records_received"] + report["pending"] >= report["records_spooled"]
    assert (report["lost"], report["duplicates"]) == (0, 0)
    assert 0 < report["sent_bytes"] < report["raw_bytes"] / 2
    assert report["live_latency_ms"]["n"] > 0
    with Image.open(picture) as shown:
        assert shown.size[0] > shown.size[1]
    assert "not for diagnosis" in done.stdout


@pytest.mark.anyio
async def test_a_scene_is_drawn_without_asking_the_house(tmp_path: Path) -> None:
    """Found by a look: a thread that drew met a deque that grew meanwhile, and the demo ended."""
    async with running(config_of(tmp_path, {"a": stream()})) as agent:
        agent.views.frame("a")
        await until(lambda: sums(agent, "a")["inferred"] > 3, "results")
        await until(lambda: "a" in screen.scene(agent.views).shots, "a frame")
        now = screen.scene(agent.views)
        channel = agent.pipeline.channels.pop("a")
    channel.recent.clear()
    console = Console(record=True, width=126, file=io.StringIO())
    console.print(screen.view(now, 1.0, {"link": "cut", "received": 7}))
    text = console.export_text()
    assert "7 at the hot tier" in text
    assert "cut (c restores it)" in text
    assert screen.montage(now).shape[2] == 3
    streams = now.status["streams"]
    streams["b"] = {**streams["a"], "title": "A title that is longer than its picture " * 3}
    problems = [{"what": "something with many words " * 9, "fix": "mend it"}] * 5
    for columns, lines in ((80, 24), (60, 20), (200, 60)):
        narrow = Console(record=True, width=columns, height=lines, file=io.StringIO())
        crowded = now._replace(status={**now.status, "problems": problems})
        narrow.print(screen.view(crowded, 1.0, {"link": "cut"}, (columns, lines)), end="")
        shown = narrow.export_text().rstrip("\n").split("\n")
        assert len(shown) <= lines - 1, (columns, lines, len(shown))  # the last one stays free
        assert max(map(cell_len, shown)) <= columns
        assert screen.BANNER in shown[-1]
        assert sum(line.count("p50 /") for line in shown) == len(streams)


@pytest.mark.anyio
async def test_a_link_that_is_cut_in_the_demo_is_restored_by_the_same_key(tmp_path: Path) -> None:
    async with (
        wings(FAR_SIDE, node="demo", folder=scratch(str(tmp_path))) as there,
        anyio.create_task_group() as group,
    ):
        group.start_soon(there.listen)
        with anyio.fail_after(20):
            for wanted in ("up", "cut", "up"):
                while there.news.get("link") != wanted:
                    await anyio.sleep(0.02)
                there.toggle_link()
            assert (await there.end())["over"] is True


@pytest.mark.anyio
async def test_a_far_side_that_does_not_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="far side did not start"):
        async with wings("false", node="demo", folder=str(tmp_path)):
            pass


def test_a_report_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    done = demo("--seconds", "0.2", "--report", str(tmp_path / "no" / "r.json"))
    assert done.returncode == 1
    assert "No such file" in done.stderr
    assert "--report" in done.stderr


def test_a_picture_becomes_half_blocks_of_its_own_colours() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[4:] = (10, 20, 200)  # BGR
    text = screen.half_blocks(picture, 4)
    assert text.plain == "▀▀▀▀\n▀▀▀▀\n"
    assert {str(span.style) for span in text.spans} == {
        "rgb(0,0,0) on rgb(0,0,0)",
        "rgb(200,20,10) on rgb(200,20,10)",
    }


def test_the_demo_is_the_sample_in_a_folder_of_its_own(tmp_path: Path) -> None:
    config = theatre.config_in(str(tmp_path))
    assert config.state_dir == str(tmp_path)
    assert config.engine.start_together
    assert config.node == "demo"


def test_where_the_next_version_stands_is_a_line() -> None:
    assert screen.trial("m", {"active": "1.0.0", "rollout": None}) == []
    rollout = {"state": "rejected", "version": "1.2.0", "reason": "agreement 0.00", "waits_for": ""}
    (line,) = screen.trial("m", {"active": "1.1.0", "rollout": rollout})
    assert line.plain == "model  m 1.1.0 runs; 1.2.0: rejected, agreement 0.00"


@pytest.mark.parametrize(("why", "count"), [("error", 1), ("crash", 2)])
def test_errors_are_what_failed_and_what_crashed(why: str, count: int) -> None:
    dropped = {"error": 0, "crash": 0, "late": 7, why: count}
    assert theatre.errors_of({"dropped": dropped}) == count
