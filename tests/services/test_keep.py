"""What the rollouts remember: read again, or said to be lost, never taken for no past at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from edge_agent.core.desired import Memory, Pin
from edge_agent.core.errors import Damaged, Overloaded
from edge_agent.core.rollout import Rollout
from edge_agent.services.rollouts.keep import Keep
from edge_agent.stores.files import DISK, Disk
from edge_agent.stores.papers import Papers
from tests.faults.failing import FailingDisk
from tests.stores.packages import packed, store_at

MEMORY = Memory(pins={"us-chamber": Pin(version="1.0.0", by="install")})
ROLLOUT = Rollout(model="us-chamber")


def keep_at(folder: Path, disk: Disk = DISK) -> Keep:
    return Keep(
        Papers(folder / "rollouts", max_bytes=1 << 16, disk=disk),
        Papers(folder / "desired", max_bytes=1 << 16, disk=disk),
        earlier=store_at(folder / "models").earlier,
    )


def rot(folder: Path, pattern: str) -> None:
    found = [*folder.glob(pattern)]
    assert len(found) == 2
    for path in found:
        path.write_bytes(path.read_bytes()[:-20])


def test_a_fresh_device_starts_fresh_and_nothing_is_lost(tmp_path: Path) -> None:
    keep = keep_at(tmp_path)
    assert keep.memory() == (Memory(), "")
    assert keep.rollouts() == ({}, {})


def test_what_was_written_is_recalled(tmp_path: Path) -> None:
    keep_at(tmp_path).write_memory(MEMORY)
    keep_at(tmp_path).write(ROLLOUT)
    assert keep_at(tmp_path).memory() == (MEMORY, "")
    assert keep_at(tmp_path).rollouts() == ({"us-chamber": ROLLOUT}, {})


@pytest.mark.parametrize("pattern", ["desired/desired*.json", "rollouts/us-*.json"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES], ids=errno.errorcode.get)
def test_one_transient_error_at_the_start_loses_nothing(
    number: int, pattern: str, tmp_path: Path
) -> None:
    """Seen: the operator's pin was gone, and the pinned model was replaced."""
    keep_at(tmp_path).write_memory(MEMORY)
    keep_at(tmp_path).write(ROLLOUT)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    name = "desired" if pattern.startswith("desired") else "us-"
    for times in (1, 2, 1 << 20):
        keep = keep_at(tmp_path, FailingDisk(number, "read", times=times, only=name))
        recall = keep.memory if name == "desired" else keep.rollouts
        if times < 4:
            assert recall() in ((MEMORY, ""), ({"us-chamber": ROLLOUT}, {}))
        else:
            with pytest.raises((Overloaded, Damaged), match="read "):
                recall()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert keep_at(tmp_path).memory() == (MEMORY, "")


def test_a_copy_that_rotted_is_made_again_at_the_next_start(tmp_path: Path) -> None:
    keep_at(tmp_path).write_memory(MEMORY)
    first, copy = (tmp_path / "desired" / name for name in ("desired.json", "desired.copy.json"))
    sound = first.read_bytes()
    for path, other in ((first, copy), (copy, first)):
        path.write_bytes(sound[:-5])
        assert keep_at(tmp_path).memory() == (MEMORY, "")
        assert path.read_bytes() == other.read_bytes() == sound


def test_a_memory_that_is_gone_in_both_copies_is_said_until_it_is_written_again(
    tmp_path: Path,
) -> None:
    keep_at(tmp_path).write_memory(MEMORY)
    rot(tmp_path, "desired/desired*.json")
    memory, lost = keep_at(tmp_path).memory()
    assert memory == Memory()
    assert "pins" in lost
    assert "both copies are damaged" in lost
    assert len([*(tmp_path / "desired").glob("*.damaged")]) == 2
    assert "they were damaged" in keep_at(tmp_path).memory().lost
    keep_at(tmp_path).write_memory(MEMORY)
    assert keep_at(tmp_path).memory() == (MEMORY, "")


def test_a_memory_that_was_removed_is_no_fresh_device(tmp_path: Path) -> None:
    keep_at(tmp_path).write_memory(MEMORY)
    for path in (tmp_path / "desired").glob("*.json"):
        path.unlink()
    assert "they were written once" in keep_at(tmp_path).memory().lost
    (tmp_path / "desired" / "begun").unlink()
    assert keep_at(tmp_path).memory().lost == ""
    keep_at(tmp_path).write(ROLLOUT)
    assert "but us-chamber came here by a rollout" in keep_at(tmp_path).memory().lost


def test_a_model_that_is_installed_shows_an_earlier_life(tmp_path: Path) -> None:
    one, store = packed(tmp_path / "made"), store_at(tmp_path / "models")
    store.admit(one.tar, one.sha)
    assert "tiny came here" in keep_at(tmp_path).memory().lost
    assert keep_at(tmp_path).rollouts() == ({}, {})  # installed, but never committed
    store.commit("tiny", one.sha)
    documents, lost = keep_at(tmp_path).rollouts()
    assert (documents, [*lost]) == ({}, ["tiny"])
    assert "what was refused of tiny" in lost["tiny"]
    keep_at(tmp_path).write(Rollout(model="tiny"))
    assert keep_at(tmp_path).rollouts().lost == {}


def test_a_rollout_that_is_damaged_in_both_copies_is_lost_alone_and_until_it_is_written(
    tmp_path: Path,
) -> None:
    keep_at(tmp_path).write(ROLLOUT)
    keep_at(tmp_path).write(Rollout(model="us-plane"))
    rot(tmp_path, "rollouts/us-chamber*.json")
    for why in ("both copies are damaged", "it was damaged"):
        documents, lost = keep_at(tmp_path).rollouts()
        assert [*documents] == ["us-plane"]
        assert [*lost] == ["us-chamber"]
        assert why in lost["us-chamber"]
    keep_at(tmp_path).write(ROLLOUT)
    assert keep_at(tmp_path).rollouts().lost == {}


def test_a_document_that_this_version_does_not_understand_is_lost_and_not_overwritten(
    tmp_path: Path,
) -> None:
    Papers(tmp_path / "rollouts", max_bytes=1000).write("us-chamber", b'{"model":7}')
    Papers(tmp_path / "rollouts", max_bytes=1000).write("us-plane", b'{"model":"us-chamber"}')
    found = keep_at(tmp_path).rollouts()
    assert found.documents == {}
    assert "Expected `str`" in found.lost["us-chamber"]
    assert "it is of model us-chamber" in found.lost["us-plane"]
    assert len([*(tmp_path / "rollouts").glob("*.damaged")]) == 4


def test_documents_of_the_version_before_are_believed_and_kept_twice_from_then_on(
    tmp_path: Path,
) -> None:
    keep_at(tmp_path / "new").write_memory(MEMORY)
    keep_at(tmp_path / "new").write(ROLLOUT)
    for name in ("desired/desired", "rollouts/us-chamber"):
        content = Papers((tmp_path / "new" / name).parent, max_bytes=1 << 16).read(
            name.split("/")[1]
        )
        assert content is not None
        path = tmp_path / f"{name}.json"
        path.parent.mkdir()
        path.write_bytes(content)
    assert keep_at(tmp_path).memory() == (MEMORY, "")
    assert keep_at(tmp_path).rollouts() == ({"us-chamber": ROLLOUT}, {})
    assert len([*tmp_path.glob("rollouts/*.json"), *tmp_path.glob("desired/*.json")]) == 4
    assert keep_at(tmp_path).memory() == (MEMORY, "")


def test_a_full_disk_is_said_and_the_old_memory_counts(tmp_path: Path) -> None:
    keep_at(tmp_path).write_memory(MEMORY)
    for number, kind in ((errno.ENOSPC, Overloaded), (errno.EROFS, Damaged)):
        keep = keep_at(tmp_path, FailingDisk(number, "create"))
        with pytest.raises(kind):
            keep.write_memory(Memory())
        with pytest.raises(kind):
            keep.write(ROLLOUT)
    assert keep_at(tmp_path).memory() == (MEMORY, "")
    assert keep_at(tmp_path).rollouts() == ({}, {})
