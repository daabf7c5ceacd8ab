"""Nodes are told what is wanted of them until they say that they know."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from edge_agent.core import edgecore
from edge_agent.core.edgecore import Desired, Topics
from tests.trust.site import Site
from tools.hot_tier.announcer import LAST_US, MAX_LETTERS, Announcer
from tools.hot_tier.answers import Letter
from tools.hot_tier.wanted import Change, move

S = 1_000_000


@pytest.fixture
def announcer(tmp_path: Path) -> tuple[Site, Announcer]:
    site = Site(tmp_path)
    move(site.house, Change(), cohort="ward")
    move(site.house, Change(), node="cart-1")
    found = Announcer(site.folder)
    assert found.load()
    assert not found.load()
    return site, found


def document(serial: int, state: str, target: str = "") -> bytes:
    return json.dumps({"desired": {"serial": serial, "state": state, "target": target}}).encode()


def desired(letters: list[Letter], node: str) -> list[int]:
    topics = Topics.of("default", node)
    found = [
        edgecore.read(topics, f"edge-agent/{node}/down/{letter.what}", letter.payload)
        for letter in letters
        if letter.node == node
    ]
    return [event.state.serial for event in found if isinstance(event, Desired)]


def test_a_node_is_told_again_ever_more_rarely_until_it_knows(
    announcer: tuple[Site, Announcer],
) -> None:
    _, tier = announcer
    tier.heard("cart-1", b"")
    times = [s for s in range(400) if desired(tier.due(s * S), "cart-1") == [2]]
    assert times[:7] == [0, 1, 3, 7, 15, 31, 63]
    assert {b - a for a, b in pairwise(times[7:])} == {LAST_US // S}
    tier.heard("cart-1", document(1, "applied"))
    assert tier.due(1000 * S)
    for state in ("applied", "refused", "pending"):
        tier.heard("cart-1", document(2, state))
        assert tier.due(2000 * S) == []


def test_a_new_serial_is_told_at_once(announcer: tuple[Site, Announcer]) -> None:
    site, tier = announcer
    tier.heard("cart-1", document(2, "applied"))
    assert tier.due(0) == []
    move(site.house, Change(), node="cart-1")
    assert tier.load()
    assert desired(tier.due(1 * S), "cart-1") == [3]
    assert tier.due(1 * S) == []


def test_the_newer_of_its_own_state_and_its_cohorts_is_told(
    announcer: tuple[Site, Announcer],
) -> None:
    site, tier = announcer
    tier.heard("cart-1", document(0, "none", "desired/ward.json"))
    tier.heard("cart-2", document(0, "none", "desired/ward.json"))
    tier.heard("cart-3", b"no json")
    letters = tier.due(0)
    assert [desired(letters, f"cart-{n}") for n in (1, 2, 3)] == [[2], [1], []]
    move(site.house, Change(), cohort="ward")
    tier.load()
    letters = tier.due(1 * S)
    assert [desired(letters, f"cart-{n}") for n in (1, 2, 3)] == [[3], [3], []]


def test_the_metadata_that_vouches_for_it_comes_first(announcer: tuple[Site, Announcer]) -> None:
    _, tier = announcer
    tier.heard("cart-1", b"")
    kinds = [letter.what for letter in tier.due(0)]
    assert kinds == ["tuf", "tuf", "tuf", "tuf", "desired"]  # timestamp, snapshot, targets, nodes


def test_a_large_fleet_is_told_in_turns(announcer: tuple[Site, Announcer]) -> None:
    _, tier = announcer
    for number in range(300):
        tier.heard(f"n{number}", document(0, "none", "desired/ward.json"))
    told: set[str] = set()
    for tick in range(8):
        letters = tier.due(tick)
        assert len(letters) < MAX_LETTERS + 8
        told |= {letter.node for letter in letters}
    assert len(told) == 300
