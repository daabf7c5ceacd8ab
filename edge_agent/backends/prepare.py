"""Proves and prepares a candidate in a process of its own, before anything live gets to see it.

    python -m edge_agent.backends.prepare        one order as JSON on stdin, one answer on stdout

It is niced, has bounds of memory, of time on a core and on the clock, and is the first to go when
memory runs out: a model that crashes its runtime, allocates without end or never returns does it
here. It optimises the package's file into `engines`, runs the golden samples on the product, and
says how far off they are. Reads the package, writes one file, opens no network.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from edge_agent import backends
from edge_agent.backends.engines import sweep
from edge_agent.core.errors import BadFrame, EdgeAgentError, Rejected
from edge_agent.core.golden import Gap, samples, widest_gap
from edge_agent.core.manifest import Manifest, VariantSpec
from edge_agent.ports import Bound, Session

NICE = 10
PR_SET_PDEATHSIG = 1
MAX_ANSWER_BYTES = 1 << 20
MAX_WORDS = 300  # characters of what a process that failed said last
TIMED_RUNS = 10


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """memory_bytes 0: by the size of the file, at least a gigabyte."""

    wall_s: float = 600.0
    cpu_s: int = 600
    memory_bytes: int = 0


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. engine: name of the file in `engines`, "" when the backend keeps none.

    golden_difference: the largest, of all samples and outputs. infer_us_p50: on the clock, alone.
    """

    variant: str = ""
    runtime: str = ""
    engine: str = ""
    engine_bytes: int = 0
    build_ms: float = 0.0
    golden_samples: int = 0
    golden_difference: float = 0.0
    golden_tolerance: float = 0.0
    infer_us_p50: float = 0.0


class Golden(NamedTuple):
    """difference, tolerance: of the output that is furthest off, by its own tolerance."""

    samples: int
    difference: float
    tolerance: float


class Order(msgspec.Struct, frozen=True, kw_only=True):
    folder: str
    manifest: Manifest
    sha: str
    engines: str
    backend: Literal["auto", "onnx", "tensorrt"]
    threads: int
    bounds: Bounds


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    prepared: Prepared | None = None
    error: str = ""
    hint: str = ""


def prepare(
    folder: Path,
    manifest: Manifest,
    sha: str,
    engines: Path,
    *,
    backend: Literal["auto", "onnx", "tensorrt"] = "auto",
    threads: int = 1,
    bounds: Bounds | None = None,
) -> Prepared:
    """Blocks until the process has ended; call it where that disturbs nobody, one at a time.

    folder: of the unpacked package. sha: its id. engines: where prepared files are kept.

    Raises: Rejected with what the candidate did wrong; OSError when no process can be started.
    """
    engines.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(engines)
    bounds = _bounded(bounds or Bounds(), folder, manifest)
    order = Order(
        folder=str(folder), manifest=manifest, sha=sha, engines=str(engines), backend=backend,
        threads=threads, bounds=bounds,
    )  # fmt: skip
    title = f"prepare {manifest.name} {manifest.version}"
    with subprocess.Popen(
        [sys.executable, "-m", "edge_agent.backends.prepare"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            told, said = process.communicate(msgspec.json.encode(order), bounds.wall_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Rejected(
                f"{title}: not done within {bounds.wall_s:g} s",
                hint="the model never returns, or is far too large for this machine",
            ) from None
        except BaseException:
            process.kill()
            raise
    return _read(title, process.returncode, told, said)


def _bounded(bounds: Bounds, folder: Path, manifest: Manifest) -> Bounds:
    if bounds.memory_bytes:
        return bounds
    files = [folder / variant.file for variant in manifest.variants]
    largest = max((path.stat().st_size for path in files if path.exists()), default=0)
    return msgspec.structs.replace(bounds, memory_bytes=max(1 << 30, (512 << 20) + 8 * largest))


def _read(title: str, code: int, told: bytes, said: bytes) -> Prepared:
    try:
        answer = msgspec.json.decode(told[:MAX_ANSWER_BYTES], type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answer = Answer(error=f"{title}: its process {_ended(code)}{_last_words(said)}")
    if answer.prepared is not None and code == 0:
        return answer.prepared
    raise Rejected(answer.error or f"{title}: its process {_ended(code)}",
                   hint=answer.hint or "check the model with golden samples")  # fmt: skip


def _ended(code: int) -> str:
    """As people say it: a signal is a crash, or a bound."""
    if code >= 0:
        return f"ended with exit {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    return f"was ended by {name}" + (" (time on a core)" if name == "SIGXCPU" else "")


def _last_words(said: bytes) -> str:
    lines = said.decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:MAX_WORDS]}" if lines else ""


# ── in the process ────────────────────────────────────────────────────────────────────────────


def confine(bounds: Bounds) -> None:
    """Of this process, before anything of the candidate is read. It dies with who asked for it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, bounds.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (bounds.memory_bytes, bounds.memory_bytes))
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return  # no such file here; the bound of memory stays


def work(order: Order) -> Prepared:
    """Raises: Rejected."""
    folder, engines, manifest = Path(order.folder), Path(order.engines), order.manifest
    title = f"prepare {manifest.name} {manifest.version}"
    backend = backends.make(order.backend, threads=order.threads, engines=engines)
    since_s = time.monotonic()
    engine = backend.prepare(folder, manifest, order.sha)
    session = backend.load(folder, manifest, order.sha)
    build_ms = (time.monotonic() - since_s) * 1000
    variant = next(one for one in manifest.variants if one.name == session.variant)
    try:
        told = golden(session, folder, manifest, variant)
        took_us = timed(session.bind())
    except BadFrame as bad:
        raise Rejected(f"{title}: {bad.what}", hint=bad.hint) from bad
    return Prepared(
        variant=variant.name,
        runtime=backend.runtime(),
        engine=engine.name if engine else "",
        engine_bytes=engine.stat().st_size if engine else 0,
        build_ms=round(build_ms, 1),
        golden_samples=told.samples,
        golden_difference=told.difference,
        golden_tolerance=told.tolerance,
        infer_us_p50=took_us,
    )


def golden(session: Session, folder: Path, manifest: Manifest, variant: VariantSpec) -> Golden:
    """Raises: Rejected when an output differs by more than its tolerance, BadFrame."""
    title = f"golden samples of {manifest.name} {manifest.version} ({variant.name})"
    bound, worst = session.bind(), Gap("", 0.0, 1.0)
    try:
        with np.load(folder / variant.golden, allow_pickle=False) as held:
            found = samples({name: held[name] for name in held.files}, variant.golden)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise Rejected(f"{title}: {error}", hint="pack the model again") from error
    for sample in found:
        if sample.fed.shape != bound.input_pixels.shape:
            raise Rejected(
                f"{title}: expected inputs {list(bound.input_pixels.shape)}, got "
                f"{list(sample.fed.shape)}",
                hint="pack the model again",
            )
        bound.reset_state()
        bound.input_pixels[...] = sample.fed
        gap = widest_gap(sample, bound.run(), variant)
        worst = max(worst, gap, key=lambda one: one.difference / one.tolerance)
    if not worst.within:
        raise Rejected(
            f"{title}: {worst.output}: expected within {worst.tolerance:g}, "
            f"got {worst.difference:.4g}",
            hint="the runtime here computes it otherwise: raise the tolerance or export again",
        )
    return Golden(len(found), worst.difference, worst.tolerance)


def timed(bound: Bound) -> float:
    """The median of a few runs, in us, warm."""
    took = []
    for _ in range(TIMED_RUNS):
        since = time.perf_counter_ns()
        bound.run()
        took.append((time.perf_counter_ns() - since) / 1000)
    return round(sorted(took)[len(took) // 2], 1)


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    confine(order.bounds)
    try:
        answer = Answer(prepared=work(order))
    except MemoryError:
        answer = Answer(
            error=f"prepare {order.manifest.name} {order.manifest.version}: expected at most "
            f"{order.bounds.memory_bytes >> 20} MB of memory, it wanted more",
            hint="export a smaller variant",
        )
    except EdgeAgentError as wrong:
        answer = Answer(error=wrong.what, hint=wrong.hint)
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0 if answer.prepared is not None else 1


if __name__ == "__main__":
    sys.exit(main())
