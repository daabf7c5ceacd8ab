"""What a write that was cut off has left goes at the next start; nothing else does."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from edge_agent.config.structs import Config
from edge_agent.core.errors import Damaged
from edge_agent.ground import Ground
from edge_agent.stores import leftovers
from edge_agent.stores.document import Document
from edge_agent.stores.files import write_atomic
from edge_agent.stores.leftovers import sweep
from tests.faults.failing import FailingDisk

SHA = "ab" * 32
LEFT = [
    ".exam.key.0123abcd",
    ".audit.log.0123abcd",
    "rollouts/.us-chamber.copy.json.0123abcd",
    "desired/.desired.json.0123abcd",
    "desired/.begun.0123abcd",
    "tuf/.memory.json.0123abcd",
    "tuf/handover/metadata/.3.targets.json.0123abcd",
    "tuf/metadata/tmpab12_xyz",
    "models/us-chamber/.pointers.json.0123abcd",
    f"models/.making/{SHA}/model.onnx",
    f"models/.dropping/{SHA}/deep/er/model.onnx",
    "engines/.making-ab12_xyz/engine.onnx",
    "engines/half.tmp",
]
KEPT = [
    "exam.key",
    ".exam.key.0123abcg",
    ".exam.key.0123abcde",
    "exam.key.0123abcd",
    ".0123abcd",
    "tmpab12_xyz",
    "half.tmp",
    "rollouts/us-chamber.json",
    "rollouts/us-chamber.json.damaged",
    "desired/begun",
    "tuf/lock",
    "tuf/memory.json",
    "tuf/tmpab12_xyz",
    "tuf/metadata/timestamp.json",
    "tuf/metadata/tmpab12_xyz.json",
    "tuf/metadata/root_history/1.root.json",
    "models/.lock",
    f"models/.incoming/{SHA}/package.eam",
    f"models/us-chamber/{SHA}/model.onnx",
    f"models/us-chamber/{SHA}/.model.onnx.0123abcd",
    "models/us-chamber/pointers.json",
    f"engines/{SHA[:32]}-fp32-ort1-x.onnx",
    "engines/.making-here.onnx",
    "deeper/.exam.key.0123abcd",
]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    state_dir = tmp_path / "state"
    for name in (*LEFT, *KEPT):
        path = state_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return state_dir


def files(state_dir: Path) -> set[str]:
    return {str(path.relative_to(state_dir)) for path in state_dir.rglob("*") if path.is_file()}


def test_leftovers_go_and_nothing_else(state_dir: Path) -> None:
    assert sweep(state_dir) == len(LEFT)
    assert files(state_dir) == {*KEPT}
    assert [path.name for path in state_dir.glob("models/.*/*")] == [SHA]
    assert sweep(state_dir) == 0


def test_the_ground_is_swept_once_it_is_ours(state_dir: Path, tmp_path: Path) -> None:
    (state_dir / "exam.key").write_bytes(bytes(32))
    with Ground(Config(state_dir=str(state_dir), runtime_dir=str(tmp_path / "run"))):
        assert not files(state_dir) & {*LEFT}
    assert {*KEPT} <= files(state_dir)


def test_the_names_are_those_that_a_write_leaves(tmp_path: Path) -> None:
    dying = FailingDisk(5, "rename", "unlink")
    with pytest.raises(OSError, match="Input/output error"):
        write_atomic(tmp_path / "exam.key", b"1", disk=dying)
    with pytest.raises(Damaged, match="Input/output error"):
        Document(tmp_path, "desired", disk=dying).write(b"{}")
    assert len(list(tmp_path.iterdir())) == 3
    assert sweep(tmp_path) == 3
    assert not list(tmp_path.iterdir())


def test_only_plain_files_and_folders_go_and_no_link_is_followed(
    state_dir: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    for name in (f"{SHA}/precious", "us-chamber/.precious.0123abcd", ".precious.0123abcd"):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_bytes(b"precious")
    sweep(state_dir)
    os.mkfifo(state_dir / ".pipe.json.0123abcd")
    (state_dir / ".folder.json.0123abcd").mkdir()
    (state_dir / ".link.json.0123abcd").symlink_to(outside / ".precious.0123abcd")
    (state_dir / "models" / ".making" / ("cd" * 32)).symlink_to(outside / SHA)
    (state_dir / "models" / "us-plane").symlink_to(outside / "us-chamber")
    for name in ("desired", "rollouts"):
        for path in (state_dir / name).iterdir():
            path.unlink()
        (state_dir / name).rmdir()
        (state_dir / name).symlink_to(outside)
    assert sweep(state_dir) == 0
    assert len(files(outside)) == 3
    (state_dir / "models").rename(tmp_path / "models")
    (state_dir / "models").symlink_to(tmp_path / "models")
    (tmp_path / "models" / ".making" / SHA).mkdir(exist_ok=True)
    assert sweep(state_dir) == 0


def test_a_state_directory_that_is_a_link_is_swept(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(state_dir)
    assert sweep(tmp_path / "link") == len(LEFT)


@pytest.mark.parametrize("lock", ["tuf/lock", "models/.lock"])
def test_what_another_process_is_at_is_left_to_it(lock: str, state_dir: Path) -> None:
    with (state_dir / lock).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        sweep(state_dir)
        place = lock.split("/", maxsplit=1)[0]
        assert {name for name in LEFT if name.startswith(place)} == files(state_dir) & {*LEFT}
    sweep(state_dir)
    assert not files(state_dir) & {*LEFT}


def test_a_sweep_has_a_bound_and_the_next_one_goes_on(quick_place: Path) -> None:
    state_dir = quick_place
    for number in range(leftovers.MAX_REMOVED + 10):
        (state_dir / f".state.{number:08x}").write_bytes(b"")
    assert (sweep(state_dir), sweep(state_dir)) == (leftovers.MAX_REMOVED, 10)


def test_where_nothing_can_be_swept_nothing_is_raised(tmp_path: Path) -> None:
    assert sweep(tmp_path / "nothing") == 0
    (tmp_path / "file").write_bytes(b"")
    assert sweep(tmp_path / "file") == 0
    for name in ("rollouts", "engines", "tuf", "models"):
        (tmp_path / name).write_bytes(b"")
    assert sweep(tmp_path) == 0
    (tmp_path / "models").unlink()
    (tmp_path / "models").mkdir()
    os.mkfifo(tmp_path / "models" / ".lock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / ".listening.0123abcd"))
        assert sweep(tmp_path) == 0
