"""A candidate is built and tried where it can hurt nobody: rascals are refused with the reason."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.core.errors import BadPackage, Damaged, EdgeAgentError, Overloaded, Rejected
from edge_agent.errands import Errand, Place
from edge_agent.installer import proving
from edge_agent.stores.installed import Installed
from tests.installer import rascals


@pytest.fixture
def store(tmp_path: Path) -> Installed:
    return Installed(tmp_path / "models", limit_bytes=rascals.LIMIT_BYTES, keep_free_bytes=0)


class Told(list[tuple[str, dict[str, Any]]]):
    def __call__(self, what: str, **facts: Any) -> None:
        self.append((what, facts))


def errand(store: Installed, folder: Path, *, live: str = "", proof_s: float = 30.0) -> Errand:
    sha = rascals.install(store, folder)
    place = Place(models=str(store.root), tuf="", engines=str(store.root.parent / "engines"))
    return Errand(
        verb="prove", place=place, model="tiny", version="1.1.0", sha=sha, live=live,
        proof_s=proof_s,
    )  # fmt: skip


def test_a_good_one_is_built_and_its_samples_agree(store: Installed, tmp_path: Path) -> None:
    told = Told()
    live = rascals.write(tmp_path / "tiny" / "0.9.0", version="0.9.0")
    wanted = errand(store, rascals.write(tmp_path / "new", version="1.1.0"), live=str(live))
    facts = proving.prove(wanted, told)
    assert facts["golden_difference"] <= 1e-5
    assert facts["golden_samples"] == 1
    assert facts["versions"]["runtime"]
    ((what, words),) = told
    assert what == "built"
    assert words["build_ms"] > 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", "y: expected within 0.001, got inf"),
        ("drifted", "expected within 0.001, got 0.5"),
        ("shape", "y: expected within 0.001, got inf"),
        ("corrupt", "model tiny 1.0.0 .*Protobuf"),
        ("greedy", "memory|allocate"),
        ("bomb", "memory|allocate"),
        ("none", "expected 1 to 64 inputs, got 0"),
    ],
)
def test_a_rascal_is_refused_with_its_reason(
    store: Installed, tmp_path: Path, fault: str, words: str
) -> None:
    wanted = errand(store, rascals.write(tmp_path / "new", fault=fault))
    with pytest.raises(BadPackage, match=words):
        proving.prove(wanted, Told())


def test_one_that_never_returns_is_ended(store: Installed, tmp_path: Path) -> None:
    """Whose fault that is depends on whether this machine had a core for it: see below."""
    wanted = errand(store, rascals.write(tmp_path / "new", fault="endless"), proof_s=3.0)
    started_s = time.monotonic()
    with pytest.raises((BadPackage, Overloaded), match="not done within 3 s"):
        proving.prove(wanted, Told())
    assert time.monotonic() - started_s < 6


CRASHES = [signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS, signal.SIGFPE]
ENDED = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.mark.parametrize(
    ("number", "blamed"),
    [(one, BadPackage) for one in CRASHES] + [(one, Overloaded) for one in ENDED],
)
def test_a_crash_is_the_package_s_and_being_ended_is_somebody_else_s(
    store: Installed, tmp_path: Path, number: signal.Signals, blamed: type[EdgeAgentError]
) -> None:
    wanted = errand(store, rascals.write(tmp_path / "new", fault="endless"))

    def end_it() -> None:
        while not (found := children(os.getpid())):
            time.sleep(0.01)
        while not is_confined(found[0]):
            time.sleep(0.01)
        os.kill(found[0], number)

    ender = threading.Thread(target=end_it)
    ender.start()
    with pytest.raises(blamed, match=number.name) as caught:
        proving.prove(wanted, Told())
    assert type(caught.value) is blamed
    assert caught.value.hint
    ender.join()


def is_confined(pid: int) -> bool:
    """Its bound of time on a core is there, so signals do what they do by default."""
    limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii").splitlines()
    return any(line.startswith("Max cpu time") and "unlimited" not in line for line in limits)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"keys": "b"}, "head blob: expected the same labels"),
        ({"task": "detection"}, "head blob: expected task segmentation, got detection"),
    ],
)
def test_labels_and_tasks_may_not_change_silently(
    store: Installed, tmp_path: Path, more: dict[str, Any], words: str
) -> None:
    live = rascals.write(tmp_path / "tiny" / "0.9.0", version="0.9.0")
    wanted = errand(store, rascals.write(tmp_path / "new", **more), live=str(live))
    with pytest.raises(BadPackage, match=words):
        proving.prove(wanted, Told())


@pytest.mark.parametrize("name", ["model.onnx", "golden.npz", "manifest.toml"])
@pytest.mark.parametrize("harm", ["rotten", "gone"])
def test_a_copy_that_rotted_here_is_no_bad_package(
    store: Installed, tmp_path: Path, name: str, harm: str
) -> None:
    wanted = errand(store, rascals.write(tmp_path / "new"))
    folder = store.folder(wanted.sha)
    assert folder is not None
    file = folder / name
    if harm == "gone":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[8:40] = b"\xff" * 32
        file.write_bytes(content)
    with pytest.raises(Damaged) as caught:
        proving.prove(wanted, Told())
    assert caught.value.hint


def test_what_is_not_installed_and_what_is_live_and_unreadable_are_no_fault_of_it(
    store: Installed, tmp_path: Path
) -> None:
    wanted = errand(store, rascals.write(tmp_path / "new"), live=str(tmp_path / "tiny" / "0.9.0"))
    for asked in (wanted, msgspec.structs.replace(wanted, sha="f" * 64)):
        with pytest.raises(Rejected) as caught:
            proving.prove(asked, Told())
        assert type(caught.value) is Rejected
