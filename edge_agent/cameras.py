"""The cameras of this machine by their names: nodes that may change, links of udev that do not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.core import v4l2

MAX_ENTRIES: Final = 256


class Roots(NamedTuple):
    """Where a system keeps them."""

    by_id: Path = Path("/dev/v4l/by-id")
    by_path: Path = Path("/dev/v4l/by-path")
    sys: Path = Path("/sys/class/video4linux")


HERE: Final = Roots()


def by_id(roots: Roots = HERE) -> list[str]:
    """Names of cameras that stay the same after a re-plug, sorted."""
    return v4l2.names(_entries(roots.by_id))


def nodes(roots: Roots = HERE) -> list[str]:
    """Capture devices by their number. A camera has further nodes for its metadata: index > 0."""
    found: list[tuple[int, str]] = []
    for name in _entries(roots.sys):
        number = name.removeprefix("video")
        if number.isascii() and number.isdigit() and _line(roots.sys / name / "index") in {"0", ""}:
            found.append((int(number), f"/dev/{name}"))
    return [device for _, device in sorted(found)]


def lasting(node: str, roots: Roots = HERE) -> tuple[str, str]:
    """The by-id and the by-path link to a node, "" where there is none."""
    return _link(roots.by_id, node), _link(roots.by_path, node)


def sibling(node: str, roots: Roots = HERE) -> str:
    """The node with the pictures of the camera that this one belongs to; "" for none."""
    mine = _device(roots.sys / Path(node).name)
    for other in nodes(roots):
        if other != node and mine and _device(roots.sys / Path(other).name) == mine:
            return other
    return ""


def _link(folder: Path, node: str) -> str:
    with contextlib.suppress(OSError):
        target = os.path.realpath(node)
        for name in v4l2.names(_entries(folder)):
            if os.path.realpath(folder / name) == target:
                return str(folder / name)
    return ""


def _device(entry: Path) -> str:
    """The device behind a node of sysfs, "" when it can't be told."""
    link = entry / "device"
    return os.path.realpath(link) if link.exists() else ""


def _entries(folder: Path) -> Iterable[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, MAX_ENTRIES)]
    return []


def _line(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
