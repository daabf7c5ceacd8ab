"""The rollouts put together: real store, installers and repository; the side is scripted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from edge_agent.config.structs import Config, ModelsConfig
from edge_agent.downward import Downward
from edge_agent.host import SystemClock
from edge_agent.services.rollouts import Desk
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import Shelf
from tests.installer import rascals
from tests.installer.hot_side import NODE, HotSide
from tests.services.rolling import CONFIG, NAME, FakeSide, World, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def hot(tmp_path: Path) -> Iterator[HotSide]:
    hot = HotSide(tmp_path / "hot")
    with hot.serving():
        yield hot


class Upstairs:
    """The agent, as far as the rollouts ask it."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    async def reorder(self) -> None:
        self._told.append("reordered")

    async def first(self, model: str, folder: Path | None, sha: str) -> None:
        assert folder is None, (model, sha)

    def keep_first(self, model: str) -> None:
        assert model

    def tell(self, name: str, what: str = "") -> None:
        self._told.append(f"{name} {what}")


def downward(hot: HotSide, tmp_path: Path, side: FakeSide) -> tuple[Downward, list[str]]:
    shipped = tmp_path / "shipped"
    if not shipped.exists():
        rascals.write(shipped / NAME / "1.0.0", name=NAME)
    rollouts = msgspec.structs.replace(
        CONFIG, repositories=(hot.url,), root_file=str(hot.house.metadata / "1.root.json")
    )
    config = Config(
        node=NODE, state_dir=str(tmp_path / "state"), rollouts=rollouts,
        models=ModelsConfig(dirs=(str(shipped),), shipped=False),
    )  # fmt: skip
    told: list[str] = []
    streams = World(tmp_path / "other").streams

    made = Downward(
        config, side=side, clock=SystemClock(), boot="ab",
        models=Models([shipped], shipped=False, installed=Shelf(tmp_path / "state" / "models")),
        streams=lambda: streams, agent=Upstairs(told),
    )  # fmt: skip
    return made, told


async def test_a_published_version_goes_all_the_way_and_the_next_one_is_refused(
    hot: HotSide, tmp_path: Path
) -> None:
    good = hot.publish("1.1.0").sha256
    hot.want("1.1.0")
    side = FakeSide()
    down, told = downward(hot, tmp_path, side)
    async with anyio.create_task_group() as group:
        up = anyio.Event()
        group.start_soon(down.rollouts.run, up.set)
        await up.wait()
        await until(lambda: any(line.startswith("rollout") for line in told), 50)
        assert side.runs == good
        assert down.resolve(NAME).version == "1.1.0"
        bad = hot.publish("1.2.0", fault="drifted").sha256
        hot.want("1.2.0")
        await down.rollouts.wishes.look()
        await until(lambda: len([line for line in told if line.startswith("rollout")]) == 2, 50)
        assert down.rollouts.models()[NAME]["state"] == "rejected"
        assert "expected within" in down.rollouts.models()[NAME]["reason"]
        assert down.rollouts.history()[0]["failed_in"] == "golden"
        await until(lambda: down.store.folder(bad) is None, 50)
        desk: Desk = down.desk
        assert (await desk.roll_back(NAME))["leaving"] == "1.1.0"
        await until(lambda: down.resolve(NAME).version == "1.0.0", 50)
        await until(lambda: side.runs == down.resolve(NAME).sha, 50)  # the pointer moves first
        group.cancel_scope.cancel()
    assert side.runs == down.resolve(NAME).sha
