"""The power goes after each write, flush, rename and removal: old or new; the next run heals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.stores.installed import Installed
from edge_agent.stores.shelf import Pointers
from tests.faults.power import Effect, QuickDisk, RecordingDisk, cuts
from tests.stores.packages import Packed, packed, store_at

Work = Callable[[Installed], object]


class Cutting:
    """Two versions installed, 1.0.0 and then 1.1.0 current; a third has come as a tar."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.root = place / "models"
        made = place / "made"
        self.first, self.second, self.third = (packed(made, f"1.{n}.0") for n in range(3))
        self.store = store_at(self.root)
        for one in (self.first, self.second):
            self.store.admit(one.tar, one.sha)
            self.store.commit("tiny", one.sha)

    def record(self, work: Work) -> list[Effect]:
        """Done once without a cut."""
        shutil.copytree(self.root, self.place / "before")
        disk = RecordingDisk()
        work(Installed(self.root, limit_bytes=1 << 30, keep_free_bytes=0, disk=disk))
        return disk.effects

    def cut_everywhere(self, work: Work, check: Callable[[Installed, str], None]) -> int:
        """After every cut `check` sees what is there, then the work is done again; how many."""
        effects = self.record(work)
        wanted = tree(self.root)
        scratch = self.place / "cut"
        scratch.mkdir()
        count = 0
        for how, folder in cuts(self.root, self.place / "before", effects, scratch):
            store = store_at(folder)
            check(store, how)
            work(store)
            store.collect({self.third.sha})
            assert tree(folder) == wanted, how
            shutil.rmtree(folder)
            count += 1
        assert count > len(effects) > 0
        return count


def tree(root: Path) -> dict[str, bytes]:
    """Everything but what no name counts in."""
    paths = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in paths}


def is_whole(store: Installed, how: str, *allowed: Pointers) -> None:
    """What has a name is complete; what a pointer names is there."""
    shas = store.shas("tiny")
    for sha in shas:
        store.check(sha)
    pointers = store.pointers("tiny")
    assert pointers in allowed, how
    assert {*pointers} - {""} <= {*shas}, how


@pytest.fixture
def cutting(quick_place: Path) -> Cutting:
    return Cutting(quick_place)


def test_an_install_that_is_cut_off_anywhere_is_old_or_new(cutting: Cutting) -> None:
    one = cutting.third
    now = Pointers(cutting.second.sha, cutting.first.sha)

    def check(store: Installed, how: str) -> None:
        is_whole(store, how, now)
        assert {cutting.first.sha, cutting.second.sha} <= {*store.shas("tiny")}

    cutting.cut_everywhere(lambda store: store.admit(one.tar, one.sha), check)


def test_the_first_install_of_all_makes_its_folders_durable_too(quick_place: Path) -> None:
    one = packed(quick_place / "made")
    root, before, scratch = (quick_place / name for name in ("models", "before", "cut"))
    for folder in (root, before, scratch):
        folder.mkdir()
    disk = RecordingDisk()

    def work(store: Installed) -> None:
        store.admit(one.tar, one.sha)
        store.commit("tiny", one.sha)

    work(Installed(root, limit_bytes=1 << 30, keep_free_bytes=0, disk=disk))
    for how, folder in cuts(root, before, disk.effects, scratch):
        store = store_at(folder)
        is_whole(store, how, Pointers(), Pointers(one.sha))
        work(store)
        assert store.collect() >= 0
        assert tree(folder) == tree(root), how


def test_a_commit_that_is_cut_off_anywhere_is_old_or_new(cutting: Cutting) -> None:
    cutting.store.admit(cutting.third.tar, cutting.third.sha)
    old = Pointers(cutting.second.sha, cutting.first.sha)
    new = Pointers(cutting.third.sha, cutting.second.sha)

    def work(store: Installed) -> None:
        store.commit("tiny", cutting.third.sha)
        store.collect()

    cutting.cut_everywhere(work, lambda store, how: is_whole(store, how, old, new))


def test_a_roll_back_that_is_cut_off_anywhere_is_old_or_new(cutting: Cutting) -> None:
    old = Pointers(cutting.second.sha, cutting.first.sha)
    new = Pointers(cutting.first.sha)
    cutting.cut_everywhere(
        lambda store: (store.roll_back("tiny", leaving=cutting.second.sha), store.collect()),
        lambda store, how: is_whole(store, how, old, new),
    )


def test_what_is_collected_is_there_whole_or_not_at_all(cutting: Cutting) -> None:
    cutting.store.admit(cutting.third.tar, cutting.third.sha)
    (cutting.store.reserve("ab" * 32, 1000) / "part").write_bytes(b"half a download")
    now = Pointers(cutting.second.sha, cutting.first.sha)
    cutting.cut_everywhere(
        lambda store: store.collect(), lambda store, how: is_whole(store, how, now)
    )
    assert cutting.store.folder(cutting.third.sha) is None


def test_a_reservation_that_is_cut_off_anywhere_is_made_again(cutting: Cutting) -> None:
    one = cutting.third
    now = Pointers(cutting.second.sha, cutting.first.sha)
    cutting.cut_everywhere(
        lambda store: store.reserve(one.sha, 4000), lambda store, how: is_whole(store, how, now)
    )


def test_healing_a_damaged_package_is_cut_off_and_heals_all_the_same(cutting: Cutting) -> None:
    one = cutting.second
    with (cutting.root / "tiny" / one.sha / "model.onnx").open("r+b") as file:
        file.write(b"rot")

    def check(store: Installed, how: str) -> None:
        store.check(cutting.first.sha)
        assert store.pointers("tiny") == Pointers(one.sha, cutting.first.sha), how

    cutting.cut_everywhere(lambda store: store.admit(one.tar, one.sha), check)
    cutting.store.check(one.sha)


class Careless(RecordingDisk):
    """Forgets one kind of flush: what the cuts above must be able to notice."""

    def __init__(self, forgets: str) -> None:
        super().__init__()
        self._forgets = forgets

    def seen(self) -> list[Effect]:
        return [effect for effect in self.effects if effect.what != self._forgets]


@pytest.mark.parametrize("forgets", ["sync", "sync_folder"])
def test_an_install_without_flushes_would_be_found_out(forgets: str, cutting: Cutting) -> None:
    one: Packed = cutting.third
    shutil.copytree(cutting.root, cutting.place / "before")
    disk = Careless(forgets)
    store = Installed(cutting.root, limit_bytes=1 << 30, keep_free_bytes=0, disk=disk)
    store.admit(one.tar, one.sha)
    store.commit("tiny", one.sha)
    store.collect()
    scratch = cutting.place / "cut"
    scratch.mkdir()
    found = 0
    for how, folder in cuts(cutting.root, cutting.place / "before", disk.seen(), scratch):
        try:
            old = Pointers(cutting.second.sha, cutting.first.sha)
            is_whole(store_at(folder), how, old, Pointers(one.sha, cutting.second.sha))
        except Exception:  # noqa: BLE001 - that something is wrong is what is looked for
            found += 1
    assert found > 0
    assert isinstance(disk, QuickDisk)
