"""Killed at each system call that changes the disk: old or new, and the next run goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.stores.shelf import Pointers
from tests.faults.install_child import install
from tests.stores.packages import Packed, packed, store_at

STRACE = shutil.which("strace")
# A kill keeps what was written and not flushed; a cut of power does not: `test_installed_power`
KINDS = ("write", "fallocate", "rename", "mkdir", "unlink", "rmdir")
MOST = 40  # of one kind


def can_kill() -> bool:
    if STRACE is None:
        return False
    tried = subprocess.run(
        [STRACE, "-qq", "-o", os.devnull, "true"], capture_output=True, check=False
    )
    return tried.returncode == 0


pytestmark = pytest.mark.skipif(not can_kill(), reason="no strace to kill with")


def killed(kind: str, number: int, root: Path, one: Packed) -> bool:
    """Whether the child died of it; else it has done its work."""
    assert STRACE is not None
    verb = [STRACE, "-qq", "-o", os.devnull,
            "-e", f"trace={kind}", "-e", f"inject={kind}:signal=KILL:when={number}"]  # fmt: skip
    child = [sys.executable, "-B", "-m", "tests.faults.install_child", str(root), str(one.tar)]
    done = subprocess.run([*verb, *child, one.sha], capture_output=True, check=False, timeout=30)
    assert done.returncode in (0, -9, 137), done.stderr.decode()
    return done.returncode != 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_any_of_them_leaves_old_or_new(kind: str, tmp_path: Path) -> None:
    old, current, one = (packed(tmp_path / "made", f"1.{n}.0") for n in range(3))
    before = tmp_path / "before"
    store = store_at(before)
    for each in (old, current):
        store.admit(each.tar, each.sha)
        store.commit("tiny", each.sha)
    was, new = Pointers(current.sha, old.sha), Pointers(one.sha, current.sha)
    count = 0
    for number in range(1, MOST):
        root = tmp_path / f"{number}"
        shutil.copytree(before, root)
        if not killed(kind, number, root, one):
            break
        count += 1
        store = store_at(root)
        assert store.pointers("tiny") in (was, new), number
        for sha in {*store.shas("tiny"), *store.pointers("tiny")}:
            store.check(sha)
        install(store, one.tar, one.sha)
        assert store.pointers("tiny") == new
        assert {*store.shas("tiny")} == {*new}
        for sha in new:
            store.check(sha)
    assert 0 < count < MOST - 1
