"""A proven package: checked once more as an edge will, then put where it was asked for."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edge_agent.core import golden
from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.core.package import MANIFEST
from edge_agent.stores.files import sync_folder, write_atomic
from edge_agent.stores.known import write_sum
from edge_agent.stores.models import Models
from edge_agent.stores.package import look
from tools.hot_tier.packing import sessions


def check_golden(folder: Path, manifest: Manifest, variant: str) -> None:
    """Raises: Rejected with the output that is too far from its golden one."""
    spec = next(one for one in manifest.variants if one.name == variant)
    with np.load(folder / spec.golden, allow_pickle=False) as stored:
        kept = golden.samples({key: stored[key] for key in stored.files}, spec.golden)
    session = sessions.bound(folder, manifest, variant)
    for index, sample in enumerate(kept):
        session.reset_state()
        session.input_pixels[...] = sample.fed
        try:
            gap = golden.widest_gap(sample, session.run(), spec, manifest.heads)
        except BadFrame as bad:
            raise Rejected(f"golden sample {index}: {bad.what}", hint=bad.hint) from bad
        if not gap.within:
            raise Rejected(
                f"golden sample {index} of {variant}: output {gap.output} differs by "
                f"{gap.difference:.3g}, expected at most {gap.tolerance:.3g}",
                hint="the model does not say the same twice; report this with the model",
            )


def write_tar(path: Path, store: Models, folder: Path) -> None:
    """Old or new, never half. Raises: Rejected."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            for chunk in store.pack(folder):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise Rejected(f"write {path.name}: {error.strerror}", hint="choose another -o") from error
    finally:
        beside.unlink(missing_ok=True)


def write_folder(made: Path, folder: Path) -> None:
    """The manifest after the files, without it a folder is no package; last what it has to be.

    Raises: Rejected.
    """
    if (folder / MANIFEST).exists():
        raise Rejected(
            f"write package: {folder.parent.name} {folder.name} is there already",
            hint="raise version in the pack manifest",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in made.iterdir())
        for name in sorted(names, key=lambda name: name == MANIFEST):
            write_atomic(folder / name, (made / name).read_bytes(), mode=0o644)
        write_sum(folder, look(made).sha)
    except OSError as error:
        raise Rejected(f"write package: {error.strerror}", hint="choose another --dir") from error
