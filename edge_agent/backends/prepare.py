"""Proves and prepares a candidate in a process of its own, before anything live gets to see it.

    python -m edge_agent.backends.prepare        one order as JSON on stdin, one answer on stdout

It is niced, has bounds of memory, of time on a core and on the clock, and is the first to go when
memory runs out: a model that crashes its runtime, allocates without end or never returns does it
here. It optimises the package's file into `engines`, runs the golden samples on the product, and
says how far off they are. Reads the package, writes one file, opens no network.

`BadPackage` is what the candidate did with what it was given. A process that somebody ended, that
had no core, or no memory because the machine has none, says nothing about the candidate.
"""

from __future__ import annotations

import ctypes
import lzma
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from edge_agent import backends
from edge_agent.backends.engines import sweep
from edge_agent.core import blame
from edge_agent.core.errors import (
    BadFrame,
    BadPackage,
    Damaged,
    EdgeAgentError,
    Overloaded,
    Rejected,
    fault_of,
    of_system,
    raised_again,
)
from edge_agent.core.golden import Gap, samples, widest_gap
from edge_agent.core.manifest import Manifest, VariantSpec, variant_for
from edge_agent.core.package import names_of
from edge_agent.held import Held, hold
from edge_agent.ports import Backend, Bound, Session

NICE = 10
PR_SET_PDEATHSIG = 1
MAX_ANSWER_BYTES = 1 << 20
MAX_WORDS = 300  # characters of what a process that failed said last
TIMED_RUNS = 10
CRASHES: Final = (
    signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP,
    signal.SIGSYS, signal.SIGXCPU,
)  # fmt: skip
"""What a process does to itself. Any other signal is somebody's: the kernel's, an operator's."""
UNREADABLE: Final = (
    ValueError, KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip
"""What reading golden samples ends in when they are none."""


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
    parent: int = 0  # who asked; 0: nobody to die with


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    prepared: Prepared | None = None
    error: str = ""
    hint: str = ""
    fault: str = ""


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

    Raises: BadPackage with what the candidate did wrong; Overloaded, Damaged, ConfigError when it
    had no fair trial.
    """
    title = f"prepare {manifest.name} {manifest.version}"
    try:
        engines.mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(engines)
        bounds = _bounded(bounds or Bounds(), folder, manifest)
    except OSError as error:
        raise of_system(title, error) from error
    order = Order(
        folder=str(folder), manifest=manifest, sha=sha, engines=str(engines), backend=backend,
        threads=threads, bounds=bounds, parent=os.getpid(),
    )  # fmt: skip
    return _read(title, bounds, *_run(title, order))


def _bounded(bounds: Bounds, folder: Path, manifest: Manifest) -> Bounds:
    if bounds.memory_bytes:
        return bounds
    files = [folder / variant.file for variant in manifest.variants]
    largest = max((path.stat().st_size for path in files if path.exists()), default=0)
    return msgspec.structs.replace(bounds, memory_bytes=max(1 << 30, (512 << 20) + 8 * largest))


def _run(title: str, order: Order) -> tuple[int, bytes, bytes]:
    """How the process ended, what it answered and what it said.

    Raises: BadPackage, Overloaded, Damaged.
    """
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.backends.prepare"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise of_system(f"{title}: start its process", error) from error
    with process:
        try:
            told, said = process.communicate(msgspec.json.encode(order), order.bounds.wall_s)
        except subprocess.TimeoutExpired:
            spent = _spent(process.pid)
            process.kill()
            process.communicate()
            raise _too_long(title, order.bounds.wall_s, spent) from None
        except BaseException:
            process.kill()
            raise
    return process.returncode, told, said


def _spent(pid: int) -> blame.Spent:
    """Of all its threads, while it still lives."""
    tasks = []
    try:
        found = [*Path(f"/proc/{pid}/task").iterdir()]
    except OSError:  # it has ended, or there is no descriptor left
        found = []
    for task in found:
        try:
            stat = (task / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        try:
            schedstat = (task / "schedstat").read_text(encoding="ascii")
        except OSError:
            schedstat = ""
        tasks.append((schedstat, stat))
    return blame.spent_of(tasks)


def _too_long(title: str, wall_s: float, spent: blame.Spent) -> EdgeAgentError:
    """The package's fault where most of the time was its own."""
    what = f"{title}: not done within {wall_s:g} s"
    if 2 * spent.own_us(wall_s * 1e6) >= wall_s * 1e6:
        return BadPackage(
            what, hint="the model never returns, or is far too large for this machine"
        )
    return Overloaded(
        f"{what}, of which it had a core for {spent.ran_us / 1e6:.1f} s",
        hint="stop what else runs here, or raise rollouts.proof_s",
    )


def _read(title: str, bounds: Bounds, code: int, told: bytes, said: bytes) -> Prepared:
    """Raises: BadPackage, Overloaded, Damaged, ConfigError."""
    try:
        answer = msgspec.json.decode(told[:MAX_ANSWER_BYTES], type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answer = Answer()
    if answer.prepared is not None and code == 0:
        return answer.prepared
    if answer.error:
        hint = answer.hint or "check the model with golden samples"
        raise raised_again(answer.fault, answer.error, hint)
    raise _of_end(f"{title}: its process {_ended(code)}{_last_words(said)}", bounds, code)


def _of_end(what: str, bounds: Bounds, code: int) -> EdgeAgentError:
    """Of a process that ended without an answer."""
    if code >= 0:  # an error that nobody thought of: a bug, or a part of the agent is missing
        return Damaged(what, hint="journalctl -u edge-agent -n 50; is the agent installed whole?")
    if -code not in CRASHES:
        return Overloaded(what, hint="somebody ended it, or memory is short: dmesg")
    if blame.is_of_memory(what):
        return _out_of_memory(what, bounds, _free_bytes())
    return BadPackage(what, hint="check the model with golden samples")


def _out_of_memory(what: str, bounds: Bounds, free_bytes: int) -> EdgeAgentError:
    """free_bytes: what it could have had of this machine."""
    if free_bytes < bounds.memory_bytes:
        return Overloaded(
            f"{what}: expected {bounds.memory_bytes >> 20} MB of free memory on this machine, got "
            f"{free_bytes >> 20} MB",
            hint="stop what else runs here, or lower rollouts.proof_memory_bytes",
        )
    return BadPackage(
        f"{what}: expected at most {bounds.memory_bytes >> 20} MB of memory, it wanted more",
        hint="export a smaller variant",
    )


def _free_bytes() -> int:
    """Of memory, as the kernel reckons it; 0 where it does not say: then nothing is proven."""
    try:
        return blame.free_bytes_of(Path("/proc/meminfo").read_text(encoding="ascii")) or 0
    except (OSError, ValueError):
        return 0


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


def confine(bounds: Bounds, parent: int = 0) -> None:
    """Of this process, before anything of the candidate is read. It dies with who asked for it."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent and os.getppid() != parent:  # it died before the call, with the order on its way
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a run of native code would not hear Python's
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, bounds.cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_DATA, (bounds.memory_bytes, bounds.memory_bytes))
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        return  # no such file here; the bound of memory stays


def work(order: Order) -> Prepared:
    """Raises: Rejected, BadFrame, Overloaded, Damaged, ConfigError, OSError, MemoryError."""
    folder, engines, manifest = Path(order.folder), Path(order.engines), order.manifest
    backend = backends.make(order.backend, threads=order.threads, engines=engines)
    wanted = variant_for(manifest, backend.name)
    keep = {wanted.file, wanted.golden} if wanted else set()
    with hold(folder, names_of(manifest), keep) as held:
        if held.sha != order.sha:
            raise Damaged(
                f"prepare {manifest.name} {manifest.version}: expected sha256 {order.sha[:16]}, "
                f"got {held.sha[:16]}",
                hint="reinstall it; check the disk (dmesg)", healable=True,
            )  # fmt: skip
        return _made(backend, order, held, held.path(wanted.file) if wanted else None)


def _made(backend: Backend, order: Order, held: Held, file: Path | None) -> Prepared:
    """file: of its variant, as it was hashed."""
    manifest, since_s = order.manifest, time.monotonic()
    engine = _engine(backend, order, file)
    session = backend.load(Path(order.folder), manifest, order.sha, file=file)
    build_ms = (time.monotonic() - since_s) * 1000
    variant = next(one for one in manifest.variants if one.name == session.variant)
    told = golden(session, held, manifest, variant)
    took_us = timed(session.bind())
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


def _engine(backend: Backend, order: Order, file: Path | None) -> Path | None:
    """Raises: Rejected, Overloaded when it could not be written."""
    folder = Path(order.folder)
    try:
        return backend.prepare(folder, order.manifest, order.sha, file=file)
    except Rejected as wrong:  # runtimes say the same of a file they can't read or can't write
        if blame.is_of_memory(wrong.what) or not _loads(backend, order, file):
            raise
        raise Overloaded(wrong.what, hint="make room on the disk of state_dir") from wrong


def _loads(backend: Backend, order: Order, file: Path | None) -> bool:
    """Whether the package's own file can be used as it is."""
    try:
        backend.load(Path(order.folder), order.manifest, file=file).close()
    except Rejected:
        return False
    return True


def golden(session: Session, held: Held, manifest: Manifest, variant: VariantSpec) -> Golden:
    """Raises: Rejected when an output differs by more than its tolerance, BadFrame, OSError."""
    title = f"golden samples of {manifest.name} {manifest.version} ({variant.name})"
    bound, worst = session.bind(), Gap("", 0.0, 1.0)
    try:
        with np.load(held.path(variant.golden), allow_pickle=False) as arrays:
            found = samples({name: arrays[name] for name in arrays.files}, variant.golden)
    except UNREADABLE as error:
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
        gap = widest_gap(sample, bound.run(), variant, manifest.heads)
        worst = max(worst, gap, key=lambda one: one.difference / one.tolerance)
    if not worst.within:
        raise Rejected(
            f"{title}: {worst.output}: expected within {worst.tolerance:g}, "
            f"got {worst.difference:.4g}",
            hint="the runtime here computes it otherwise: export the model again; do not run it",
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


def blamed(order: Order, wrong: EdgeAgentError) -> EdgeAgentError:
    """What the candidate is told of, as whose fault it is."""
    title = f"prepare {order.manifest.name} {order.manifest.version}"
    if not isinstance(wrong, (Rejected, BadFrame)):
        return wrong
    what = f"{title}: {wrong.what}" if isinstance(wrong, BadFrame) else wrong.what
    if blame.is_of_memory(what):
        return _out_of_memory(what, order.bounds, _reach_bytes())
    return BadPackage(what, hint=wrong.hint)


def _reach_bytes() -> int:
    """The memory that this process could have had, but for its own bound."""
    held_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    limit_bytes = resource.getrlimit(resource.RLIMIT_AS)[0]
    found = _free_bytes() + held_bytes
    return found if limit_bytes == resource.RLIM_INFINITY else min(found, limit_bytes)


def answer(order: Order) -> Answer:
    """Of what was asked, whatever comes of it."""
    title = f"prepare {order.manifest.name} {order.manifest.version}"
    try:
        try:
            return Answer(prepared=work(order))
        except EdgeAgentError as wrong:
            found = blamed(order, wrong)
    except MemoryError:
        found = _out_of_memory(title, order.bounds, _reach_bytes())
    except OSError as error:
        found = of_system(title, error)
    return Answer(error=found.what, hint=found.hint, fault=fault_of(found))


def main() -> int:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    confine(order.bounds, order.parent)
    told = answer(order)
    sys.stdout.buffer.write(msgspec.json.encode(told))
    return 0 if told.prepared is not None else 1


if __name__ == "__main__":
    sys.exit(main())
