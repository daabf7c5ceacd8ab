"""Has a candidate built and tried where it can hurt nobody, and says what came of it.

A model may allocate without end, never return, or take its process along: each is one more way to
be refused, with its reason, and nobody else notices. Before a package is called bad its files are
read again: a copy that has rotted here is ours, not the publisher's.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_agent.backends.prepare import Bounds, Prepared, prepare
from edge_agent.core.contract import check_contract
from edge_agent.core.errors import BadPackage, Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.cores import cores
from edge_agent.errands import Errand
from edge_agent.stores.package import read_manifest
from edge_agent.stores.shelf import Shelf

SAMPLES: Final = "golden samples"  # what its refusals speak of once the model is built
Say = Callable[..., None]


def prove(errand: Errand, say: Say) -> dict[str, Any]:
    """Builds the candidate and runs its golden samples.

    Raises: BadPackage with the reason; Rejected when it is not installed, or what is live can't be
    read; Damaged, Overloaded, ConfigError.
    """
    shelf = Shelf(Path(errand.place.models))
    folder = shelf.folder(errand.sha)
    if folder is None:
        raise Rejected(f"prove {errand.sha[:16]}: it is not installed", hint="install it again")
    live = read_manifest(Path(errand.live)) if errand.live else None
    try:
        return _proved(errand, folder, live, say)
    except Rejected as error:
        shelf.check(errand.sha)  # Raises: Damaged
        raise BadPackage(error.what, hint=error.hint) from error


def _proved(errand: Errand, folder: Path, live: Manifest | None, say: Say) -> dict[str, Any]:
    """Raises: Rejected, Damaged, Overloaded, ConfigError."""
    manifest = read_manifest(folder)
    if live is not None:
        check_contract(live, manifest)
    try:
        prepared = _prepared(errand, folder, manifest)
    except Rejected as error:
        if SAMPLES in error.what:
            say("built")
        raise
    say("built", build_ms=prepared.build_ms)
    return {
        "golden_samples": prepared.golden_samples,
        "golden_difference": prepared.golden_difference,
        "golden_tolerance": prepared.golden_tolerance,
        "versions": {"runtime": prepared.runtime, "python": sys.version.split()[0]},
    }


def _prepared(errand: Errand, folder: Path, manifest: Manifest) -> Prepared:
    bounds = Bounds(
        wall_s=errand.proof_s,
        cpu_s=math.ceil(errand.proof_s * cores()),
        memory_bytes=errand.proof_memory_bytes,
    )
    return prepare(
        folder, manifest, errand.sha, Path(errand.place.engines), backend=errand.backend,
        threads=errand.threads, bounds=bounds,
    )  # fmt: skip
