from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_agent.core.errors import Damaged, Overloaded, Rejected
from edge_agent.stores.installed import Installed
from edge_agent.stores.models import Models
from edge_agent.stores.shelf import POINTERS, POINTERS_COPY, Package, Pointers, Shelf
from tests import tiny
from tests.core.test_package import tar_of
from tests.faults.power import QuickDisk
from tests.stores.packages import Packed, packed, store_at

NO_SHA = "0" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "models"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return tmp_path / "made"


def test_what_is_installed_is_the_package_again(root: Path, made: Path) -> None:
    one, store = packed(made), store_at(root)
    folder = store.admit(one.tar, one.sha)
    assert folder == root / "tiny" / one.sha == store.folder(one.sha)
    assert b"".join(store.pack(one.sha)) == one.tar.read_bytes()
    assert store.have() == [Package("tiny", "1.0.0", one.sha, one.tar.stat().st_size)]
    assert store.admit(one.tar, one.sha) == folder
    assert {p.stat().st_mode & 0o077 for p in [root, folder, *folder.iterdir()]} == {0}
    assert [path.name for path in (root / ".making").iterdir()] == []


def test_nothing_is_current_before_a_commit(root: Path, made: Path) -> None:
    one, store = packed(made), store_at(root)
    assert (store.pointers("tiny"), store.have(), store.folder(one.sha)) == (Pointers(), [], None)
    with pytest.raises(Rejected, match="is not installed"):
        store.commit("tiny", one.sha)
    store.admit(one.tar, one.sha)
    assert store.pointers("tiny") == Pointers()
    with pytest.raises(Rejected, match="is not installed"):
        store.commit("other", one.sha)
    with pytest.raises(Rejected, match="is not installed"):
        store.commit("tiny", "..")


def test_a_commit_moves_both_pointers_and_twice_is_once(root: Path, made: Path) -> None:
    one, two, store = packed(made), packed(made, "1.1.0"), store_at(root)
    for each in (one, two, two):
        store.admit(each.tar, each.sha)
        store.commit("tiny", each.sha)
    assert store.pointers("tiny") == Pointers(two.sha, one.sha)


def test_a_roll_back_goes_to_the_version_before_and_then_to_the_folders(
    root: Path, made: Path
) -> None:
    one, two, store = packed(made), packed(made, "1.1.0"), store_at(root)
    for each in (one, two):
        store.admit(each.tar, each.sha)
        store.commit("tiny", each.sha)
    assert store.roll_back("tiny", leaving=two.sha) == one.sha
    assert store.roll_back("tiny", leaving=two.sha) == one.sha  # asked for again after a cut
    assert store.pointers("tiny") == Pointers(one.sha)
    with pytest.raises(Rejected, match="there is no previous version"):
        store.roll_back("tiny")
    assert store.roll_back("tiny", to_folders=True) == ""
    assert store.pointers("tiny") == Pointers()
    with pytest.raises(Rejected, match="there is no previous version"):
        store.roll_back("tiny", to_folders=True)


def test_what_was_collected_is_not_rolled_back_to(root: Path, made: Path) -> None:
    one, two, store = packed(made), packed(made, "1.1.0"), store_at(root)
    for each in (one, two):
        store.admit(each.tar, each.sha)
        store.commit("tiny", each.sha)
    (root / "tiny" / one.sha).rename(root / "elsewhere")
    with pytest.raises(Rejected, match="there is no previous version"):
        store.roll_back("tiny")


def test_only_what_nothing_names_is_collected(root: Path, made: Path) -> None:
    every = [packed(made, f"1.{n}.0") for n in range(4)]
    store = store_at(root)
    for each in every:
        store.admit(each.tar, each.sha)
    for each in every[:2]:
        store.commit("tiny", each.sha)
    (root / "tiny" / f".{POINTERS}.12345678").write_bytes(b"{")
    (store.reserve(NO_SHA, 1000) / "part").write_bytes(bytes(500))
    freed = store.collect({every[2].sha, NO_SHA})
    assert {one.sha for one in store.have()} == {one.sha for one in every[:3]}
    assert freed > 1000
    assert (root / ".incoming" / NO_SHA / "part").is_file()
    assert store.collect({every[2].sha}) == 1500
    assert not (root / ".incoming" / NO_SHA).exists()
    assert store.collect({every[2].sha}) == 0


def test_while_pointers_cannot_be_read_nothing_of_that_model_is_collected(
    root: Path, made: Path
) -> None:
    one, store = packed(made), store_at(root)
    store.admit(one.tar, one.sha)
    (root / "tiny" / POINTERS).write_bytes(b'{"current": 7}')
    with pytest.raises(Damaged, match=r"which version of model tiny is current"):
        store.pointers("tiny")
    assert store.collect() == 0
    store.commit("tiny", one.sha)
    assert store.pointers("tiny") == Pointers(one.sha)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut off"),
        (tar_of([("../escape", b"x")]), "plain names"),
        (tar_of([("manifest.toml", b"schema = ")]), "expected sha256"),
    ],
)
def test_what_is_not_that_package_leaves_nothing_behind(
    content: bytes, words: str, root: Path, made: Path
) -> None:
    one, store = packed(made), store_at(root)
    one.tar.write_bytes(content)
    with pytest.raises(Rejected, match=words):
        store.admit(one.tar, one.sha)
    assert [path for path in root.rglob("*") if path.is_file() and path.name != ".lock"] == []


def test_a_package_with_a_file_too_many_is_refused_though_its_hash_is_right(
    root: Path, made: Path
) -> None:
    folder = tiny.write_package(made)
    (folder / "extra.bin").write_bytes(b"x")
    files = sorted((path.name, path.read_bytes()) for path in folder.iterdir())
    for content, words in (
        (tar_of(files), r"not named: extra\.bin"),
        (tar_of([one for one in files if one[0] == "model.onnx"]), r"expected a file man"),
        (tar_of([one for one in files if one[0] == "manifest.toml"]), r"missing: golden"),
        (tar_of([("manifest.toml", b"schema = 2")]), "read manifest"),
    ):  # fmt: skip
        tar = made / "bad.eam"
        tar.write_bytes(content)
        with pytest.raises(Rejected, match=words):
            store_at(root).admit(tar, hashlib.sha256(content).hexdigest())
    assert store_at(root).have() == []


def test_an_id_is_never_a_path(root: Path, made: Path) -> None:
    one, store = packed(made), store_at(root)
    for sha in ("", "..", "../../etc", one.sha.upper(), one.sha + "0"):
        assert store.folder(sha) is None
        with pytest.raises(Rejected, match="expected its sha256"):
            store.admit(one.tar, sha)
        with pytest.raises(Rejected, match="expected its sha256"):
            store.reserve(sha, 100)


def test_room_is_held_on_the_disk_and_given_back(root: Path, made: Path) -> None:
    one, store = packed(made), store_at(root)
    folder = store.reserve(one.sha, 1 << 20)
    room = folder / "room"
    assert room.stat().st_blocks * 512 >= 1 << 20
    (folder / "part").write_bytes(b"what came so far")
    assert store.reserve(one.sha, 1 << 20) == folder
    assert (folder / "part").read_bytes() == b"what came so far"
    store.admit(one.tar, one.sha)
    assert not room.exists()
    store.forget_incoming(one.sha)
    store.forget_incoming(one.sha)
    assert not folder.exists()


def test_a_quota_counts_what_is_there_and_what_comes_and_says_what_could_go(
    root: Path, made: Path
) -> None:
    one = packed(made)
    size = one.tar.stat().st_size
    store = Installed(root, limit_bytes=3 * size, keep_free_bytes=0, disk=QuickDisk())
    store.admit(one.tar, one.sha)
    store.reserve("1" * 64, size)
    store.reserve("2" * 64, size)
    with pytest.raises(Overloaded, match="of room") as full:
        store.reserve("3" * 64, size)
    assert "nothing uses tiny 1.0.0" in full.value.hint
    assert "rollouts.store_bytes" in full.value.hint
    store.commit("tiny", one.sha)
    with pytest.raises(Overloaded) as full:
        store.reserve("3" * 64, size)
    assert "tiny" not in full.value.hint
    store.forget_incoming("1" * 64)
    store.reserve("3" * 64, size)
    with pytest.raises(Rejected, match="expected 1 to 2147483648 bytes"):
        store.reserve("4" * 64, (2 << 30) + 1)


def test_a_disk_that_is_too_small_is_found_before_the_download(root: Path) -> None:
    store = Installed(root, limit_bytes=1 << 60, keep_free_bytes=1 << 60)
    with pytest.raises(Overloaded, match="bytes free on the disk"):
        store.reserve(NO_SHA, 1000)
    assert not (root / ".incoming").exists()


def test_content_that_changed_is_found_and_healed_by_installing_again(
    root: Path, made: Path
) -> None:
    one, store = packed(made), store_at(root)
    folder = store.admit(one.tar, one.sha)
    with (folder / "golden.npz").open("r+b") as file:
        file.seek(40)
        file.write(b"rot")
    with pytest.raises(Damaged, match="no longer what was installed"):
        store.check(one.sha)
    store.admit(one.tar, one.sha)
    store.check(one.sha)
    (folder / "model.onnx").unlink()
    with pytest.raises(Damaged, match=r"model\.onnx"):
        store.check(one.sha)
    store.admit(one.tar, one.sha)
    store.check(one.sha)
    with pytest.raises(Rejected, match="is not installed"):
        store.check(NO_SHA)


def test_a_disk_that_fails_is_said_as_such(root: Path, made: Path) -> None:
    class Broken(QuickDisk):
        code = 5

        def rename(self, old: Path, new: Path) -> None:
            raise OSError(self.code, os.strerror(self.code), old, None, new)

    one, broken = packed(made), Broken()
    store = Installed(root, limit_bytes=1 << 30, disk=broken)
    with pytest.raises(Damaged, match="Input/output error"):
        store.admit(one.tar, one.sha)
    broken.code = 28
    with pytest.raises(Overloaded, match="No space left"):
        store.admit(one.tar, one.sha)
    assert store.have() == []
    assert list((root / ".making").iterdir()) == []


def test_several_writers_take_turns(root: Path, made: Path) -> None:
    every = [packed(made, f"1.{n}.0") for n in range(3)]
    store_at(root).admit(every[0].tar, every[0].sha)
    store_at(root).commit("tiny", every[0].sha)

    def admit_and_collect(one: Packed) -> int:
        store = store_at(root)  # of its own, with its own descriptor of the lock
        for _ in range(5):
            store.admit(one.tar, one.sha)
            store.collect({one.sha})
        return len(store.shas("tiny"))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(admit_and_collect, every[1:]))
    store = store_at(root)
    assert store.shas("tiny")
    for sha in store.shas("tiny"):
        store.check(sha)


# ── who finds them by name ────────────────────────────────────────────────────────────────────


def models(root: Path, *dirs: Path) -> Models:
    return Models(dirs, shipped=False, installed=Shelf(root))


def test_the_installed_current_goes_before_every_folder(root: Path, made: Path) -> None:
    one, two, store = packed(made), packed(made, "1.1.0"), store_at(root)
    (made / "tiny" / "current").write_text("1.0.0")
    found = models(root, made)
    assert found.resolve("tiny", "") == one.folder
    folder = store.admit(two.tar, two.sha)
    assert found.resolve("tiny", "") == one.folder  # not committed yet
    assert found.resolve("tiny", "1.1.0") == two.folder
    store.commit("tiny", two.sha)
    assert found.resolve("tiny", "") == found.resolve("tiny", "1.1.0") == folder
    assert found.resolve("tiny", "1.0.0") == one.folder
    assert (found.identity(folder), found.manifest(folder).version) == (two.sha, "1.1.0")
    store.roll_back("tiny", to_folders=True)
    assert found.resolve("tiny", "") == one.folder


def test_a_version_that_was_never_committed_is_not_run_by_its_number(
    root: Path, made: Path
) -> None:
    one, store = packed(made), store_at(root)
    store.admit(one.tar, one.sha)
    with pytest.raises(Rejected, match="expected one of: none"):
        models(root).resolve("tiny", "1.0.0")
    store.commit("tiny", one.sha)
    assert models(root).resolve("tiny", "1.0.0").name == one.sha
    assert models(root).versions() == {"tiny": ["1.0.0"]}


def test_a_current_that_is_gone_or_unreadable_is_said_and_not_guessed(
    root: Path, made: Path
) -> None:
    one, store = packed(made), store_at(root)
    store.admit(one.tar, one.sha)
    store.commit("tiny", one.sha)
    (root / "tiny" / one.sha).rename(root / "elsewhere")
    with pytest.raises(Damaged, match=r"its current package .* is gone"):
        models(root, made).resolve("tiny", "")
    assert models(root, made).resolve("tiny", "1.0.0") == one.folder  # asked for by number
    for name in (POINTERS, POINTERS_COPY):
        (root / "tiny" / name).write_bytes(b"\0\0\0")
    with pytest.raises(Damaged, match="is current"):
        models(root, made).resolve("tiny", "")
    assert models(root, made).previous("tiny") is None


def test_a_hash_is_remembered_only_while_no_file_changes(root: Path, made: Path) -> None:
    one, store = packed(made), store_at(root)
    folder, found = store.admit(one.tar, one.sha), models(root)
    assert found.identity(folder) == one.sha
    path = folder / "golden.npz"
    facts = path.stat()
    with path.open("r+b") as file:
        file.write(b"\0")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # ctime tells all the same
    with pytest.raises(Damaged, match="no longer what was installed"):
        found.identity(folder)
    path.unlink()
    with pytest.raises(Damaged, match=r"golden\.npz"):
        found.identity(folder)
