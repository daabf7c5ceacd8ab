"""What ends a rollout is done, and told when it is: errno by errno, on disks that refuse it.

A real store and real documents, a side and installers to script.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from edge_agent.core.rollout import KINDS, Order, State
from edge_agent.services.rollouts.actions import ACTIONS
from edge_agent.stores.files import DISK
from edge_agent.stores.papers import Papers
from tests.faults.failing import FailingDisk
from tests.services.rolling import NAME, OLD, WELL, World, on_trial, until

pytestmark = pytest.mark.anyio
ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE)
WRITES = ("create", "write", "sync", "rename")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class Disks:
    """The world's disk fails, for the store or for the documents, until it is well."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = world.store

    def store(self, number: int) -> None:
        self._of_store(FailingDisk(number, *WRITES, only="pointers"))

    def documents(self, number: int) -> None:
        self._of_documents(FailingDisk(number, *WRITES))

    def well(self) -> None:
        self._of_store(DISK)
        self._of_documents(DISK)

    def _of_store(self, disk: Any) -> None:
        self._store._disk = disk

    def _of_documents(self, disk: Any) -> None:
        for papers in (self._world.keep._rollouts, self._world.keep._wishes):
            assert isinstance(papers, Papers)
            papers._disk = disk


def test_every_order_of_the_table_has_its_action_and_no_other() -> None:
    assert set(ACTIONS) == set(KINDS) - {"pause"}
    safe: set[Order] = {order for order, kind in KINDS.items() if kind.safe}
    assert safe == {"probe", "roll_back", "revert", "restart"}


# ── a disk that refuses what ends a rollout ───────────────────────────────────────────────────


@pytest.mark.parametrize("number", ERRNOS)
async def test_a_commit_that_the_disk_refuses_is_told_when_it_is_done(
    world: World, number: int
) -> None:
    sha, disks = world.package("1.1.0"), Disks(world)
    world.want(5, "1.1.0", sha)
    disks.store(number)
    async with world.running() as (rollouts, _):
        await until(rollouts.problems)
        problem = rollouts.problems()[0]
        assert (problem.code, problem.severity) == ("rollout-unsettled", "critical")
        assert problem.what.startswith(f"model {NAME} 1.1.0: commit: ")
        assert rollouts.models()[NAME]["state"] == "probation"
        assert rollouts.desired()["state"] == "pending"
        assert not world.reports
        assert (world.side.trial, world.store.pointers(NAME).current) == (sha, "")
        disks.well()
        await until(lambda: world.reports)
        assert not rollouts.problems()
    assert world.reports[0]["outcome"] == "committed"
    assert (world.side.runs, world.store.pointers(NAME).current) == (sha, sha)


@pytest.mark.parametrize("number", ERRNOS)
async def test_a_roll_back_of_what_is_committed_is_live_at_once_and_told_when_it_is_done(
    world: World, number: int
) -> None:
    sha, disks = world.package("1.1.0"), Disks(world)
    world.want(5, "1.1.0", sha)
    async with world.running() as (rollouts, desk):
        await until(lambda: world.reports)
        disks.store(number)
        said = await desk.roll_back(NAME)
        assert (said["leaving"], said["live"], said["written"]) == ("1.1.0", "1.0.0", True)
        assert world.side.runs == OLD
        await until(rollouts.problems)
        assert rollouts.models()[NAME]["state"] == "rolling_back"
        assert len(world.reports) == 1
        assert world.store.pointers(NAME).current == sha
        disks.well()
        await until(lambda: len(world.reports) == 2)
        assert not rollouts.problems()
    assert world.reports[1]["outcome"] == "rolled_back"
    assert world.store.pointers(NAME).current == ""


@pytest.mark.parametrize("number", ERRNOS)
async def test_a_disk_that_takes_no_document_never_holds_a_roll_back(
    world: World, number: int
) -> None:
    sha, disks = world.package("1.1.0"), Disks(world)
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running() as (rollouts, desk):
        await on_trial(world, sha)
        disks.documents(number)
        with anyio.fail_after(1.0):
            said_soon = anyio.current_time()
            async with anyio.create_task_group() as group:
                group.start_soon(desk.roll_back, NAME)
                while world.side.trial:
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            assert anyio.current_time() - said_soon < 1.0
        assert not world.reports
        await until(rollouts.problems)
        disks.well()
        await until(lambda: world.reports)
    assert (world.reports[0]["outcome"], world.side.runs) == ("rolled_back", OLD)


async def test_the_word_of_a_person_says_what_is_live_when_the_disk_takes_nothing(
    world: World,
) -> None:
    sha, disks = world.package("1.1.0"), Disks(world)
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running() as (rollouts, desk):
        await on_trial(world, sha)
        disks.documents(errno.ENOSPC)
        said = await desk.roll_back(NAME)
        assert said == {
            "model": NAME, "leaving": "1.1.0", "sha": sha, "live": "1.0.0", "written": False,
        }  # fmt: skip
        pinned = await desk.pin(NAME, "", "uid 0")
        assert (pinned["pinned"], pinned["live"], pinned["written"]) == ("1.0.0", "1.0.0", False)
        assert rollouts.wishes.memory.pins[NAME].version == "1.0.0"
        disks.well()
        await until(lambda: not rollouts.wishes.unwritten)
    async with world.running() as (rollouts, _):  # it was kept
        await until(lambda: rollouts.wishes.is_recalled)
        assert rollouts.wishes.memory.pins[NAME].version == "1.0.0"


async def test_a_candidate_that_says_nan_while_the_disk_is_full_is_gone_within_a_second(
    world: World,
) -> None:
    sha, disks = world.package("1.1.0"), Disks(world)
    world.want(5, "1.1.0", sha)
    async with world.running():
        disks.store(errno.ENOSPC)  # it has passed, and its commit can't be written
        await on_trial(world, sha)
        disks.documents(errno.ENOSPC)
        await anyio.sleep(0.5)
        nan = msgspec.structs.replace(WELL.now, nan=3, errors=3)
        world.side.trials = {"us-1": msgspec.structs.replace(WELL, now=nan)}
        with anyio.fail_after(1.0):
            while world.side.trial:
                await anyio.sleep(0.01)
        disks.well()
        await until(lambda: world.reports)
    assert (world.reports[0]["outcome"], world.store.pointers(NAME).current) == ("rolled_back", "")


async def test_a_state_is_shown_as_it_is_while_a_roll_back_is_carried_out(world: World) -> None:
    sha, disks = world.package("1.1.0"), Disks(world)
    world.want(5, "1.1.0", sha)
    async with world.running() as (rollouts, desk):
        await until(lambda: world.reports)
        disks.store(errno.EROFS)
        await desk.roll_back(NAME)
        assert rollouts.drives[NAME].document.state is State.ROLLING_BACK
        disks.well()
        await until(lambda: rollouts.drives[NAME].document.state is State.ROLLED_BACK)
