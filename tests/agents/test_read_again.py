"""A model that nobody could read for a moment is no model that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.app import running
from edge_agent.core.errors import Damaged
from edge_agent.stores.models import Models
from tests.agents.living import config_of, inferred, stream, until

pytestmark = pytest.mark.anyio


class Unreadable(Models):
    """A store on a disk that gives nothing, as often as told."""

    def __init__(self, folder: Path, times: int) -> None:
        super().__init__([folder], shipped=False)
        self.times = times

    def resolve(self, name: str, version: str) -> Path:
        if self.times:
            self.times -= 1
            raise Damaged(f"read which version of model {name} is current: Input/output error")
        return super().resolve(name, version)


async def test_a_stream_whose_model_could_not_be_read_comes_back_by_itself(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"a": stream(model={"name": "tiny"})})
    async with running(config) as agent:
        await until(lambda: inferred(agent, "a") > 2, "results")
        store = agent._orders._store = Unreadable(tmp_path / "models", times=2)
        await agent.reorder()
        assert "a" not in agent.engine.taps or not agent.engine.taps["a"].is_open
        assert any("Input/output error" in one["what"] for one in agent.views.problems())
        await until(lambda: not store.times, "it is read again")
        await until(lambda: agent.views.streams()["a"]["state"] == "ok", "the stream is back")
        assert not any("Input/output" in one["what"] for one in agent.views.problems())
