"""The inference child of the bench: the real one, with our cameras and a meter around its sessions.

`python tools/bench/rig/child.py CONTROL EVENT BOARD PARENT METER`
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from edge_agent import backends, sources  # noqa: E402 - the path comes first
from edge_agent.config.structs import PhantomSource, Source  # noqa: E402
from edge_agent.ports import Backend, Clock, FrameSource  # noqa: E402
from edge_agent.services.engine.launch import Child  # noqa: E402
from tools.bench.rig.camera import Camera  # noqa: E402
from tools.bench.rig.meter import Meter, Metered, install  # noqa: E402

LISTENER = "tools.bench.rig.meter:InLane"
BackendName = Literal["auto", "onnx", "tensorrt"]
_make_backend = backends.make


def equip(meter: Meter) -> None:
    """From now on this process makes our cameras and metered backends."""
    install(meter)

    def make_source(config: Source, *, clock: Clock, exam_key: bytes) -> FrameSource:
        del exam_key
        assert isinstance(config, PhantomSource)
        return Camera(config, clock, meter)

    def make_backend(name: BackendName = "auto", **options: Any) -> Backend:
        return Metered(_make_backend(name, **options), meter)

    sources.make = make_source
    backends.make = make_backend


class LaunchChild:
    """Starts this file instead of the agent's own child; `pids` are those started."""

    def __init__(self, meter_fd: int) -> None:
        self._meter_fd = meter_fd
        self.pids: list[int] = []

    def __call__(self, control: socket.socket, event_fd: int, board_fd: int) -> Child:
        fds = (control.fileno(), event_fd, board_fd, self._meter_fd)
        words = [str(n) for n in (*fds[:3], os.getpid(), self._meter_fd)]
        process = subprocess.Popen(
            [sys.executable, __file__, *words], pass_fds=fds, stdin=subprocess.DEVNULL
        )
        control.close()
        self.pids.append(process.pid)
        return Child(process)


if __name__ == "__main__":
    from edge_agent.inference.__main__ import main

    equip(Meter(int(sys.argv[5])))
    sys.exit(main(sys.argv[1:5]))
