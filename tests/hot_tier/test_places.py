"""What KubeEdge calls a node's machine: learnt from its probes, used at CloudCore's REST door."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.core import probe
from edge_agent.core.probe import Probe
from edge_agent.core.wire.envelope import Envelope
from tests.hot_tier.opened import Open
from tests.hot_tier.wire import CODECS, ask, bundle, offer
from tools.hot_tier.desk import Desk
from tools.hot_tier.places import MAX_NODES, Places


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Open(tmp_path)
    yield found.desk
    found.db.close()


def question(via: str, node: str = "a") -> Envelope:
    return probe.encode(node, Probe(nonce="n1", logs=(offer(1, 1, node=node),), via=via), CODECS)


def test_the_last_word_counts_and_places_are_bounded() -> None:
    places = Places()
    assert places.of("a") == "a"
    places.heard("a", "ward.3")
    assert (places.of("a"), places.of("b")) == ("ward.3", "b")
    places.heard("a", "")
    assert places.of("a") == "a"
    for number in range(MAX_NODES + 1):
        places.heard(f"n{number}", "x.y")
    assert (places.of("n0"), places.of("n1")) == ("n0", "x.y")


def test_a_probe_says_via_only_where_it_is_needed(desk: Desk) -> None:
    assert b"via" not in msgspec.json.encode(Probe(nonce="n"))
    outcome = desk.take([bundle(ask("n0", offer(1, 1)), question("ward.3"))])
    assert [asked.via for asked in outcome.asked] == ["", "ward.3"]


@pytest.mark.parametrize("via", ["../b", "a/b", "a..b", "A", "a?", "a\n", "a" * 254, "%2e"])
def test_a_via_that_is_no_node_is_refused_with_its_probe(desk: Desk, via: str) -> None:
    outcome = desk.take([bundle(question(via))])
    assert outcome.asked == []
    assert desk.counts["corrupt"] == 1
