"""What every test runs under: the asyncio backend, and a look at what it left behind.

A test that leaves a child process, a thread that would hold up the exit, or a temporary file fails.
A test of a part of the agent that runs on the loop asks for `quiet_loop`: whoever blocks it there,
be it for the time of one fsync, fails the test.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blockbuster import BlockBusterFunction, blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["tests.broker"]

# Children and threads that are on their way out may take so long.
LEAVE_S = float(os.environ.get("EDGE_AGENT_TEST_LEAVE_S", "3"))


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "run the tests marked `long`, and no others; without it they are left out"
    parser.addoption("--long", action="store_true", help=text)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = bool(config.getoption("--long"))
    left = [item for item in items if (item.get_closest_marker("long") is not None) != wanted]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Asyncio in debug mode: coroutines never awaited and calls from wrong threads are errors."""
    return "asyncio", {"debug": True}


@pytest.fixture
def quiet_loop() -> Iterator[None]:
    """No code of the agent may block the event loop; the test's own code may."""
    with blockbuster_ctx("edge_agent") as blockbuster:
        for name in ("fsync", "fdatasync"):
            function = BlockBusterFunction(os, name, scanned_modules="edge_agent")
            blockbuster.functions[f"os.{name}"] = function
            function.activate()
        yield


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of temporary files for these tests and their children alone.

    Directly below the system's: a UNIX socket in it has no more than 108 bytes for its path.
    """
    tmp_path_factory.getbasetemp()  # pytest's own stays where it always is, and is kept
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="ea-test-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = folder
        yield Path(folder)
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


@pytest.fixture(autouse=True)
def leaves_nothing(own_temporary_folder: Path) -> Iterator[None]:
    """Fails a test that leaves children, threads or temporary files behind."""
    children, threads = _children(), set(threading.enumerate())
    files = set(own_temporary_folder.iterdir())
    yield
    until = time.monotonic() + LEAVE_S
    while left := _left(children, threads, set(own_temporary_folder.iterdir()) - files):
        if time.monotonic() > until:
            pytest.fail(f"the test left behind: {', '.join(left)}", pytrace=False)
        time.sleep(0.02)


def _left(children: set[int], threads: set[threading.Thread], files: set[Path]) -> list[str]:
    """What is there and was not before."""
    left = [f"child process {pid} ({_command(pid)})" for pid in sorted(_children() - children)]
    left += [
        f"thread {thread.name}"
        for thread in threading.enumerate()
        if thread not in threads and not thread.daemon
    ]
    return left + [f"file {path}" for path in sorted(files)]


def _children() -> set[int]:
    """Process ids of the living and the unreaped children of any of our threads."""
    pids: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            pids.update(map(int, (task / "children").read_text().split()))
        except OSError:  # the thread has ended meanwhile
            continue
    return pids


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "gone"
