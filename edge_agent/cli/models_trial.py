"""The process in which `models verify` runs a package: what it does wrong, it does here.

    python -m edge_agent.cli.models_trial     one order as JSON on stdin, a line a check on stdout

A model that crashes its runtime, allocates without end or never returns takes this process along
and nothing else; the lines before say how far it came. Writes no file, opens no network.
"""

from __future__ import annotations

import os
import resource
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from edge_agent import backends
from edge_agent.core import golden
from edge_agent.core.errors import EdgeAgentError, Rejected
from edge_agent.core.golden import Gap, Sample
from edge_agent.core.manifest import Manifest, VariantSpec
from edge_agent.ports import Bound
from edge_agent.stores.files import open_plain

NICE = 10
MAX_GOLDEN_BYTES = 512 << 20  # of all samples, unpacked
BACKEND: Literal["onnx"] = (
    "onnx"  # what runs everywhere; others are tried when they are installed (rollouts)
)

Status = Literal["begun", "pass", "warn", "fail", "skip"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    folder: str
    manifest: Manifest
    memory_bytes: int
    cpu_s: int


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """begun: what comes next; whoever hears no end of it knows where this process died."""

    check: str
    status: Status
    what: str = ""
    fix: str = ""


def confine(order: Order) -> None:
    """Of this process, before anything of the package is read."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (order.cpu_s, order.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (order.memory_bytes, order.memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def work(order: Order) -> Iterator[Line]:
    for variant in order.manifest.variants:
        if BACKEND not in variant.backends:
            why = f"only for {', '.join(variant.backends)}, which is not run here"
            yield Line(check=f"run {variant.name}", status="skip", what=why)
            continue
        yield from _tried(f"run {variant.name}", order, variant)


def _tried(check: str, order: Order, variant: VariantSpec) -> Iterator[Line]:
    yield Line(check=check, status="begun", what="loading it")
    try:
        one = msgspec.structs.replace(order.manifest, variants=(variant,))
        session = backends.make(BACKEND).load(Path(order.folder), one)
        bound = session.bind()
        yield Line(check=check, status="begun", what="reading its golden samples")
        samples = read_golden(Path(order.folder) / variant.golden)
        yield Line(check=check, status="begun", what="running its golden samples")
        gaps = [_compared(bound, sample, number, one) for number, sample in enumerate(samples)]
    except EdgeAgentError as wrong:
        yield Line(check=check, status="fail", what=wrong.what, fix=wrong.hint)
        return
    except MemoryError:
        bound_mb = order.memory_bytes >> 20
        yield Line(check=check, status="fail", fix="export a smaller variant, or --memory-mb",
                   what=f"expected at most {bound_mb} MB of memory, it wanted more")  # fmt: skip
        return
    yield _verdict(check, gaps)


def read_golden(path: Path) -> list[Sample]:
    """Raises: Rejected, also for a small file that unpacks to a large one."""
    title = f"read golden samples {path.name}"
    try:
        with open_plain(path) as file:
            with zipfile.ZipFile(file) as archive:
                total = sum(entry.file_size for entry in archive.infolist())
            if total > MAX_GOLDEN_BYTES:
                raise Rejected(
                    f"{title}: expected at most {MAX_GOLDEN_BYTES} bytes when unpacked, "
                    f"got {total}",
                    hint="fewer or smaller samples",
                )
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return golden.samples(arrays, path.name)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Rejected(f"{title}: {error}", hint="pack the model again") from error


def _compared(bound: Bound, sample: Sample, number: int, manifest: Manifest) -> Gap:
    """Raises: Rejected, BadFrame."""
    wanted = bound.input_pixels.shape
    if sample.fed.shape != wanted:
        raise Rejected(
            f"golden sample {number}: expected input {list(wanted)}, got {list(sample.fed.shape)}",
            hint="pack the model again",
        )
    bound.reset_state()
    bound.input_pixels[...] = sample.fed
    return golden.widest_gap(sample, bound.run(), manifest.variants[0], manifest.heads)


def _verdict(check: str, gaps: list[Gap]) -> Line:
    worst = max(gaps, key=lambda gap: gap.difference / gap.tolerance)
    words = f"{worst.output} differs by {worst.difference:.3g}, allowed {worst.tolerance:g}"
    if not worst.within:
        fix = "this runtime computes it otherwise: export again, or allow more"
        return Line(check=check, status="fail", what=f"golden samples: {words}", fix=fix)
    if not worst.output:
        return Line(check=check, status="warn", what="its golden samples hold no outputs",
                    fix="pack it again: python -m tools.hot_tier pack")  # fmt: skip
    return Line(check=check, status="pass", what=f"{len(gaps)} golden samples; {words}")


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    confine(order)
    for line in work(order):
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
