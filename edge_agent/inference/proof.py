"""A model gives its golden sample before it sees a frame; whose fault it is when it does not.

What runs for the first time here may never return: it has a limit of time, and is told to end.
"""

from __future__ import annotations

import lzma
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.core import blame, golden
from edge_agent.core.errors import BadFrame, BadPackage, EdgeAgentError, Overloaded, Rejected
from edge_agent.core.golden import Gap, Sample
from edge_agent.core.manifest import Manifest, VariantSpec
from edge_agent.held import Held
from edge_agent.inference import realtime
from edge_agent.ports import Bound, Session

WARM_LIMIT_S: Final = 10.0  # a model that takes longer than this at first is not waited for
THOROUGH_S: Final = 3.0  # for more samples than the first: streams wait meanwhile
MAX_SAMPLE_BYTES: Final = 512 << 20  # of the samples that are run, unpacked
REINSTALL: Final = "reinstall it: its file is not what its maker ran, or this runtime is not"
UNREADABLE: Final = (
    OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile,
    zlib.error, lzma.LZMAError, NotImplementedError,
)  # fmt: skip
"""What reading a golden sample ends in when it is none."""


@contextmanager
def limited(bound: Bound, what: str, limit_s: float = WARM_LIMIT_S) -> Iterator[None]:
    """The first runs of a model.

    Raises: BadPackage when one fails, or takes longer on a core than the limit; Overloaded when
    it had no core or no memory for it.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        bound.cancel()

    alarm = threading.Timer(limit_s, end)
    alarm.daemon = True
    alarm.start()
    from_s = time.thread_time()
    try:
        yield
    except BadFrame as bad:
        ran_s = time.thread_time() - from_s if is_over.is_set() else limit_s
        raise of_running(what, bad, ran_s, limit_s) from bad
    finally:
        alarm.cancel()


def of_running(
    what: str, bad: BadFrame, ran_s: float, limit_s: float = WARM_LIMIT_S
) -> EdgeAgentError:
    """ran_s: how much of the limit it was on a core."""
    if blame.is_of_memory(bad.what):
        return Overloaded(f"{what}: {bad.what}", hint="stop what else runs here")
    if 2 * ran_s < limit_s:
        return Overloaded(
            f"{what}: not done within {limit_s:g} s, of which it had a core for {ran_s:.1f} s",
            hint="stop what else runs here",
        )
    return BadPackage(f"{what}: {bad.what}", hint=bad.hint)


def prove(
    session: Session,
    manifest: Manifest,
    held: Held,
    *,
    is_thorough: bool = False,
    limit_s: float = WARM_LIMIT_S,
) -> bool:
    """Runs the first golden sample of the variant that is loaded, or as many as a few seconds
    allow. False: there is none to compare. limit_s: of each.

    Raises: BadPackage when it gives anything else, or can't be run; Overloaded.
    """
    title = f"model {manifest.name} {manifest.version} is damaged"
    variant = next(one for one in manifest.variants if one.name == session.variant)
    try:
        samples = read_samples(held, variant, is_thorough=is_thorough)
    except Rejected as wrong:
        raise BadPackage(f"{title}: {wrong.what}", hint=REINSTALL) from wrong
    compared = [sample for sample in samples if sample.outputs]
    if compared:
        bound, from_s = session.bind(), time.monotonic()
        for number, sample in enumerate(compared):
            if number and time.monotonic() - from_s > THOROUGH_S:
                break
            with limited(bound, f"{title}: its golden sample", limit_s), realtime.heavy():
                gap = _gap(bound, sample, manifest, variant)
            if not gap.within:
                raise BadPackage(
                    f"{title}: its golden sample: {gap.output} differs by {gap.difference:.3g}, "
                    f"expected at most {gap.tolerance:g}",
                    hint=REINSTALL,
                )
    return bool(compared)


def _gap(bound: Bound, sample: Sample, manifest: Manifest, variant: VariantSpec) -> Gap:
    """Raises: BadPackage, BadFrame."""
    if sample.fed.shape != bound.input_pixels.shape:
        raise BadPackage(
            f"model {manifest.name} {manifest.version} is damaged: its golden sample: expected "
            f"input {list(bound.input_pixels.shape)}, got {list(sample.fed.shape)}",
            hint=REINSTALL,
        )
    bound.reset_state()
    bound.input_pixels[...] = sample.fed
    return golden.widest_gap(sample, bound.run(), variant, manifest.heads)


def read_samples(held: Held, variant: VariantSpec, *, is_thorough: bool) -> list[Sample]:
    """The golden samples of a variant; the first alone without unpacking the others.

    Raises: Rejected.
    """
    title = f"its golden sample in {variant.golden}"
    try:
        with held.open(variant.golden) as file, zipfile.ZipFile(file) as archive:
            wanted = [
                entry
                for entry in archive.infolist()
                if is_thorough or entry.filename.endswith("_0.npy")
            ]
            total = sum(entry.file_size for entry in wanted)
            if total > MAX_SAMPLE_BYTES:
                raise Rejected(f"expected at most {MAX_SAMPLE_BYTES} bytes, got {total}")
            arrays: dict[str, NDArray[Any]] = {}
            for entry in wanted:
                with archive.open(entry) as content:
                    name = entry.filename.removesuffix(".npy")
                    arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
        return golden.samples(arrays, variant.golden)
    except (*UNREADABLE, Rejected) as error:
        raise Rejected(f"{title}: {error}") from error
