"""`python -m edge_agent.inference CONTROL EVENT BOARD PARENT`: descriptors and the agent's pid."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from edge_agent.inference.realtime import die_with_parent

EXIT_DIED = 70  # EX_SOFTWARE: a thread died of a bug; the agent starts a new child


def on_death(text: str) -> None:
    from edge_agent.logs import mask  # noqa: PLC0415 - it is loaded by now

    os.write(2, mask(text).encode(errors="replace"))
    os._exit(EXIT_DIED)


def main(argv: list[str]) -> int:
    control_fd, event_fd, board_fd, parent = (int(word) for word in argv)
    die_with_parent(parent)
    # the agent stops us over the socket; a terminal's Ctrl-C is meant for the agent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    import cv2  # noqa: PLC0415 - after the parent is watched: it takes a while to load

    cv2.setNumThreads(1)  # a lane is one thread; OpenCV's own pool would fight for the cores
    from edge_agent.core.moulds import make_ready  # noqa: PLC0415 - as above
    from edge_agent.inference.side import run_side  # noqa: PLC0415 - as above

    make_ready()
    gc.freeze()
    with socket.socket(fileno=control_fd) as control:
        run_side(control, lambda: os.eventfd_write(event_fd, 1), board_fd, on_death=on_death)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
