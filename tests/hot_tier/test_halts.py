"""What must not run any more reaches every desired state, and stays within its bounds."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import desired
from edge_agent.core.desired import MAX_BYTES, Desired, Halt
from edge_agent.core.errors import Rejected
from tests.tiny import write_package
from tests.trust.site import Site
from tools.hot_tier import halts, stages, wanted
from tools.hot_tier.__main__ import main
from tools.hot_tier.fleet import Shares, judge
from tools.hot_tier.publishing import publish
from tools.hot_tier.repository import Repository
from tools.hot_tier.wanted import Change, move, wish

OLD = Change(models=(wish("tiny=1.0.0"),))
NEW = Change(models=(wish("tiny=1.1.0"),))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(tmp_path)
    for version, fault in (("1.0.0", ""), ("1.1.0", "blind"), ("1.2.0", "slow")):
        publish(found.house, write_package(tmp_path / version, version=version, fault=fault))
    return found


def state(site: Site, name: str) -> Desired:
    """As a device reads it."""
    with site.device() as trust:
        trust.refresh()
        return desired.read(trust.desired(f"desired/{name}.json"), name)


def halted(site: Site, name: str) -> dict[str, str]:
    return {one.version: one.reason for one in state(site, name).halted.get("tiny", ())}


def run(site: Site, *words: str) -> int:
    return main([*words, "--repository", str(site.folder), "--keys", str(site.keys.folder)])


def test_what_is_withdrawn_is_halted_wherever_anything_is_wanted(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    move(site.house, NEW, cohort="ward-a")
    move(site.house, OLD, node="cart-1")
    move(site.house, Change(), cohort="ward-b")
    assert run(site, "withdraw", "tiny=1.1.0", "--reason", "misses small polyps") == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "; halted in desired/ward-a.json, desired/cart-1.json, desired/ward-b.json\n"
    )
    for name in ("ward-a", "cart-1", "ward-b"):
        assert halted(site, name) == {"1.1.0": "misses small polyps"}
    assert state(site, "ward-a").models == {}
    assert state(site, "cart-1").models["tiny"].version == "1.0.0"
    with pytest.raises(Rejected, match=r"expected one of 1.2.0 .*, 1.0.0 "):
        move(site.house, NEW, node="cart-1")


def test_a_withdrawal_leaves_it_at_which_of_two_documents_counts_for_a_node(site: Site) -> None:
    move(site.house, OLD, node="cart-1")
    move(site.house, OLD, node="cart-2")
    move(site.house, OLD, cohort="ward-a")
    move(site.house, OLD, node="cart-2")
    before = [state(site, name).serial for name in ("cart-1", "ward-a", "cart-2")]
    assert run(site, "withdraw", "tiny=1.1.0") == 0
    after = [state(site, name).serial for name in ("cart-1", "ward-a", "cart-2")]
    assert sorted(after) == after
    assert min(after) > max(before)


def test_it_can_be_kept_running_as_before(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    move(site.house, NEW, node="cart-1")
    assert run(site, "withdraw", "tiny=1.1.0", "--keep-running") == 0
    assert "who runs it goes on" in capsys.readouterr().out
    assert state(site, "cart-1").models["tiny"].version == "1.1.0"
    assert (state(site, "cart-1").serial, halted(site, "cart-1")) == (1, {})


def test_a_halt_stays_through_other_changes_until_the_version_is_wanted_again(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    package = site.root / "1.1.0" / "tiny" / "1.1.0"
    move(site.house, NEW, node="cart-1")
    move(site.house, OLD, node="cart-2")
    assert run(site, "withdraw", "tiny=1.1.0") == 0
    (site.root / "pushed.toml").write_text("[node]\n")
    move(site.house, Change(without=("tiny",), config=site.root / "pushed.toml"), node="cart-1")
    move(site.house, Change(models=(wish("tiny=1.0.0"),)), node="cart-1")
    assert halted(site, "cart-1") == {"1.1.0": "withdrawn"}
    publish(site.house, package)
    capsys.readouterr()
    assert run(site, "desired", "--node", "cart-1", "--model", "tiny=1.1.0") == 0
    said = capsys.readouterr()
    assert "tiny 1.1.0 was halted here; it is wanted again" in said.err
    assert "halted" not in json.loads(said.out)
    assert halted(site, "cart-2") == {"1.1.0": "withdrawn"}  # there nobody wanted it again


def test_a_new_document_halts_what_was_withdrawn_and_not_what_a_cohort_halted(site: Site) -> None:
    stage = stages.begin(site.house, wish("tiny=1.2.0"), ["canary", "ward-a"], "")
    stages.halt(site.house, stage, "too slow", hold=False)
    assert halted(site, "canary") == {"1.2.0": "too slow"}
    assert run(site, "withdraw", "tiny=1.1.0", "--reason", "blind") == 0
    move(site.house, OLD, node="cart-9")
    assert halted(site, "cart-9") == {"1.1.0": "blind"}
    move(site.house, Change(models=(wish("tiny=1.2.0"),)), node="cart-9")
    assert halted(site, "cart-9") == {"1.1.0": "blind"}


def test_withdrawing_what_is_on_its_way_halts_its_stage(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    move(site.house, OLD, cohort="canary")
    assert run(site, "desired", "--cohort", "canary", "--cohort", "ward-a", "--model",
               "tiny=1.1.0") == 0  # fmt: skip
    assert run(site, "withdraw", "tiny=1.1.0", "--reason", "blind") == 0
    assert "its staged rollout is halted" in capsys.readouterr().err
    stage = stages.stages(site.house)["tiny"]
    assert (stage.state, stage.why) == ("halted", "blind")
    assert state(site, "canary").models["tiny"].version == "1.0.0"
    assert halted(site, "canary") == {"1.1.0": "blind"}


def test_a_halt_does_not_bring_back_what_was_withdrawn_meanwhile(site: Site) -> None:
    move(site.house, NEW, cohort="canary")
    stage = stages.begin(site.house, wish("tiny=1.2.0"), ["canary", "ward-a"], "")
    assert run(site, "withdraw", "tiny=1.1.0") == 0
    stages.halt(site.house, stage, "too slow", hold=False)
    assert state(site, "canary").models == {}
    assert halted(site, "canary") == {"1.1.0": "withdrawn", "1.2.0": "too slow"}


def test_a_stage_of_a_version_that_is_not_there_is_none(site: Site) -> None:
    with pytest.raises(Rejected, match=r"find tiny 9.0.0"):
        stages.begin(site.house, wish("tiny=9.0.0"), ["canary", "ward-a"], "")
    assert stages.stages(site.house) == {}


def test_a_stage_from_before_halts_were_written_down_is_halted_too(site: Site) -> None:
    move(site.house, OLD, cohort="canary")
    stage = stages.begin(site.house, wish("tiny=1.1.0"), ["canary", "ward-a"], "")
    older = msgspec.structs.replace(stage, version="", sha256="")
    assert judge(older, [], Shares()).word == "wait"
    stages.halt(site.house, older, "blind", hold=False)
    assert halted(site, "canary") == {"1.1.0": "blind"}


# ── bounds ────────────────────────────────────────────────────────────────────────────────────


def named(number: int, reason: str = "") -> Halt:
    return halts.halt(f"{number:064x}", f"1.0.{number}", reason)


def test_the_oldest_halts_give_way_and_somebody_is_told(site: Site) -> None:
    said: list[str] = []
    house = Repository(site.folder, site.keys, now=lambda: site.time.published, say=said.append)
    move(house, OLD, cohort="ward-a")
    every = {f"m{n:02}": tuple(named(16 * n + k, "x" * 200) for k in range(16)) for n in range(64)}
    full = msgspec.structs.replace(state(site, "ward-a"), halted=every)
    done = wanted.restore(house, full, cohort="ward-a")
    assert len(msgspec.json.encode(done)) <= MAX_BYTES
    assert list(done.halted)[-1] == "m63"
    assert "m00" not in done.halted
    first = "desired/ward-a.json: no more room for the halt of m00 1.0.0 (0000000000000000)"
    assert said[0] == f"{first}, the oldest"
    assert len(said) == 1024 - sum(map(len, done.halted.values()))
    assert state(site, "ward-a") == done


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 30)), max_size=120),
    st.text(max_size=200),
)
def test_whatever_is_halted_a_device_reads_it_and_the_newest_is_in_it(
    each: list[tuple[int, int]], reason: str
) -> None:
    found = Desired(schema=1, serial=1)
    for model, number in each:
        halt = named(number, reason)
        found = halts.fitted(halts.halting(found, f"m{model}", halt)).state
        assert desired.read(msgspec.json.encode(found), "any") == found
        assert found.halted[f"m{model}"][-1] == halt
        assert list(found.halted)[-1] == f"m{model}"
