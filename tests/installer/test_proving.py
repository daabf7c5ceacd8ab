"""A candidate is built and tried where it can hurt nobody: rascals are refused with the reason."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.core.errors import Rejected
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
    with pytest.raises(Rejected, match=words):
        proving.prove(wanted, Told())


def test_one_that_never_returns_is_ended_and_refused(store: Installed, tmp_path: Path) -> None:
    wanted = errand(store, rascals.write(tmp_path / "new", fault="endless"), proof_s=3.0)
    started_s = time.monotonic()
    with pytest.raises(Rejected, match="not done within 3 s"):
        proving.prove(wanted, Told())
    assert time.monotonic() - started_s < 6


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_one_that_takes_its_process_along_is_refused(
    store: Installed, tmp_path: Path, number: signal.Signals
) -> None:
    wanted = errand(store, rascals.write(tmp_path / "new", fault="endless"))

    def end_it() -> None:
        while not (found := children(os.getpid())):
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(found[0], number)

    ender = threading.Thread(target=end_it)
    ender.start()
    with pytest.raises(Rejected, match=number.name):
        proving.prove(wanted, Told())
    ender.join()


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
    with pytest.raises(Rejected, match=words):
        proving.prove(wanted, Told())
