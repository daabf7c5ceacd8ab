"""How many processor cores this process really gets: its affinity, and the quota of its group."""

from __future__ import annotations

import math
import os
from pathlib import Path

MAX_FILE_BYTES = 1 << 16
MAX_DEPTH = 64


def cores(root: str | Path = "/") -> int:
    """Whole cores, at least one: those that it may run on, and no more than its cgroups grant
    (`cpu.max`, or `cpu.cfs_quota_us` of the first version), each rounded up. root: where proc/ and
    sys/ stand.
    """
    allowed = len(os.sched_getaffinity(0))
    granted = quota(Path(root))
    return max(1, allowed if granted is None else min(allowed, math.ceil(granted)))


def quota(root: Path) -> float | None:
    """Cores that the tightest of its cgroups grants; None: as many as there are."""
    found: list[float] = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            found += _along(root / "sys/fs/cgroup", path, _cpu_max)
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", controllers):
                found += _along(root / "sys/fs/cgroup" / mount, path, _cfs_quota)
    return min(found, default=None)


def _along(mount: Path, path: str, read: object) -> list[float]:
    """Of a group and of those around it. In a container the path may be one of the host's: then
    the mount itself is the group.
    """
    assert callable(read)
    names = [name for name in path.split("/") if name not in ("", ".", "..")][:MAX_DEPTH]
    folders = [mount.joinpath(*names[:count]) for count in range(len(names) + 1)]
    values = [read(folder) for folder in folders]
    return [value for value in values if value is not None]


def _cpu_max(folder: Path) -> float | None:
    """`max 100000` or `150000 100000`."""
    words = _text(folder / "cpu.max").split()
    return _share(words[0], words[1]) if len(words) == 2 else None


def _cfs_quota(folder: Path) -> float | None:
    """-1: no quota."""
    return _share(
        _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    )


def _share(quota_us: str, period_us: str) -> float | None:
    if not (quota_us.isdigit() and period_us.isdigit() and int(period_us)):
        return None
    return int(quota_us) / int(period_us) or None


def _text(path: Path) -> str:
    """Nothing ("") where there is none."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES).decode("ascii", "replace")
    except OSError:
        return ""
