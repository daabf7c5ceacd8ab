"""Where the control socket is looked for when its own folder can't be used. Pure.

Agent and command line go through the same list. The folders are named after the state directory,
so that two agents never meet there and a command finds the one that it means.
"""

from __future__ import annotations

import binascii
import posixpath
from collections.abc import Mapping
from typing import Final

SOCKET_NAME: Final = "control.sock"
STAND_IN: Final = "edge-agent-"  # and a sum of the state directory's path
FIXED: Final = ("/run", "/dev/shm", "/tmp", "/var/tmp")  # noqa: S108 - its owner is looked at
NAMED: Final = ("XDG_RUNTIME_DIR", "TMPDIR")


def stand_ins(state_dir: str, environ: Mapping[str, str]) -> list[str]:
    """Folders that may hold the socket of the agent of that state directory, best first.

    Each is made by the agent, 0700, and is its own: whoever finds one there that belongs to
    somebody else leaves it alone.
    """
    path = posixpath.normpath(state_dir).encode("utf-8", "surrogateescape")
    name = f"{STAND_IN}{binascii.crc32(path):08x}"
    parents = [FIXED[0], *(environ.get(key, "") for key in NAMED), *FIXED[1:]]
    folders = [f"{parent.rstrip('/')}/{name}" for parent in parents if parent.startswith("/")]
    return list(dict.fromkeys(folders))
