"""What is under way obeys: pins, configuration, halts, other wishes.

A real store and real documents, a side and installers to script.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from edge_agent.config.structs import StreamModel
from edge_agent.core.errors import BadPackage, Damaged, Overloaded, Rejected
from edge_agent.core.problems import is_fault
from edge_agent.errands import Errand, Place
from edge_agent.services.rollouts import Desk, Keep, Rollouts, crew
from edge_agent.stores.files import DISK
from edge_agent.stores.installed import Installed
from edge_agent.stores.papers import Papers
from tests.faults.failing import FailingDisk
from tests.services.rolling import MAX_BYTES, NAME, OLD, WELL, World, on_trial, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# ── what is wanted, always ────────────────────────────────────────────────────────────────────

Word = Callable[[World, Rollouts, Desk], Any]


async def _pin(_world: World, _rollouts: Rollouts, desk: Desk) -> None:
    await desk.pin(NAME, "1.0.0", "uid 0")


async def _configuration(world: World, rollouts: Rollouts, _desk: Desk) -> None:
    held = (StreamModel(name=NAME, version="1.0.0"),)
    world.streams["us-1"] = msgspec.structs.replace(world.streams["us-1"], models=held)
    rollouts.look_again()


async def _no_stream(world: World, rollouts: Rollouts, _desk: Desk) -> None:
    del world.streams["us-1"]
    rollouts.look_again()


async def _halt(world: World, rollouts: Rollouts, _desk: Desk) -> None:
    wanted = world.crew.desired["desired/cart-3.json"]
    sha = wanted["models"][NAME]["sha256"]
    halt = {"sha256": sha, "version": "1.1.0", "reason": "it misses polyps"}
    world.crew.desired["desired/cart-3.json"] = {
        "schema": 1, "serial": 6, "halted": {NAME: [halt]},
    }  # fmt: skip
    await rollouts.wishes.look()


async def _nothing(world: World, rollouts: Rollouts, _desk: Desk) -> None:
    world.crew.desired["desired/cart-3.json"] = {"schema": 1, "serial": 6}
    await rollouts.wishes.look()


@pytest.mark.parametrize("stage", ["fetch", "prove", "shadow", "wait", "probe"])
@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (_pin, "an operator holds it to 1.0.0"),
        (_configuration, "the configuration holds it to 1.0.0"),
        (_no_stream, "no stream runs it"),
        (_halt, "1.1.0 is halted by the hot tier: it misses polyps"),
        (_nothing, "serial 6 wants nothing of it any more"),
    ],
    ids=["pin", "configuration", "stream", "halt", "nothing"],
)
async def test_what_is_not_wanted_any_more_is_gone_within_a_second(
    world: World, stage: str, word: Word, reason: str
) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    if stage in ("fetch", "prove"):
        world.crew.hold[stage] = anyio.Event()
    if stage == "shadow":
        world.side.counts = {}
    if stage == "wait":
        world.side.rests["us-1"] = world.side.rests["us-1"]._replace(exam="e1", no_signal_s=0.0)
    world.side.trials = {}
    async with world.running() as (rollouts, desk):
        await until(lambda: NAME in rollouts.drives and _order(rollouts) == stage)
        await anyio.sleep(0.05)
        with anyio.fail_after(1.5):
            await word(world, rollouts, desk)
            while not world.reports:
                await anyio.sleep(0.01)
        assert not world.side.trial
        assert rollouts.models()[NAME]["refused"] == []
    (report,) = world.reports
    outcome = "rolled_back" if stage == "probe" else "withdrawn"
    assert (report["outcome"], report["reason"]) == (outcome, reason)
    assert (world.side.runs, world.store.pointers(NAME).current) == (OLD, "")


def _order(rollouts: Rollouts) -> str:
    return rollouts.drives[NAME].document.order


async def test_nothing_is_applied_while_another_version_is_under_way(world: World) -> None:
    first, second = world.package("1.1.0"), world.package("1.2.0")
    world.want(5, "1.1.0", first)
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        world.crew.hold["prove"] = anyio.Event()
        world.want(6, "1.2.0", second)
        await rollouts.wishes.look()
        await until(lambda: _order(rollouts) == "prove")
        world.want(7, "1.1.0", first)  # back to what is current
        await rollouts.wishes.look()
        while len(world.reports) < 2:
            is_at_rest = rollouts.drives[NAME].document.is_settled
            assert is_at_rest or rollouts.desired()["state"] != "applied"
            await anyio.lowlevel.checkpoint()
        await until(lambda: rollouts.desired()["state"] == "applied")
    assert (world.reports[1]["outcome"], world.side.runs) == ("withdrawn", first)


async def test_a_version_on_trial_that_is_pinned_as_it_is_live_goes_on(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running() as (_, desk):
        await on_trial(world, sha)
        said = await desk.pin(NAME, "", "uid 0")
        assert (said["pinned"], said["live"]) == ("1.1.0", "1.1.0")
        world.side.trials = {"us-1": WELL}
        await until(lambda: world.reports)
    assert world.reports[0]["outcome"] == "committed"


async def test_a_pin_to_another_version_than_is_live_says_which_one_is(world: World) -> None:
    async with world.running() as (rollouts, desk):
        await desk.pin(NAME, "9.9.9", "uid 0")
        (told,) = [one for one in rollouts.problems() if one.code == "pinned"]
        assert told.what.startswith(f"model {NAME} is pinned to 9.9.9, and 1.0.0 is live")


async def test_a_halted_version_that_is_committed_gives_way_to_the_last_good_one(
    world: World,
) -> None:
    first, second = world.package("1.1.0"), world.package("1.2.0")
    world.want(5, "1.1.0", first)
    async with world.running() as (rollouts, _):
        await until(lambda: len(world.reports) == 1)
        world.want(6, "1.2.0", second)
        await rollouts.wishes.look()
        await until(lambda: len(world.reports) == 2)
        halt = {"sha256": second, "version": "1.2.0", "reason": "artefacts"}
        world.halted[second] = "artefacts"
        world.crew.desired["desired/cart-3.json"] = {
            "schema": 1, "serial": 7, "halted": {NAME: [halt]},
        }  # fmt: skip
        await rollouts.wishes.look()
        await until(lambda: len(world.reports) == 3)
    assert world.reports[2]["reason"] == "1.2.0 is halted by the hot tier: artefacts"
    assert (world.side.runs, world.store.pointers(NAME)) == (first, (first, ""))


async def test_where_nothing_may_run_the_streams_are_blank_until_there_is_something(
    world: World,
) -> None:
    halt = {"sha256": OLD, "version": "1.0.0", "reason": "recalled"}
    world.halted[OLD] = "recalled"
    world.crew.desired["desired/cart-3.json"] = {
        "schema": 1, "serial": 7, "halted": {NAME: [halt]},
    }  # fmt: skip
    async with world.running() as (rollouts, _):
        await until(lambda: world.side.runs == "")
        await until(lambda: rollouts.drives[NAME].document.is_settled)
        for _ in range(3):
            await rollouts.wishes.follow_models()  # and that is the end of it
        sha = world.package("1.1.0")
        world.crew.desired["desired/cart-3.json"] = {
            "schema": 1, "serial": 8, "halted": {NAME: [halt]},
            "models": {NAME: {"version": "1.1.0", "sha256": sha}},
        }  # fmt: skip
        await rollouts.wishes.look()
        await until(lambda: world.side.runs == sha and world.reports[-1]["version"] == "1.1.0")
    assert [one["outcome"] for one in world.reports] == ["rolled_back", "committed"]
    assert world.store.pointers(NAME).current == sha


# ── whose fault ───────────────────────────────────────────────────────────────────────────────


async def test_memory_that_was_short_for_a_moment_costs_a_good_package_nothing(
    world: World,
) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.crew.wrong["prove"] = Overloaded("prove: its process was ended by SIGKILL")
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        assert rollouts.desired()["models"] == {NAME: "waiting"}
        assert "SIGKILL" in rollouts.desired()["reasons"][NAME]
        del world.crew.wrong["prove"]
        drive = rollouts.drives[NAME]
        drive.document = msgspec.structs.replace(drive.document, resting_until_s=0.0)
        await rollouts.wishes.follow_models()
        await until(lambda: len(world.reports) == 2)
    assert [one["outcome"] for one in world.reports] == ["deferred", "committed"]


async def test_a_bad_package_is_refused_with_its_reason_and_stays_so(world: World) -> None:
    world.want(5, "1.1.0", world.package("1.1.0"))
    world.crew.wrong["prove"] = BadPackage("golden samples of tiny 1.1.0: y: expected within 0.1")
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        assert rollouts.desired()["models"] == {NAME: "refused"}
        del world.crew.wrong["prove"]
        await rollouts.wishes.follow_models()
        await anyio.sleep(0.1)
    assert [one["outcome"] for one in world.reports] == ["rejected"]


# ── memory ────────────────────────────────────────────────────────────────────────────────────


async def test_when_the_memory_is_gone_what_runs_goes_on_and_nothing_new_starts(
    world: World,
) -> None:
    world.keep = _kept(world)
    first, second = world.package("1.1.0"), world.package("1.2.0")
    world.want(5, "1.1.0", first)
    async with world.running() as (_, desk):
        await until(lambda: world.reports)
        await desk.pin(NAME, "1.1.0", "uid 0")
    for copy in ("", ".copy"):
        (world.path / "wishes" / f"desired{copy}.json").write_bytes(b"\0" * 100)
    world.want(6, "1.2.0", second)
    async with world.running() as (rollouts, desk):
        await until(lambda: rollouts.desired()["models"] == {NAME: "memory-lost"})
        assert "every model is held, what runs goes on" in rollouts.problems()[0].what
        await anyio.sleep(0.2)
        assert world.side.runs == first
    async with world.running() as (rollouts, desk):  # over a restart, too
        await until(lambda: rollouts.desired()["models"] == {NAME: "memory-lost"})
        await desk.unpin(NAME)
        await until(lambda: world.side.runs == second)


def _kept(world: World) -> Keep:
    papers = [Papers(world.path / name, max_bytes=MAX_BYTES) for name in ("rollouts", "wishes")]
    return Keep(*papers, earlier=world.store.earlier)


async def test_pins_survive_two_words_at_once(world: World) -> None:
    model = world.streams["us-1"].models[0]
    models = tuple(msgspec.structs.replace(model, name=name) for name in (NAME, *"abcd"))
    world.streams["us-1"] = msgspec.structs.replace(world.streams["us-1"], models=models)
    async with world.running() as (rollouts, desk):
        async with anyio.create_task_group() as group:
            for name in ("a", "b", "c", "d"):
                group.start_soon(desk.pin, name, "1.0.0", "uid 0")
            group.start_soon(rollouts.wishes.look)
        assert set(rollouts.wishes.memory.pins) == set("abcd")


@pytest.mark.parametrize("way", ["doubt", "stick", "release", "unpin"])
async def test_what_nobody_could_read_is_never_written_over(world: World, way: str) -> None:
    async with world.running() as (_, desk):
        await desk.pin(NAME, "1.0.0", "uid 0")
    kept = (world.path / "wishes" / "desired.json").read_bytes()
    wishes = world.keep._wishes
    assert isinstance(wishes, Papers)
    wishes._disk = FailingDisk(errno.EACCES, "read")
    if way == "doubt":
        (world.path / "rollouts").mkdir(exist_ok=True)
        for copy in ("", ".copy"):
            (world.path / "rollouts" / f"{NAME}{copy}.json").write_bytes(b"rotten")
    async with world.running() as (rollouts, desk):
        await until(rollouts.problems)
        stick = world.path / "stick" / "metadata"
        stick.mkdir(parents=True)
        (stick / "timestamp.json").write_text("{}")
        ways: dict[str, Any] = {
            "stick": lambda: desk.install(usb=str(stick.parent)),
            "release": lambda: desk.unpin("*"),
            "unpin": lambda: desk.unpin(NAME),
        }
        if way in ways:
            with pytest.raises(Damaged, match="can not be read"):
                await ways[way]()
        await anyio.sleep(0.1)
        assert (world.path / "wishes" / "desired.json").read_bytes() == kept
        wishes._disk = DISK
        await until(lambda: rollouts.wishes.is_recalled)
        assert rollouts.wishes.memory.pins[NAME].version == "1.0.0"
        if way == "doubt":
            await until(lambda: NAME in rollouts.wishes.memory.doubts)


async def test_no_rollout_begins_from_nothing_while_its_document_can_not_be_read(
    world: World,
) -> None:
    world.want(5, "1.1.0", world.package("1.1.0"))
    world.crew.wrong["prove"] = BadPackage("golden samples of tiny 1.1.0")
    async with world.running():
        await until(lambda: world.reports)
    kept = (world.path / "rollouts" / f"{NAME}.json").read_bytes()
    papers = world.keep._rollouts
    assert isinstance(papers, Papers)
    papers._disk = FailingDisk(errno.EIO, "read")
    async with world.running() as (rollouts, desk):
        await until(lambda: rollouts.unread)
        with pytest.raises(Damaged, match="rollouts can not be read"):
            await desk.roll_back(NAME)
        await desk.pin(NAME, "1.1.0", "uid 0")
        await desk.unpin(NAME)
        assert (world.path / "rollouts" / f"{NAME}.json").read_bytes() == kept
        papers._disk = DISK
        await until(lambda: not rollouts.unread)
        assert rollouts.models()[NAME]["refused"]


# ── the store ─────────────────────────────────────────────────────────────────────────────────


async def test_what_a_person_installs_is_not_collected_meanwhile(world: World) -> None:
    mine = world.package("1.3.0")
    theirs = world.package("1.1.0")
    world.crew.adopts = mine
    world.crew.hold["adopted"] = anyio.Event()
    world.want(5, "1.1.0", theirs)
    async with world.running() as (_, desk), anyio.create_task_group() as group:
        group.start_soon(lambda: desk.install(file="/media/mine.eam"))
        await until(lambda: world.reports)  # its end would make room
        await anyio.sleep(0.2)
        assert world.store.folder(mine) is not None
        world.crew.hold["adopted"].set()
        await until(lambda: world.side.runs == mine)
        assert Installed(world.store.root, limit_bytes=1 << 30).folder(mine) is not None


async def test_rotten_pointers_hold_up_no_roll_back_and_an_installation_makes_them_anew(
    world: World,
) -> None:
    first, second = world.package("1.1.0"), world.package("1.2.0")
    world.want(5, "1.1.0", first)
    async with world.running() as (rollouts, desk):
        await until(lambda: world.reports)
        world.side.trials = {}
        world.want(6, "1.2.0", second)
        await rollouts.wishes.look()
        await on_trial(world, second)
        for copy in ("", ".copy"):
            (world.store.root / NAME / f"pointers{copy}.json").write_bytes(b"rotten")
        said = await desk.roll_back(NAME)
        assert (said["leaving"], said["live"]) == ("1.2.0", "1.1.0")
        await until(lambda: len(world.reports) == 2)
        world.side.trials = {"us-1": WELL}
        await rollouts.wishes.follow_models()
        assert any("edge-agent models install tiny@1.1.0" in one.fix for one in rollouts.problems())
        said = await desk.install(model=NAME, version="1.1.0")
        assert said["models"]
        await until(lambda: len(world.reports) == 3)
        await rollouts.wishes.follow_models()
        assert not [one for one in rollouts.problems() if is_fault(one)]
    assert [one["outcome"] for one in world.reports] == ["committed", "rolled_back", "committed"]
    assert world.store.pointers(NAME).current == first


async def test_where_there_is_nothing_to_go_back_to_a_person_is_told_and_nothing_goes(
    world: World,
) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    async with world.running() as (_, desk):
        await until(lambda: world.reports)
        world.halted[OLD] = "recalled"
        with pytest.raises(Rejected, match="there is no version to go back to"):
            await desk.roll_back(NAME)
        assert world.side.runs == sha


async def test_a_name_that_nobody_has_makes_no_model(world: World) -> None:
    async with world.running() as (rollouts, desk):
        for word in (desk.roll_back("nosuch"), desk.pin("nosuch", "1.0.0", "uid 0")):
            with pytest.raises(Rejected, match="no stream runs such a model"):
                await word
        assert "nosuch" not in rollouts.models()


async def test_who_goes_back_from_a_version_is_no_longer_pinned_to_it(world: World) -> None:
    sha = world.package("1.1.0")
    world.crew._fetch(Errand(verb="fetch", place=Place(models="", tuf=""), sha=sha))
    async with world.running() as (rollouts, desk):
        await desk.install(model=NAME, version="1.1.0")
        await until(lambda: world.reports)
        await desk.roll_back(NAME)
        assert rollouts.wishes.memory.pins[NAME].version == "1.0.0"


def test_a_process_without_descriptors_is_short_and_no_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("socket.socketpair", none_left)
    with pytest.raises(Overloaded, match="start installer: Too many open files"):
        crew._ends()


# ── a judge ───────────────────────────────────────────────────────────────────────────────────


async def test_when_the_service_falls_what_is_on_trial_is_taken_back(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    with pytest.RaisesGroup(RuntimeError, allow_unwrapped=True, flatten_subgroups=True):
        async with world.running() as (rollouts, _):
            await on_trial(world, sha)

            async def fall() -> None:
                raise RuntimeError("a bug of ours")

            assert rollouts._group is not None
            rollouts._group.start_soon(fall)
            await anyio.sleep(5)
    assert not world.side.trial
    assert world.side.runs == OLD


async def test_who_goes_back_never_waits_for_a_version_that_has_rotted(world: World) -> None:
    """The version before had rotted: the order was tried for ever, and what had to go stayed."""
    first, second = world.package("1.1.0"), world.package("1.2.0")
    world.want(5, "1.1.0", first)
    async with world.running() as (rollouts, desk):
        await until(lambda: len(world.reports) == 1)
        world.want(6, "1.2.0", second)
        await rollouts.wishes.look()
        await until(lambda: len(world.reports) == 2)
        assert world.store.pointers(NAME).previous == first
        rot(world, first)
        said = await desk.roll_back(NAME)
        assert (said["leaving"], said["live"]) == ("1.2.0", "1.0.0"), "what the folders say"
        await until(lambda: world.store.pointers(NAME).current == "")


def rot(world: World, sha: str) -> None:
    path = world.store.root / NAME / sha / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def test_an_installed_package_that_has_rotted_is_told_as_that_and_is_fetched_anew(
    world: World,
) -> None:
    """Its pointers were said to be damaged, the fix named another version, and each look found the
    rotten folder to be there already: nothing ever mended it.
    """
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    async with world.running() as (rollouts, desk):
        await until(lambda: len(world.reports) == 1)
        rot(world, sha)
        await rollouts.wishes.follow_models()
        (problem,) = [one for one in rollouts.problems() if is_fault(one)]
        assert (problem.code, problem.subject) == ("model-damaged", NAME)
        assert "reinstall it" in problem.fix
        await desk.install(model=NAME, version="1.1.0")
        await until(lambda: world.store.has(sha))
        await rollouts.wishes.follow_models()
        assert not [one for one in rollouts.problems() if is_fault(one)]
