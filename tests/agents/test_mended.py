"""What mended itself, or was mended by a person, is over without a reload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from tests.agents.living import config_of, inferred, stream, sums, until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.agent.READ_AGAIN_S", 0.2)
    monkeypatch.setattr("edge_agent.agent.AGAIN_S", (0.4, 1.0))


def codes(agent: Agent) -> list[str]:
    return [one["code"] for one in agent.views.status()["problems"]]


async def test_a_stream_that_could_not_begin_for_want_of_its_key_begins_once_it_is_there(
    tmp_path: Path,
) -> None:
    """It was failed until somebody thought of a reload: the fix that was told mended nothing."""
    key, watched = tmp_path / "exam.key", tmp_path / "watched"
    watched.mkdir()
    source: dict[str, Any] = {"kind": "dicom", "path": str(watched), "exam_key_file": str(key)}
    watch = {**stream(), "source": source}
    async with running(
        config_of(tmp_path, {"cam": stream({"fps": 10.0}), "watch": watch})
    ) as agent:
        await until(lambda: "stream-rejected" in codes(agent), "it is told")
        await until(lambda: inferred(agent, "cam") > 2, "the other one runs")
        starts = inferred(agent, "cam")
        for _ in range(30):  # while it is tried again and again, it is told of and no other suffers
            assert sums(agent, "watch")["state"] == "failed"
            assert "stream-rejected" in codes(agent)
            await anyio.sleep(0.05)
        key.write_bytes(bytes(range(32)))
        await until(lambda: sums(agent, "watch")["state"] == "idle", "it has begun")
        assert "stream-rejected" not in codes(agent)
        assert inferred(agent, "cam") > starts
        assert agent.engine.starts == 1
