"""Models resolved into orders: damage is told, and the stream goes on with what is sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config.structs import Config, PhantomSource, StreamConfig, StreamModel
from edge_agent.ground import Orders
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import Shelf
from tests.stores.packages import Packed, packed, store_at


@pytest.fixture
def two(tmp_path: Path) -> list[Packed]:
    """1.0.0 and 1.1.0 installed, the latter current."""
    every = [packed(tmp_path / "made", version) for version in ("1.0.0", "1.1.0")]
    store = store_at(tmp_path / "models")
    for one in every:
        store.admit(one.tar, one.sha)
        store.commit("tiny", one.sha)
    return every


def config(version: str = "") -> Config:
    stream = StreamConfig(
        source=PhantomSource(), models=(StreamModel(name="tiny", version=version),)
    )
    return Config(streams={"us0": stream})


def orders(tmp_path: Path) -> Orders:
    return Orders(Models([], shipped=False, installed=Shelf(tmp_path / "models")))


def rot(tmp_path: Path, one: Packed) -> None:
    with (tmp_path / "models" / "tiny" / one.sha / "model.onnx").open("ab") as file:
        file.write(b"\0")


def test_the_installed_current_is_ordered_by_its_hash(tmp_path: Path, two: list[Packed]) -> None:
    found, wrong = orders(tmp_path).of(config())
    (model,) = found[0].models
    assert (model.sha, model.options.version, wrong) == (two[1].sha, "1.1.0", {})


def test_a_current_that_rotted_is_never_run_but_the_one_before_it_is_and_it_is_told(
    tmp_path: Path, two: list[Packed]
) -> None:
    rot(tmp_path, two[1])
    maker = orders(tmp_path)
    found, wrong = maker.of(config())
    (model,) = found[0].models
    assert (model.sha, model.options.version, wrong) == (two[0].sha, "1.0.0", {})
    assert "no longer what was installed" in maker.fell_back["us0"].what
    rot(tmp_path, two[0])
    found, wrong = maker.of(config())
    assert (found, maker.fell_back) == ([], {})
    assert "no longer what was installed" in wrong["us0"].what


def test_a_version_that_the_configuration_names_is_not_replaced(
    tmp_path: Path, two: list[Packed]
) -> None:
    rot(tmp_path, two[1])
    found, wrong = orders(tmp_path).of(config("1.1.0"))
    assert found == []
    assert "no longer what was installed" in wrong["us0"].what
