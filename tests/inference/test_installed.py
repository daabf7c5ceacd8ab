"""An installed package is run from its folder by content, and its results say which it was."""

from __future__ import annotations

from pathlib import Path

from edge_agent.config.structs import Config, PhantomSource, StreamConfig, StreamModel
from edge_agent.ground import Orders
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import Shelf
from tests.inference.side import PACED, order, running_side
from tests.stores.packages import packed, store_at


def test_what_is_installed_goes_live_and_is_named_by_its_hash(tmp_path: Path) -> None:
    store = store_at(tmp_path / "models")
    one, two = (packed(tmp_path / "made", version) for version in ("1.0.0", "1.1.0"))
    for each in (one, two):
        store.admit(each.tar, each.sha)
    store.commit("tiny", one.sha)
    orders = Orders(Models([], shipped=False, installed=Shelf(tmp_path / "models")))
    stream = StreamConfig(source=PhantomSource(), models=(StreamModel(name="tiny"),))
    (found,), wrong = orders.of(Config(streams={"a": stream}))
    assert wrong == {}
    with running_side() as side:
        side.configure(order("a", *found.models, source=PACED))
        side.more(5)
        side.ask("load", model="tiny", folder=str(store.folder(two.sha)), sha=two.sha)
        side.ask("swap", model="tiny", sha=two.sha)
        side.more(5)
        store.commit("tiny", two.sha)
        shas = [(result.sha, result.version) for result in side.results]
    assert shas[0] == (one.sha[:16], "1.0.0")
    assert shas[-1] == (two.sha[:16], "1.1.0")
    (found,), _ = orders.of(Config(streams={"a": stream}))
    assert found.models[0].sha == two.sha
