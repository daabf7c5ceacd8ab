"""What the agent has an installer process do: the messages of their socket pair.

One process, one errand. The errand goes in as one line of JSON; words come back, a line each:
progress, and at the end `ok` or `error`. The end of file without either is a death.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edge_agent.core.bytewise import jsoned

MAX_LINE_BYTES = 1 << 20
MAX_CONFIG_BYTES = 256 << 10  # of a configuration that is pushed down

Verb = Literal["wanted", "fetch", "prove", "config", "adopt", "collect"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where things are on this machine. extra: folders with a repository, asked first."""

    models: str
    tuf: str
    engines: str = ""
    root_file: str = ""
    repositories: tuple[str, ...] = ()
    ca_file: str = ""
    extra: tuple[str, ...] = ()
    store_bytes: int = 8 << 30
    pace_bytes_per_s: int = 0


class Errand(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One verb, whole; unused fields keep their defaults.

    file: a package to adopt. allow_unsigned: then without signatures too. live: the folder of the
    package that the candidate would follow. backend: of the engine.
    """

    verb: Verb
    place: Place
    node: str = ""
    cohort: str = ""
    agent: str = ""
    model: str = ""
    version: str = ""
    sha: str = ""
    file: str = ""
    allow_unsigned: bool = False
    live: str = ""
    backend: Literal["auto", "onnx", "tensorrt"] = "auto"
    threads: int = 1
    proof_s: float = 900.0
    proof_memory_bytes: int = 0
    keep: tuple[str, ...] = ()


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line back. fault: of an error, `core.errors.Fault`."""

    kind: Literal["progress", "ok", "error"]
    what: str = ""
    facts: dict[str, Any] = {}
    error: str = ""
    hint: str = ""
    fault: str = ""


def encode(message: Errand | Word) -> bytes:
    """A line."""
    return jsoned(message) + b"\n"
