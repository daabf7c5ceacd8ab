"""`python -m edge_agent.installer SOCKET PARENT`: a descriptor and the agent's pid."""

from __future__ import annotations

import signal
import socket
import sys

from edge_agent.installer.manners import die_with_parent, stand_back


def main(argv: list[str]) -> int:
    fd, parent = (int(word) for word in argv)
    die_with_parent(parent)
    stand_back()
    # the agent ends us over the socket or by SIGKILL; a terminal's Ctrl-C is meant for the agent
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from edge_agent.installer.serve import serve  # noqa: PLC0415 - after the parent is watched

    with socket.socket(fileno=fd) as line:
        return serve(line)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
