"""The guards that every other test runs under really guard."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import house

LEAVES = """
import subprocess, tempfile, threading

def test_child() -> None:
    subprocess.Popen(["sleep", "5"])

def test_thread() -> None:
    threading.Timer(3, int).start()

def test_file() -> None:
    tempfile.mkstemp()

def test_nothing() -> None:
    subprocess.run(["true"])
    threading.Timer(0.1, int).start()
"""
BLOCKS = """
import os, time
import pytest
from edge_agent import stall

@pytest.mark.anyio
async def test(quiet_loop: None) -> None:
    os.fsync(os.open(__file__, os.O_RDONLY))  # the test's own code may
    stall()
"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull]
    command += ["-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{folder}{os.pathsep}{house.ROOT}",
        "TMPDIR": str(folder),
        "EDGE_AGENT_TEST_LEAVE_S": "0.5",
    }
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=50,
        check=False,
    )


def test_whoever_leaves_something_behind_fails(tmp_path: Path) -> None:
    ran = run(tmp_path, LEAVES)
    for what in ("child process", "thread Thread-", "file "):
        assert f"the test left behind: {what}" in ran.stdout, ran.stdout + ran.stderr
    assert "4 passed, 3 errors" in ran.stdout, ran.stdout


@pytest.mark.parametrize("call", ["os.fsync(0)", "time.sleep(0.01)", "open(__file__).read()"])
def test_whoever_blocks_the_loop_fails(call: str, tmp_path: Path) -> None:
    package = tmp_path / "edge_agent"
    package.mkdir()
    (package / "__init__.py").write_text(f"import os, time\ndef stall() -> None:\n    {call}\n")
    ran = run(tmp_path, BLOCKS)
    assert "BlockingError: Blocking call to" in ran.stdout, ran.stdout + ran.stderr
    assert ran.returncode == 1
