"""A staged rollout goes on when it went well, and halts when too many refuse."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Rejected
from tests.hot_tier.opened import opened
from tests.tiny import write_package
from tests.trust.site import Site
from tools.hot_tier import stages, wanted
from tools.hot_tier.__main__ import main
from tools.hot_tier.fleet import Shares, Stage, Standing, judge, standing
from tools.hot_tier.publishing import publish
from tools.hot_tier.stages import begin, step

COHORTS = ("canary", "ward-a", "ward-b")


def said(node: str, cohort: str, serial: int, word: str, why: str = "") -> Standing:
    document = {
        "desired": {
            "serial": serial,
            "target": f"desired/{cohort}.json",
            "state": word,
            "models": {"tiny": word},
        },
        "models": {"tiny": {"active": "1.0.0", "rollout": {"state": "", "reason": why}}},
    }
    return standing(node, document)


def staged(at: int = 0) -> Stage:
    return Stage(
        model="tiny", wanted="1.1.0", mode="swap", window="", cohorts=COHORTS, at=at,
        serials=dict.fromkeys(COHORTS[: at + 1], 5),
    )  # fmt: skip


def words(cohort: str, *each: str) -> list[Standing]:
    return [said(f"{cohort}-{n}", cohort, 5, word, "too slow") for n, word in enumerate(each)]


@pytest.mark.parametrize(
    ("heard", "word"),
    [
        ([], "wait"),
        (words("canary", "pending", "applied"), "wait"),
        (words("canary", *["applied"] * 9, "refused"), "next"),
        (words("canary", *["applied"] * 9, "pending"), "next"),
        (words("canary", *["applied"] * 8, "refused", "refused"), "halt"),
        (words("canary", "refused"), "halt"),
        ([said("a", "canary", 4, "refused")], "wait"),  # of an older state
        (words("ward-a", "refused"), "wait"),  # not moved yet
    ],
)
def test_a_stage_waits_goes_on_or_halts(heard: list[Standing], word: str) -> None:
    assert judge(staged(), heard, Shares()).word == word


def test_an_earlier_cohort_halts_it_too_and_says_why() -> None:
    heard = [*words("canary", "refused"), *words("ward-a", "applied")]
    verdict = judge(staged(at=1), heard, Shares())
    assert verdict.word == "halt"
    assert verdict.why == "1 of 1 nodes of canary refused tiny 1.1.0: canary-0: too slow"
    assert judge(staged(at=2), words("ward-b", "applied"), Shares()).word == "done"


def told(node: str, word: str, reason: str = "", **more: Any) -> Standing:
    """As an agent says it that knows all the words."""
    document = {
        "desired": {"serial": 5, "target": "desired/canary.json", "state": "pending",
                    "models": {"tiny": word}, "reasons": {"tiny": reason}, **more},
        "models": {"tiny": {"active": "1.0.0"}},
    }  # fmt: skip
    return standing(node, document)


def test_only_a_bad_package_halts_it_and_the_halt_quotes_who_says_so() -> None:
    weather = [
        told("a", "no-room", "disk: 3 MB free"), told("b", "unsigned"), told("c", "waiting"),
        told("d", "memory-lost"), told("e", "pending"), told("f", "halted"),
    ]  # fmt: skip
    verdict = judge(staged(), weather, Shares())
    assert verdict.word == "wait"
    assert verdict.why == (
        "0 of 6 nodes of canary have it: f: halted; d: memory-lost; "
        "a: no-room: disk: 3 MB free; b: unsigned; c: waiting"
    )
    bad = [told("g", "refused", "golden: 0.4"), told("h", "refused-before", "golden: 0.4")]
    verdict = judge(staged(), [*weather, *bad, told("i", "refused", "NaN")], Shares())
    assert verdict.word == "halt"
    assert verdict.why == (
        "3 of 9 nodes of canary refused tiny 1.1.0: g and 1 more: golden: 0.4; i: NaN"
    )


@pytest.mark.parametrize("word", ["pinned", "held", "unused"])
def test_who_is_held_is_in_neither_share(word: str) -> None:
    held = [told(f"held-{n}", word, "an operator holds it to 1.0.0") for n in range(8)]
    verdict = judge(staged(), [*held, told("a", "applied")], Shares())
    assert (verdict.word, verdict.why) == (
        "next",
        "canary has it (8 of 9 held by a person or configuration); ward-a is next",
    )
    verdict = judge(staged(), [*held, told("a", "applied"), told("b", "pending")], Shares())
    assert verdict.word == "wait"
    assert verdict.why.startswith("1 of 2 nodes of canary have it (8 of 10 held by a person")
    assert judge(staged(), [*held, told("a", "refused")], Shares()).word == "halt"


def test_a_cohort_in_which_everybody_is_held_proves_nothing() -> None:
    verdict = judge(staged(), [told("a", "pinned"), told("b", "unused")], Shares())
    assert verdict.word == "wait"
    assert verdict.why == ("no node of canary tries it (2 of 2 held by a person or configuration)")


def test_an_old_agent_that_says_refused_because_a_person_holds_it_is_held() -> None:
    document = {
        "desired": {"serial": 5, "target": "desired/canary.json", "models": {"tiny": "refused"}},
        "models": {"tiny": {"rollout": {"note": "an operator holds it to 1.0.0"}}},
    }
    verdict = judge(staged(), [standing("a", document)], Shares())
    assert (verdict.word, verdict.counts["canary"].held) == ("wait", 1)


def test_a_node_that_has_not_seen_its_cohorts_document_yet_is_waited_for() -> None:
    new = standing("b", {"desired": {"serial": 0, "state": "none", "cohort": "canary"}})
    verdict = judge(staged(), [told("a", "applied"), new], Shares())
    assert (verdict.word, verdict.counts["canary"].nodes) == ("wait", 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["applied", "refused", "pending", "", "none"]), max_size=30))
def test_the_share_decides(each: list[str]) -> None:
    verdict = judge(staged(), words("canary", *each), Shares(max_refused=0.2, min_applied=0.5))
    refused, applied = each.count("refused"), each.count("applied")
    assert (verdict.word == "halt") == (refused > 0.2 * len(each))
    if verdict.word == "next":
        assert applied >= 0.5 * len(each) > 0


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8),
        lambda inner: st.dictionaries(
            st.sampled_from(["desired", "models", "serial", "tiny", "rollout", "active"]), inner
        ),
    )
)
def test_an_odd_document_says_little_and_breaks_nothing(document: object) -> None:
    found = standing("a", document if isinstance(document, dict) else {})
    assert judge(staged(), [found], Shares()).word == "wait"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    found = Site(tmp_path)
    for version, fault in (("1.0.0", ""), ("1.1.0", "blind")):
        publish(found.house, write_package(tmp_path / version, version=version, fault=fault))
    for cohort in COHORTS:
        wanted.move(found.house, wanted.Change(models=(wanted.wish("tiny=1.0.0"),)), cohort=cohort)
    return found


def versions(site: Site) -> list[str]:
    states = {one.path: one.state for one in wanted.states(site.house, site.house.open())}
    return [states[f"desired/{cohort}.json"].models["tiny"].version for cohort in COHORTS]


def halted(site: Site) -> dict[str, str]:
    """By cohort: what of tiny must not run there."""
    states = {one.path: one.state for one in wanted.states(site.house, site.house.open())}
    every = {cohort: states[f"desired/{cohort}.json"].halted.get("tiny") for cohort in COHORTS}
    return {
        cohort: ", ".join(f"{one.version}: {one.reason}" for one in each)
        for cohort, each in every.items()
        if each
    }


def heard(stage: Stage, *each: tuple[str, str]) -> Iterable[Standing]:
    return [said(f"{c}-1", c, stage.serials.get(c, 0), word, "NaN output") for c, word in each]


def test_cohorts_move_one_after_the_other(site: Site) -> None:
    stage = begin(site.house, wanted.wish("tiny=1.1.0"), COHORTS, "")
    assert versions(site) == ["1.1.0", "1.0.0", "1.0.0"]
    with pytest.raises(Rejected, match="is on its way, at canary"):
        begin(site.house, wanted.wish("tiny=1.0.0"), COHORTS, "")
    stage, verdict = step(
        site.house, stage, heard(stage, ("canary", "pending")), Shares(), hold=False
    )
    assert verdict.word == "wait"
    for number, expected in ((1, ["1.1.0", "1.1.0", "1.0.0"]), (2, ["1.1.0", "1.1.0", "1.1.0"])):
        every = [(cohort, "applied") for cohort in COHORTS[:number]]
        stage, _ = step(site.house, stage, heard(stage, *every), Shares(), hold=False)
        assert versions(site) == expected
    every = [(cohort, "applied") for cohort in COHORTS]
    stage, verdict = step(site.house, stage, heard(stage, *every), Shares(), hold=False)
    assert (verdict.word, stages.stages(site.house)["tiny"].state) == ("done", "done")


def test_too_many_refusals_take_back_what_was_moved(site: Site) -> None:
    stage = begin(site.house, wanted.wish("tiny=1.1.0"), COHORTS, "")
    stage, _ = step(site.house, stage, heard(stage, ("canary", "applied")), Shares(), hold=False)
    before = {one.path: one.state.serial for one in wanted.states(site.house, site.house.open())}
    every = heard(stage, ("canary", "applied"), ("ward-a", "refused"))
    stage, verdict = step(site.house, stage, every, Shares(), hold=False)
    assert (stage.state, verdict.word) == ("halted", "halt")
    assert "NaN output" in stage.why
    assert halted(site) == {
        "canary": "1.1.0: 1 of 1 nodes of ward-a refused tiny 1.1.0: ward-a-1: NaN output",
        "ward-a": "1.1.0: 1 of 1 nodes of ward-a refused tiny 1.1.0: ward-a-1: NaN output",
    }
    assert versions(site) == ["1.0.0", "1.0.0", "1.0.0"]
    after = {one.path: one.state.serial for one in wanted.states(site.house, site.house.open())}
    assert [after[path] > before[path] for path in sorted(after)] == [True, True, False]


def test_a_cut_between_moving_a_cohort_and_noting_it_forgets_nothing(site: Site) -> None:
    stage = begin(site.house, wanted.wish("tiny=1.1.0"), COHORTS, "")
    noted = msgspec.structs.replace(stage, at=-1, serials={})  # what was noted before the move
    stage, verdict = step(site.house, noted, [], Shares(), hold=False)
    assert (verdict.word, stage.at, versions(site)) == ("next", 0, ["1.1.0", "1.0.0", "1.0.0"])
    stage, _ = step(site.house, stage, heard(stage, ("canary", "refused")), Shares(), hold=False)
    assert (stage.state, versions(site)) == ("halted", ["1.0.0", "1.0.0", "1.0.0"])


def test_a_halt_that_holds_moves_nothing(site: Site) -> None:
    stage = begin(site.house, wanted.wish("tiny=1.1.0"), COHORTS, "")
    stage, _ = step(site.house, stage, heard(stage, ("canary", "refused")), Shares(), hold=True)
    assert stage.state == "held"
    assert halted(site) == {}
    assert versions(site) == ["1.1.0", "1.0.0", "1.0.0"]


def test_the_fleet_is_read_from_the_receivers_database_while_it_runs(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--repository", str(site.folder), "--keys", str(site.keys.folder)]
    staging = [word for cohort in COHORTS for word in ("--cohort", cohort)]
    assert main(["desired", *where, *staging, "--model", "tiny=1.1.0"]) == 0
    with opened(tmp_path) as receiver:
        document = {
            "desired": {"serial": 4, "target": "desired/canary.json", "state": "refused",
                        "models": {"tiny": "refused"}, "why": "shadow: found nothing"},
            "models": {"tiny": {"active": "1.0.0"}},
        }  # fmt: skip
        with receiver.db.transaction():
            receiver.db.write(
                "INSERT INTO doc(node, name, epoch, number, body) VALUES (?, ?, ?, ?, ?)",
                "cart-1", "status", 1, 1, json.dumps({"desired": {"serial": 9}}).encode(),
            )  # fmt: skip
            receiver.db.write(
                "INSERT INTO doc(node, name, epoch, number, body) VALUES (?, ?, ?, ?, ?)",
                "cart-1", "status", 2, 1, json.dumps(document).encode(),
            )  # fmt: skip
        capsys.readouterr()
        db = ["--db", str(tmp_path / "db")]
        assert main(["fleet", *where, *db, "--dry-run"]) == 0
        assert "would halt" in capsys.readouterr().out
        assert main(["fleet", *where, *db]) == 3
        out = capsys.readouterr().out
        assert "cart-1: tiny 1.0.0 (desired/canary.json 4 refused) shadow: found nothing" in out
        assert (
            "halt: 1 of 1 nodes of canary refused tiny 1.1.0: cart-1: shadow: found nothing" in out
        )
        assert main(["fleet", *where, *db, "--json"]) == 3
        assert json.loads(capsys.readouterr().out)["stages"]["tiny"]["state"] == "halted"
    assert versions(site) == ["1.0.0", "1.0.0", "1.0.0"]
    (tmp_path / "other").write_bytes(b"no database, but long enough to look like one" * 99)
    assert main(["fleet", *where, "--db", str(tmp_path / "other")]) == 1
