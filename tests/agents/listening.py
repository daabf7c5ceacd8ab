"""In-lane listeners for tests: one that remembers, and one that is told to misbehave by a file."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from edge_agent.core.frames import Arrays, Result
from edge_agent.ports import InLaneListener

ORDERS = "EDGE_AGENT_TEST_ORDERS"  # names a file: "hang" or "raise", obeyed at the next result


class Remembers:
    """For the thread mode. `log`: ("result", frame) and ("blank", reason), in order of call."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str | int]] = []
        self.shapes: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        self.signals: list[tuple[str, ...]] = []

    def result(self, result: Result, arrays: Arrays) -> None:
        assert np.isfinite(arrays.outputs["y"]).all()
        assert arrays.frame.number == result.frame
        self.shapes.add((arrays.frame.pixels.shape, arrays.outputs["y"].shape))
        self.signals.append(result.flags)
        self.log.append(("result", result.frame))

    def blank(self, stream: str, reason: str) -> None:
        self.log.append(("blank", f"{stream}: {reason}"))


class Obeys:
    """For the child: works well until the file says otherwise; a child obeys once."""

    def result(self, result: Result, arrays: Arrays) -> None:
        del result, arrays
        path = Path(os.environ[ORDERS])
        if not path.exists():
            return
        order = path.read_text()
        path.unlink()
        if order == "hang":
            time.sleep(3600)
        raise RuntimeError("a bug in a listener")

    def blank(self, stream: str, reason: str) -> None:
        """Nothing to do."""


remembered: list[Remembers] = []


def remembers() -> InLaneListener:
    remembered.append(Remembers())
    return remembered[-1]


def obeys() -> InLaneListener:
    return Obeys()
