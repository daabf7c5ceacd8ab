"""Which version is current, while the disk or the kernel refuses: said, and never guessed."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_agent.core.errors import Damaged, NoRoom, Overloaded
from edge_agent.stores.files import Disk
from edge_agent.stores.installed import Installed
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import POINTERS, POINTERS_COPY, Pointers, Shelf
from tests.faults.failing import FailingDisk
from tests.stores.packages import Packed, packed, store_at

SHORT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE)
WRITING = (*SHORT, errno.EROFS, errno.EIO)
READING = (errno.EIO, errno.EMFILE, errno.EACCES)


Work = Callable[["Site", Installed], Pointers]


def whose(number: int) -> type[Exception]:
    """The class that an error of the kernel has for whoever acts on it."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom
    return Overloaded if number in SHORT else Damaged


class Site:
    """1.0.0 and 1.1.0 committed, 1.2.0 installed; 0.9.0 in a folder of the configuration."""

    def __init__(self, place: Path) -> None:
        self.root = place / "models"
        made = [packed(place / "made", f"1.{n}.0") for n in range(3)]
        self.first, self.second, self.third = made
        self.folders = place / "folders"
        packed(self.folders, "0.9.0")
        store = store_at(self.root)
        for one in made:
            store.admit(one.tar, one.sha)
        for one in made[:2]:
            store.commit("tiny", one.sha)

    def installed(self, disk: Disk) -> Installed:
        return Installed(self.root, limit_bytes=1 << 30, keep_free_bytes=0, disk=disk)

    def models(self, disk: Disk) -> Models:
        return Models([self.folders], shipped=False, installed=Shelf(self.root, disk=disk))

    @property
    def pointers(self) -> Pointers:
        return Shelf(self.root).pointers("tiny")


@pytest.fixture
def site(quick_place: Path) -> Site:
    return Site(quick_place)


def commit(site: Site, store: Installed) -> Pointers:
    store.commit("tiny", site.third.sha)
    return Pointers(site.third.sha, site.second.sha)


def roll_back(site: Site, store: Installed) -> Pointers:
    store.roll_back("tiny", leaving=site.second.sha)
    return Pointers(site.first.sha)


@pytest.mark.parametrize("work", [commit, roll_back])
@pytest.mark.parametrize("what", ["create", "write", "sync", "rename", "sync_folder"])
@pytest.mark.parametrize("number", WRITING, ids=errno.errorcode.get)
def test_a_move_of_the_pointers_that_is_refused_is_old_or_new_and_done_by_the_next_call(
    number: int, what: str, work: Work, site: Site
) -> None:
    old, seen = site.pointers, set()
    new = Pointers(site.third.sha, site.second.sha) if work is commit else Pointers(site.first.sha)
    first = 0
    while True:
        disk = FailingDisk(number, what, first=first, times=1)
        raised = refused(work, site, site.installed(disk))
        seen.add(site.pointers)
        if not disk.failed:
            break
        assert raised is whose(number), disk.failed
        assert site.pointers == old or what == "sync_folder", disk.failed
        first += 1
    assert first > 0
    assert seen == {old, new} if site.pointers == new else seen <= {old, new}
    assert site.pointers == new


def refused(work: Work, site: Site, store: Installed) -> type[Exception] | None:
    """What was raised."""
    try:
        work(site, store)
    except (Overloaded, Damaged) as error:
        return type(error)
    return None


@pytest.mark.parametrize("number", READING, ids=errno.errorcode.get)
def test_pointers_that_cannot_be_read_just_now_are_not_taken_for_none(
    number: int, site: Site
) -> None:
    """Seen: `previous` was overwritten by a commit that could not read it."""
    before = {path: path.read_bytes() for path in site.root.glob("tiny/*.json")}
    disk = FailingDisk(number, "read", only="pointers")
    store, models = site.installed(disk), site.models(disk)
    kind = Overloaded if number == errno.EMFILE else Damaged
    asking: tuple[Callable[[], object], ...] = (
        lambda: store.pointers("tiny"),
        lambda: store.commit("tiny", site.third.sha),
        lambda: store.roll_back("tiny"),
    )
    for asked in asking:
        with pytest.raises(kind, match="which version of model tiny is current") as caught:
            asked()
        assert not getattr(caught.value, "healable", False)
    asking = (
        lambda: models.resolve("tiny", ""),
        lambda: models.resolve("tiny", "1.1.0"),
        lambda: models.previous("tiny"),
    )
    for asked in asking:
        with pytest.raises(Damaged, match="which version of model tiny is current"):
            asked()
    assert models.versions() == {"tiny": ["0.9.0"]}
    assert store.collect() == 0
    assert {path: path.read_bytes() for path in site.root.glob("tiny/*.json")} == before
    assert len(store.shas("tiny")) == 3


def test_a_read_that_fails_for_a_moment_is_not_even_noticed(site: Site) -> None:
    old = site.pointers
    assert site.installed(FailingDisk(errno.EIO, "read", times=2)).pointers("tiny") == old
    models = site.models(FailingDisk(errno.EMFILE, "read", times=3, only="pointers"))
    assert models.resolve("tiny", "").name == site.second.sha


def test_one_rotten_copy_of_the_pointers_is_survived_and_mended_by_a_collection(site: Site) -> None:
    old = site.pointers
    first, copy = (site.root / "tiny" / name for name in (POINTERS, POINTERS_COPY))
    for path, other in ((first, copy), (copy, first)):
        path.write_bytes(b'{"current":')
        assert site.pointers == old
        site.installed(Disk()).collect({site.third.sha})
        assert path.read_bytes() == other.read_bytes()
    first.unlink()
    assert site.models(Disk()).resolve("tiny", "").name == old.current


def test_pointers_that_are_rotten_in_both_copies_name_nothing_and_a_commit_heals_them(
    site: Site,
) -> None:
    for name in (POINTERS, POINTERS_COPY):
        (site.root / "tiny" / name).write_bytes(b"\0" * 60)
    with pytest.raises(Damaged, match="both copies") as caught:
        site.installed(Disk()).pointers("tiny")
    assert caught.value.healable
    assert "install tiny again" in caught.value.hint
    assert site.models(Disk()).previous("tiny") is None
    with pytest.raises(Damaged):
        site.models(Disk()).resolve("tiny", "")
    site.installed(Disk()).commit("tiny", site.second.sha)
    assert site.pointers == Pointers(site.second.sha)


def test_pointers_of_the_version_before_are_believed(site: Site) -> None:
    content = f'{{"schema": 1, "current": "{site.second.sha}", "previous": "{site.first.sha}"}}\n'
    (site.root / "tiny" / POINTERS).write_text(content)
    (site.root / "tiny" / POINTERS_COPY).unlink()
    assert site.pointers == Pointers(site.second.sha, site.first.sha)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """The kernel's own EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_without_descriptors_runs_nothing_else_instead(site: Site) -> None:
    models, store = site.models(Disk()), store_at(site.root)
    with no_descriptors():
        with pytest.raises(Damaged, match="is current"):
            models.resolve("tiny", "")
        with pytest.raises(Overloaded):
            store.commit("tiny", site.third.sha)
        with pytest.raises(Overloaded):
            store.earlier()
    assert models.resolve("tiny", "").name == site.second.sha
    assert site.pointers == Pointers(site.second.sha, site.first.sha)


def test_the_store_knows_of_an_earlier_life(site: Site, quick_place: Path) -> None:
    one: Packed = packed(quick_place / "other", name="other")
    store = store_at(site.root)
    assert store_at(quick_place / "nothing").earlier() == {}
    store.admit(one.tar, one.sha)
    store.reserve("ab" * 32, 100)
    assert store.earlier() == {"other": False, "tiny": True}
    store.roll_back("tiny")
    store.roll_back("tiny", to_folders=True)
    assert store.pointers("tiny") == Pointers()
    assert store.earlier() == {"other": False, "tiny": True}
