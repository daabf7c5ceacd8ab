"""An inference child that dies of one version of a model: at its run, as a fault in a driver would.

`python tests/agents/crashing.py CONTROL EVENT BOARD PARENT VERSION`
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from numpy.typing import NDArray  # noqa: E402 - the path comes first

from edge_agent.backends.onnx import OnnxBound  # noqa: E402
from edge_agent.services.engine.launch import Child  # noqa: E402

WARM = 3  # runs that go well: it dies on a live frame


def deadly(version: str) -> None:
    """From now on this process aborts at the first live run of that version."""
    real = OnnxBound.run
    runs: dict[int, int] = {}

    def run(self: OnnxBound) -> Mapping[str, NDArray[Any]]:
        if self._title.endswith(version):
            runs[id(self)] = runs.get(id(self), 0) + 1
            if runs[id(self)] > WARM:
                os.abort()
        return real(self)

    OnnxBound.run = run  # type: ignore[method-assign]


class Deadly:
    """Starts this file instead of the agent's own child."""

    def __init__(self, version: str) -> None:
        self._version = version

    def __call__(self, control: socket.socket, event_fd: int, board_fd: int) -> Child:
        fds = (control.fileno(), event_fd, board_fd)
        words = [str(n) for n in (*fds, os.getpid())]
        process = subprocess.Popen(
            [sys.executable, __file__, *words, self._version], pass_fds=fds,
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        control.close()
        return Child(process)


if __name__ == "__main__":
    from edge_agent.inference.__main__ import main

    deadly(sys.argv[5])
    sys.exit(main(sys.argv[1:5]))
