"""The room of the rollouts: a real store and real documents, a side and installers to script."""

from __future__ import annotations

import json
import time
from pathlib import Path

import anyio
import msgspec
import pytest

from edge_agent.core.edgecore import Desired, DesiredHint, Tuf
from edge_agent.core.errors import Damaged, LinkDown, Rejected, SideDied
from edge_agent.core.rollout import State
from edge_agent.errands import Errand, Place
from edge_agent.services.rollouts import Live
from edge_agent.services.rollouts.watch import watch
from tests.services.rolling import CONFIG, NAME, OLD, WELL, World, bad, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_what_the_repository_wants_is_fetched_tried_swapped_and_committed(
    world: World,
) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        assert rollouts.desired()["state"] == "applied"
        assert rollouts.models()[NAME]["state"] == "committed"
    (report,) = world.reports
    assert report["outcome"] == "committed"
    assert (report["agreement"], report["evidence_frames"], report["trials"]) == (0.9, 100, 1)
    assert (report["previous"], report["via"]) == ("1.0.0", "full")
    assert report["candidate_us_p50"] == 900
    assert report["versions"] == {"agent": "0.1.0"}
    assert world.store.pointers(NAME).current == sha
    assert world.side.runs == sha
    assert len(json.dumps(report)) < 4096


async def test_the_same_desired_state_again_is_nothing_to_do(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        before = len(world.crew.asked)
        for _ in range(3):
            await rollouts.wishes.look()
    assert world.crew.verbs()[before:].count("fetch") == 0
    async with world.running() as (rollouts, _):
        await until(lambda: rollouts.wishes.memory.serial == 5)
        await anyio.sleep(0.1)
    assert len(world.reports) == 1


async def test_a_shadow_that_disagrees_is_refused_once_and_never_live(world: World) -> None:
    sha = world.package("1.2.0")
    world.want(6, "1.2.0", sha)
    world.side.counts = bad(agreement_sum=5.0)
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        await rollouts.wishes.look()
        await anyio.sleep(0.1)
        assert rollouts.desired()["state"] == "refused"
        assert "agreement" in rollouts.models()[NAME]["reason"]
        assert "agreement" in rollouts.history(NAME)[0]["reason"]
    assert world.reports[0]["failed_in"] == "shadow"
    assert len(world.reports) == 1
    assert "swap" not in world.side.asked
    assert world.store.folder(sha) is None  # its room is given back


async def test_a_probation_that_fails_is_rolled_back_within_a_second(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running() as (rollouts, _):
        await until(lambda: world.side.trial == sha)
        nan = msgspec.structs.replace(WELL.now, nan=3, errors=3)
        world.side.trials = {"us-1": msgspec.structs.replace(WELL, now=nan)}
        with anyio.fail_after(1.0):
            while world.side.trial:
                await anyio.sleep(0.01)
        await until(lambda: world.reports)
        assert rollouts.models()[NAME]["state"] == "rolled_back"
    assert "NaN" in world.reports[0]["reason"]
    assert world.store.pointers(NAME).current == ""
    assert world.side.runs == OLD


async def test_a_side_that_dies_on_trial_three_times_refuses_the_package(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running() as (rollouts, _):
        for trial in range(1, 4):
            await until(lambda: world.side.trial == sha)
            assert rollouts.drives[NAME].document.trials == trial
            world.side.die()
        await until(lambda: world.reports)
    assert world.reports[0]["outcome"] == "rolled_back"
    assert "trial 3 of 3" in world.reports[0]["reason"]


async def test_a_side_that_is_gone_while_it_loads_is_a_failed_trial_no_crash_of_ours(
    world: World,
) -> None:
    world.want(5, "1.1.0", world.package("1.1.0"))
    world.side.wrong["load"] = SideDied("load: the inference side is down")
    async with world.running():
        await until(lambda: world.reports)
    assert (world.reports[0]["outcome"], world.reports[0]["trials"]) == ("rejected", 3)


async def test_between_exams_it_waits_and_says_for_what(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    busy = world.side.rests["us-1"]._replace(exam="e1", no_signal_s=0.0)
    world.side.rests["us-1"] = busy
    async with world.running() as (rollouts, _):
        await until(lambda: rollouts.models().get(NAME, {}).get("waits_for", "").startswith("us-1"))
        assert "swap" not in world.side.asked
        world.side.rests["us-1"] = busy._replace(no_signal_s=61.0)
        await until(lambda: world.reports)
    assert world.side.runs == sha


async def test_weather_is_waited_out_and_progress_is_shown(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.crew.hold["fetch"] = anyio.Event()
    async with world.running() as (rollouts, _):
        await until(lambda: rollouts.models().get(NAME, {}).get("progress"))
        assert rollouts.models()[NAME]["progress"] == {"what": "bytes", "done": 1, "of": 2}
        world.crew.wrong["fetch"] = LinkDown("no source answers")
        world.crew.hold.pop("fetch").set()
        await until(lambda: rollouts.models()[NAME]["waits_for"])
        del world.crew.wrong["fetch"]
        await until(lambda: world.reports)
    assert world.reports[0]["outcome"] == "committed"


async def test_a_process_that_dies_at_any_state_converges_in_the_next(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running():
        await until(lambda: world.side.trial == sha)
    world.side.die()  # the machine with it
    world.side.trials = {"us-1": WELL}
    async with world.running():
        await until(lambda: world.reports)
    assert world.reports[-1]["outcome"] == "committed"
    assert world.store.pointers(NAME).current == sha


async def test_a_room_that_begins_anew_finds_nothing_on_trial_that_it_did_not_put_there(
    world: World,
) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.side.trials = {}
    async with world.running():
        await until(lambda: world.side.trial == sha)
    assert world.side.trial == sha  # the side lives on: only the room ended
    world.crew.hold["prove"] = anyio.Event()
    async with world.running():
        await until(lambda: not world.side.trial)


async def test_the_end_of_a_rollout_makes_no_room_out_of_what_is_wanted_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its download had begun by the time that the installer swept, and was gone."""
    resolve, new = world.resolve, world.package("1.2.0")

    def slow(name: str) -> Live:
        time.sleep(0.3)
        return resolve(name)

    monkeypatch.setattr(world, "resolve", slow)  # it reads a disk
    world.want(5, "1.1.0", world.package("1.1.0"))
    world.crew.hold["fetch"] = anyio.Event()
    async with world.running() as (rollouts, _):
        await until(lambda: "fetch" in world.crew.verbs())
        world.want(6, "1.2.0", new)
        rollouts.wishes.hint()
        await until(lambda: "collect" in world.crew.verbs())
    assert new in next(one.keep for one in world.crew.asked if one.verb == "collect")


async def test_a_download_that_nobody_wants_any_more_does_not_stay(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.crew.hold["fetch"] = anyio.Event()
    async with world.running() as (rollouts, _):
        await until(lambda: "fetch" in world.crew.verbs())
        left = world.store.reserve(sha, 1000)
        world.crew.desired["desired/cart-3.json"] = {"schema": 1, "serial": 6, "models": {}}
        rollouts.wishes.hint()
        await until(lambda: not left.exists())
    assert world.reports[0]["outcome"] == "withdrawn"


async def test_a_download_that_a_pin_gave_up_does_not_stay(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    world.crew.hold["fetch"] = anyio.Event()
    async with world.running() as (_, desk):
        await until(lambda: "fetch" in world.crew.verbs())
        left = world.store.reserve(sha, 1000)
        await desk.pin(NAME, "1.0.0", "test")
        await until(lambda: not left.exists())


async def test_a_message_is_a_hint_and_an_older_serial_is_none(world: World) -> None:
    async with world.running() as (rollouts, _):
        await until(lambda: "wanted" in world.crew.verbs())
        world.want(5, "1.1.0", world.package("1.1.0"))
        await anyio.sleep(0.05)
        looks = world.crew.verbs().count("wanted")
        rollouts.came(Desired(state=DesiredHint(serial=0), raw=b""))
        assert not rollouts.wishes._hinted.is_set()
        rollouts.came(Desired(state=DesiredHint(serial=7), raw=b"forged"))
        assert rollouts.wishes._hinted.is_set()
        rollouts.came(Tuf(metadata=b"{}"))
        await rollouts.wishes.look()
        assert world.crew.verbs().count("wanted") > looks
        assert rollouts.wishes.memory.serial == 5  # not 7: what is signed counts


async def test_a_replayed_document_changes_nothing_and_is_said_once(world: World) -> None:
    new, old = world.package("1.1.0"), world.package("1.0.9")
    world.want(5, "1.1.0", new)
    async with world.running() as (rollouts, _):
        await until(lambda: world.reports)
        world.want(4, "1.0.9", old)
        await rollouts.wishes.look()
        await rollouts.wishes.look()
        assert rollouts.wishes.memory.serial == 5
        assert "serial 4 is older than 5" in rollouts.desired()["why"]
    assert [name for name, _ in world.told].count("desired-refused") == 1
    assert world.side.runs == new


async def test_a_file_that_is_installed_by_hand_is_pinned_until_it_is_let_go(
    world: World,
) -> None:
    mine, theirs = world.package("1.1.0"), world.package("1.3.0")
    world.crew._admit(_errand(world, mine))
    async with world.running() as (rollouts, desk):
        answer = await desk.install(model=NAME, version="1.1.0")
        assert answer["models"][NAME]["sha"] == mine
        await until(lambda: world.reports)
        world.want(9, "1.3.0", theirs)
        await rollouts.wishes.look()
        await anyio.sleep(0.05)
        assert rollouts.models()[NAME]["pinned"] == "1.1.0"
        assert "an operator holds it to 1.1.0" in rollouts.models()[NAME]["note"]
        assert rollouts.desired()["state"] == "held"
        assert rollouts.desired()["models"] == {NAME: "pinned"}
        assert (await desk.install(model=NAME, version="1.1.0")) == {
            "models": {}, "live": "1.1.0",
        }  # fmt: skip
        await desk.unpin(NAME)
        await until(lambda: len(world.reports) == 2)
    assert world.side.runs == theirs


def _errand(world: World, sha: str) -> Errand:
    return Errand(verb="fetch", place=Place(models=str(world.store.root), tuf=""), sha=sha)


async def test_a_person_has_the_previous_one_back_at_once_and_it_stays(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    async with world.running() as (rollouts, desk):
        await until(lambda: world.reports)
        assert (await desk.roll_back(NAME))["leaving"] == "1.1.0"
        await until(lambda: len(world.reports) == 2)
        await rollouts.wishes.look()
        await anyio.sleep(0.1)
        assert world.store.pointers(NAME).current == ""
        assert rollouts.models()[NAME]["reason"] == "rolled back by hand"
        with pytest.raises(Rejected, match="is what the configuration says"):
            await desk.roll_back(NAME)
    assert len(world.reports) == 2


async def test_a_version_that_nobody_has_is_named_with_what_there_is(world: World) -> None:
    async with world.running() as (_, desk):
        with pytest.raises(Rejected, match=r"neither installed \(there is none\)"):
            await desk.install(model=NAME, version="7.0.0")


async def test_a_configuration_that_came_down_is_applied_or_refused_with_the_reason(
    world: World,
) -> None:
    world.crew.configs = {"c" * 64: "bad", "d" * 64: "good"}
    wanted = {"schema": 1, "serial": 1, "config": {"version": "1", "sha256": "c" * 64}}
    world.crew.desired["desired/cart-3.json"] = wanted
    world.refuse_config = "streams.us-1.fps — wrong type"
    async with world.running() as (rollouts, _):
        await until(lambda: rollouts.desired()["config"]["state"] == "refused")
        assert rollouts.desired()["state"] == "refused"
        await rollouts.wishes.look()
        assert world.applied == ["bad"]
        world.refuse_config = ""
        wanted |= {"serial": 2, "config": {"version": "2", "sha256": "d" * 64}}
        await rollouts.wishes.look()
        assert rollouts.desired()["config"]["state"] == "applied"
    names = [name for name, _ in world.told]
    assert names == ["config-refused", "config-applied"]


async def test_a_disk_that_takes_nothing_holds_the_rollout_and_not_the_live_stream(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_document: object) -> None:
        raise Damaged("write tiny.json: no space left on device")

    world.want(5, "1.1.0", world.package("1.1.0"))
    monkeypatch.setattr(world.keep, "write", full)
    async with world.running() as (rollouts, _):
        await until(lambda: NAME in rollouts.drives and rollouts.drives[NAME].trouble)
        await anyio.sleep(0.2)
        assert rollouts.drives[NAME].document.state is State.IDLE
        assert "no space" in rollouts.models()[NAME]["reason"]
        monkeypatch.undo()
        await until(lambda: world.reports)
    assert "fetch" in world.crew.verbs()


async def test_a_link_that_is_turned_is_a_change_of_the_file(tmp_path: Path) -> None:
    for name, text in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "desired.json").write_text(text)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "desired.json").symlink_to("..data/desired.json")
    seen: list[int] = []
    async with anyio.create_task_group() as group:
        group.start_soon(
            lambda: watch(tmp_path / "desired.json", lambda: seen.append(1), every_s=0.02)
        )
        await until(lambda: len(seen) == 1)
        (tmp_path / "..new").symlink_to("two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await until(lambda: len(seen) == 2)
        await anyio.sleep(0.1)
        group.cancel_scope.cancel()
    assert len(seen) == 2


async def test_a_damaged_document_is_put_aside_and_the_live_model_stays(world: World) -> None:
    sha = world.package("1.1.0")
    world.want(5, "1.1.0", sha)
    async with world.running():
        await until(lambda: world.reports)
    for copy in ("", ".copy"):
        (world.path / "rollouts" / f"{NAME}{copy}.json").write_bytes(b'{"model": ')
    async with world.running() as (rollouts, _):
        await anyio.sleep(0.2)
        assert rollouts.history() == []
        (problem,) = rollouts.problems()
        assert f"model {NAME} is held, what runs goes on" in problem.what
    assert world.side.runs == sha
    assert [path.name for path in (world.path / "rollouts").glob("*.damaged")]


def test_the_defaults_hold_what_is_inconclusive() -> None:
    assert CONFIG.inconclusive == "hold"
