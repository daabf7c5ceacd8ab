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
from edge_agent.core.package import names_of
from edge_agent.held import Held, hold
from edge_agent.inference.proof import REINSTALL, UNREADABLE
from edge_agent.ports import Bound

NICE = 10
MAX_GOLDEN_BYTES = 512 << 20  # of all samples, unpacked
BACKEND: Literal["onnx"] = (
    "onnx"  # what runs everywhere; others are tried when they are installed (rollouts)
)

Status = Literal["begun", "pass", "warn", "fail", "skip"]


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """sha: of the package as it was looked at: nothing else is run."""

    folder: str
    manifest: Manifest
    sha: str
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


def held_of(order: Order) -> Held:
    """Of the package what is going to be run, as it is hashed.

    Raises: Rejected, Damaged, Overloaded.
    """
    runs = [one for one in order.manifest.variants if BACKEND in one.backends]
    keep = {name for one in runs for name in (one.file, one.golden)}
    return hold(Path(order.folder), names_of(order.manifest), keep)


def work(order: Order, held: Held) -> Iterator[Line]:
    if held.sha != order.sha:
        yield Line(check="hash", status="fail", fix="reinstall it; check the disk (dmesg)",
                   what=f"expected {order.sha}, got {held.sha}")  # fmt: skip
        return
    for variant in order.manifest.variants:
        if BACKEND not in variant.backends:
            why = f"only for {', '.join(variant.backends)}, which is not run here"
            yield Line(check=f"run {variant.name}", status="skip", what=why)
            continue
        yield from _tried(f"run {variant.name}", order, variant, held)


def _tried(check: str, order: Order, variant: VariantSpec, held: Held) -> Iterator[Line]:
    yield Line(check=check, status="begun", what="loading it")
    try:
        one = msgspec.structs.replace(order.manifest, variants=(variant,))
        file = held.path(variant.file)
        session = backends.make(BACKEND).load(Path(order.folder), one, file=file)
        bound = session.bind()
        yield Line(check=check, status="begun", what="reading its golden samples")
        samples = read_golden(held, variant.golden)
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


def read_golden(held: Held, name: str) -> list[Sample]:
    """Raises: Rejected, also for a small file that unpacks to a large one."""
    title = f"read golden samples {name}"
    try:
        with held.open(name) as file:
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
                return golden.samples(arrays, name)
    except UNREADABLE as error:
        raise Rejected(f"{title}: {error}", hint=REINSTALL) from error


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
        what = f"damaged: it does not give its golden samples: {words}"
        return Line(check=check, status="fail", what=what, fix=REINSTALL)
    if not worst.output:
        return Line(check=check, status="warn", what="its golden samples hold no outputs",
                    fix="pack it again: python -m tools.hot_tier pack")  # fmt: skip
    return Line(check=check, status="pass", what=f"{len(gaps)} golden samples; {words}")


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        held = held_of(order)  # before the bounds: in its memory it is a file too
    except EdgeAgentError as wrong:
        say(Line(check="package", status="fail", what=wrong.what, fix=wrong.hint))
        return 0
    confine(order)
    for line in work(order, held):
        say(line)
    return 0


def say(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
