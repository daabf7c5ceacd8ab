"""The layer of configuration that came down, below the operator's own files.

It is kept in `state_dir` as one TOML file and merged first, so that whatever stands in a file or in
`--set` on the machine wins. It may not set what could keep the machine from being reached again,
nor whom it trusts, nor code that is run. A layer that no longer fits the files beside it is left
out, with a warning: what an operator wrote always starts. Never writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from edge_agent.config.problems import Problem

FILE_NAME: Final = "config.pushed.toml"
MAX_BYTES: Final = 256 << 10
OWN: Final = (  # of the machine and its operator, by dotted key or the section above it
    "node", "state_dir", "runtime_dir", "rollouts", "uplink", "console", "supervise",
    "engine.listeners", "engine.isolation", "models.dirs",
)  # fmt: skip


def forbidden(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """What the layer may not speak of."""
    for key in OWN:
        section, _, name = key.partition(".")
        inner = tables.get(section)
        there = name in inner if name and isinstance(inner, Mapping) else section in tables
        if there and (not name or isinstance(inner, Mapping)):
            yield Problem(
                file=FILE_NAME,
                key=key,
                message="not to be pushed down (expected it in a file on the machine)",
                hint="a machine that is cut off by it could not be reached again",
            )
