"""A process that has imported everything and forks: a start costs milliseconds, a kill is a kill.

Orders are lines of JSON on its standard input, each answered by one on its standard output:
`{"start": "agent|receiver", "log": FILE, ...}` gives `{"pid"}`; `{"end": PID, "signal": N}` gives
`{"code"}`. When its input ends, so do its children. It must never have a thread or an event loop:
what it forks starts clean.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from typing import Any, Final

from tools.faulting import agent, receiver

PR_SET_PDEATHSIG: Final = 1
CHILDREN: Final = {"agent": agent.main, "receiver": receiver.main}


def main() -> int:
    """Until its input ends."""
    living: set[int] = set()
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        if "start" in order:
            answer: dict[str, Any] = {"pid": _started(order)}
            living.add(answer["pid"])
        else:
            answer = {"code": _ended(order["end"], order["signal"])}
            living.discard(order["end"])
        print(json.dumps(answer), flush=True)
    for pid in living:
        _ended(pid, signal.SIGKILL)
    return 0


def _started(order: dict[str, Any]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        _settle_in(order["log"])
        code = CHILDREN[order["start"]](order)
    except BaseException:  # noqa: BLE001 - the child's end of the world: it is told in its log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _settle_in(log: str) -> None:
    """Dies with its parent; what it says goes into its log."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)


def _ended(pid: int, number: int) -> int:
    """The exit code, minus the signal for one that was killed."""
    os.kill(pid, number)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
