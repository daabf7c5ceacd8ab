"""`python -m edge_agent.decoder SOCKET`: a descriptor; everything else comes through it."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import sys
from pathlib import Path


def main(argv: list[str]) -> int:
    # The parent ends us over the socket or by SIGKILL; a terminal's Ctrl-C is meant for the agent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold pictures of a patient
    with contextlib.suppress(OSError):  # pictures are what is large: end this before the agent
        Path("/proc/self/oom_score_adj").write_text("1000")
    from edge_agent.decoder.serve import Child  # noqa: PLC0415 - after nothing can be dumped

    with socket.socket(fileno=int(argv[0])) as line:
        Child(line).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
