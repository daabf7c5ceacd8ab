"""Anything that may be asked of the store, in any order, against a model of a few lines."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import Pointers, Shelf
from tests.stores.packages import Packed, packed, store_at

MEMORY = Path("/dev/shm")
NAMES = ("one", "two")
WHICH = st.integers(0, 5)


@functools.cache
def made() -> tuple[tempfile.TemporaryDirectory[str], list[Packed]]:
    """Three versions of two models; the folder lives as long as the process."""
    place = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
    every = [packed(Path(place.name), f"1.{n}.0", name=name) for name in NAMES for n in range(3)]
    return place, every


class Store(RuleBasedStateMachine):
    """here: the packages that are installed. pointers: by model. rotten: damaged since."""

    def __init__(self) -> None:
        super().__init__()
        place, self.every = made()
        self.root = Path(tempfile.mkdtemp(dir=place.name))
        self.store = store_at(self.root)
        self.here: set[str] = set()
        self.rotten: set[str] = set()
        self.incoming: set[str] = set()
        self.pointers = dict.fromkeys(NAMES, Pointers())

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def one(self, which: int) -> tuple[str, Packed]:
        return NAMES[which // 3], self.every[which]

    @rule(which=WHICH)
    def admit(self, which: int) -> None:
        _, one = self.one(which)
        assert self.store.admit(one.tar, one.sha).name == one.sha
        self.here.add(one.sha)
        self.rotten.discard(one.sha)

    @rule(which=WHICH)
    def commit(self, which: int) -> None:
        name, one = self.one(which)
        before = self.pointers[name]
        if one.sha not in self.here:
            with pytest.raises(Rejected):
                self.store.commit(name, one.sha)
            return
        self.store.commit(name, one.sha)
        if before.current != one.sha:
            self.pointers[name] = Pointers(one.sha, before.current)

    @rule(name=st.sampled_from(NAMES), to_folders=st.booleans())
    def roll_back(self, name: str, to_folders: bool) -> None:
        before = self.pointers[name]
        if not before.current or not (before.previous or to_folders):
            with pytest.raises(Rejected):
                self.store.roll_back(name, to_folders=to_folders)
            return
        assert self.store.roll_back(name, to_folders=to_folders) == before.previous
        self.pointers[name] = Pointers(before.previous)

    @rule(which=WHICH)
    def reserve(self, which: int) -> None:
        _, one = self.one(which)
        folder = self.store.reserve(one.sha, one.tar.stat().st_size)
        (folder / "part").write_bytes(b"some of it")
        self.incoming.add(one.sha)

    @rule(which=WHICH)
    def forget(self, which: int) -> None:
        _, one = self.one(which)
        self.store.forget_incoming(one.sha)
        self.incoming.discard(one.sha)

    @rule(keep=st.sets(WHICH, max_size=3))
    def collect(self, keep: set[int]) -> None:
        kept = {self.every[which].sha for which in keep}
        self.store.collect(kept)
        pointed = {sha for pointers in self.pointers.values() for sha in pointers}
        self.here &= kept | pointed
        self.rotten &= self.here
        self.incoming &= kept

    @rule(which=WHICH)
    def rot(self, which: int) -> None:
        name, one = self.one(which)
        if one.sha in self.here:
            with (self.root / name / one.sha / "model.onnx").open("ab") as file:
                file.write(b"\0")
            self.rotten.add(one.sha)

    @rule()
    def restart(self) -> None:
        self.store = store_at(self.root)

    @invariant()
    def is_as_it_should_be(self) -> None:
        found = {sha for name in self.store.names() for sha in self.store.shas(name)}
        assert found == self.here
        assert {one.sha for one in self.store.have()} == self.here
        for name in NAMES:
            assert self.store.pointers(name) == self.pointers[name]
        for sha in self.here:
            if sha in self.rotten:
                with pytest.raises(Damaged):
                    self.store.check(sha)
            else:
                self.store.check(sha)
        waiting = self.root / ".incoming"
        assert {path.name for path in waiting.glob("*")} == self.incoming

    @invariant()
    def streams_get_the_current_one_or_are_told(self) -> None:
        models = Models([], shipped=False, installed=Shelf(self.root))
        for name in NAMES:
            current = self.pointers[name].current
            if not current:
                continue
            folder = models.resolve(name, "")
            assert folder.name == current
            if current in self.rotten:
                with pytest.raises(Damaged):
                    models.identity(folder)
            else:
                assert models.identity(folder) == current


Store.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestStore = Store.TestCase
