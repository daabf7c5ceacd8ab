"""The page by which a device is connected: what it names is there, what it says to type works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from edge_agent.config.load import load_text
from tests import house

PAGE = house.ROOT / "docs" / "uplink.md"
FOLDER = house.ROOT / "config" / "kubeedge"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)


def blocks(kind: str) -> list[str]:
    return [text for found, text in BLOCKS if found == kind]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\n", " ", TEXT)):
        file, _, anchor = link.partition("#")
        target = (PAGE.parent / file) if file else PAGE
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_file_of_the_deployment_is_named() -> None:
    for path in FOLDER.rglob("*"):
        assert path.is_dir() or path.name in TEXT, path.name


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_configuration_is_sound(text: str) -> None:
    loaded = load_text(text)
    assert loaded.config is not None
    assert loaded.config.uplink.enabled
    assert [problem.key for problem in loaded.problems] == ["streams"]


def test_the_settings_of_cloudcore_are_yaml() -> None:
    (workers,) = blocks("yaml")
    load = yaml.safe_load(workers)["modules"]["edgeController"]["load"]
    assert load == {"updateRuleStatusWorkers": 16}


def test_what_a_device_costs_is_computed_right() -> None:
    """Two calls a message; four workers are full at 17 devices of 47 calls."""
    rows = re.findall(r"^\| (\d+)[^|]*\| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 3
    for publishes, calls, four, sixteen in (map(int, row) for row in rows):
        assert 2 * publishes + 6 <= calls <= 2 * publishes + 8  # answered 3 or 4 times a second
        assert four == 17 * 47 // calls
        assert abs(sixteen - 4 * 17 * 47 / calls) < 1
