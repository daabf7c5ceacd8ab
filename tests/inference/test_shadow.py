"""A candidate beside the live model: counted, never shown, never in the way, whatever it does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.backends.onnx import OnnxBackend, OnnxBound, OnnxSession
from edge_agent.core.errors import BadFrame, BadPackage, Overloaded
from edge_agent.core.frames import Frame
from edge_agent.core.manifest import Manifest
from edge_agent.core.trial import Probation, ShadowCounts
from edge_agent.host import SystemClock
from edge_agent.inference import models as verbs
from edge_agent.inference import shadow as room
from edge_agent.inference.interpret import Findings
from edge_agent.inference.proof import of_running
from edge_agent.inference.seats import Run, Seat, Shelf, StreamOptions
from edge_agent.inference.shadow import Looked
from edge_agent.inference.shadows import Shadows
from edge_agent.orders import ModelRef
from tests.inference.side import Refused, Side, order, ref, running_side
from tests.inference.test_models import assert_no_frame_is_missing, load, shadow_counts
from tests.tiny import write_package

VERSIONS = {
    "1.0.0": "", "1.1.0": "", "2.0.0": "slow", "3.0.0": "forever", "4.0.0": "nan-live",
    "5.0.0": "labels", "6.0.0": "wrong-input", "7.0.0": "always", "8.0.0": "nan",
}  # fmt: skip
NOTHING = np.zeros((4, 4), np.uint8)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for version, fault in VERSIONS.items():
        write_package(root, version=version, fault=fault)
    return root / "tiny"


@pytest.fixture
def side(packages: Path) -> Iterator[Side]:
    """One stream, `a`, on tiny 1.0.0."""
    with running_side() as side:
        side.configure(order("a", ref(packages / "1.0.0")))
        side.more(5)
        yield side


def begin(side: Side, candidate: ModelRef) -> None:
    load(side, candidate)
    side.ask("shadow", model="tiny", sha=candidate.sha, every=1)


def seen_by(side: Side, candidate: ModelRef) -> ShadowCounts:
    return shadow_counts(side, candidate)["a"]


def shadow_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("shadow-")]


def test_a_slow_shadow_misses_frames_and_the_live_model_none(packages: Path, side: Side) -> None:
    slow = ref(packages / "2.0.0")
    begin(side, slow)
    side.until(lambda: seen_by(side, slow).frames >= 20, "the shadow has seen something")
    counts = seen_by(side, slow)
    assert counts.late > 0, "200 fps are too many for it"
    assert counts.infer_us_p50 > 3 * counts.live_us_p50
    assert counts.agreement > 0.9
    assert_no_frame_is_missing(side.drain())


def test_a_shadow_that_never_returns_is_told_and_let_go(
    packages: Path, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HANG_LEAST_US", 500_000)  # of its own time, on a machine shared
    monkeypatch.setattr(room, "HANG_BUDGETS", 5)
    endless, well = ref(packages / "3.0.0"), ref(packages / "1.1.0")
    begin(side, endless)
    side.until(lambda: any(e.get("code") == "shadow-hung" for e in side.events), "it is told")
    counts = seen_by(side, endless)
    assert counts.hung
    assert "no answer within" in counts.problem
    (words,) = [e for e in side.events if e.get("code") == "shadow-hung"]
    assert words["stream"] == "a"
    side.until(lambda: not shadow_threads(), "asked to end between two operators, it does")
    side.ask("unload", model="tiny", sha=endless.sha)
    begin(side, well)
    side.until(lambda: seen_by(side, well).frames >= 5, "the next candidate has its chance")
    assert_no_frame_is_missing(side.drain())
    assert {r.version for r in side.results} == {"1.0.0"}


@pytest.mark.parametrize("version", ["4.0.0", "8.0.0"])
def test_nan_of_a_shadow_is_counted_and_costs_no_frame(
    packages: Path, side: Side, version: str
) -> None:
    bad = ref(packages / version)
    begin(side, bad)
    side.until(lambda: seen_by(side, bad).nan >= 3, "NaN is counted")
    counts = seen_by(side, bad)
    assert counts.frames == counts.errors == 0
    assert "nan" in counts.problem
    assert_no_frame_is_missing(side.drain())
    assert side.taps["a"].totals().errors == 0
    assert not [e for e in side.events if e.get("code") == "bad-result"]


@pytest.mark.parametrize(
    ("version", "why"), [("5.0.0", r"missing \['dark'\], new \['shade'\]"), ("6.0.0", "manifest")]
)
def test_a_candidate_that_breaks_the_contract_is_refused_at_its_load(
    packages: Path, side: Side, version: str, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        load(side, ref(packages / version))
    side.more(10)
    assert_no_frame_is_missing(side.drain())


def test_a_candidate_that_never_ends_its_first_run_is_refused(
    packages: Path, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verbs, "WARM_LIMIT_S", 0.3)
    with pytest.raises(Refused, match=r"warm up tiny.*(terminate|it had a core for)"):
        load(side, ref(packages / "7.0.0"))
    side.more(10)
    assert_no_frame_is_missing(side.drain())


def test_one_that_was_stopped_within_a_run_is_not_taken_for_hung(
    packages: Path, side: Side
) -> None:
    """The next candidate came at once, and was refused for it."""
    one, other = ref(packages / "1.1.0"), ref(packages / "2.0.0")
    load(side, one)
    load(side, other)
    for _ in range(10):
        for candidate in (other, one):
            side.ask("shadow", model="tiny", sha=candidate.sha, every=1)
            side.more(2)
    assert_no_frame_is_missing(side.drain())


def test_a_level_sheds_the_shadow_first(packages: Path, side: Side) -> None:
    well = ref(packages / "1.1.0")
    begin(side, well)
    side.until(lambda: seen_by(side, well).frames >= 5, "it runs")
    side.ask("level", level=1)
    side.until(lambda: side.drain()[-1].level == 1, "the level is there")
    before = seen_by(side, well)
    side.more(30)
    after = seen_by(side, well)
    assert after.frames <= before.frames + 2, "one in its work, one in its slot"
    assert after.late >= before.late + 20


def test_on_trial_the_version_before_looks_on_and_figures_tell_of_both(
    packages: Path, side: Side
) -> None:
    old, new = ref(packages / "1.0.0"), ref(packages / "1.1.0")
    load(side, new)
    side.more(20)
    side.ask("swap", model="tiny", sha=new.sha, trial=True)
    side.ask("shadow", model="tiny", sha=old.sha, every=2)

    def figures() -> Probation:
        words = side.ask("figures", model="tiny")["counts"]
        return msgspec.convert(words, dict[str, Probation])["a"]

    side.until(lambda: (figures().beside or ShadowCounts()).frames >= 5, "it looks on")
    told = figures()
    assert (told.before.version, told.now.version) == ("1.0.0", "1.1.0")
    assert told.now.trial
    assert not told.before.trial
    assert told.before.results >= 20
    assert told.beside is not None
    assert told.beside.agreement == 1.0
    assert side.ask("rollback", model="tiny") == {"streams": 1}
    assert figures().now.version == "1.0.0"
    assert figures().beside is None
    assert not side.ask("shadow", model="tiny", sha="", every=1)["counts"]


def test_one_trial_at_a_time(packages: Path, side: Side) -> None:
    """A second swap would have forgotten what the first one took over from."""
    new, other = ref(packages / "1.1.0"), ref(packages / "2.0.0")
    load(side, new)
    load(side, other)
    side.ask("swap", model="tiny", sha=new.sha, trial=True)
    with pytest.raises(Refused, match=r"version 1\.1\.0 is on trial"):
        side.ask("swap", model="tiny", sha=other.sha, trial=True)
    side.ask("commit", model="tiny")
    side.ask("swap", model="tiny", sha=other.sha, trial=True)


def test_a_stream_that_starts_during_a_trial_takes_part_in_it(packages: Path, side: Side) -> None:
    old, new = ref(packages / "1.0.0"), ref(packages / "1.1.0")
    load(side, new)
    side.configure(order("a", old), order("b", old))
    told = side.ask("swap", model="tiny", sha=new.sha, trial=True)
    assert told["streams"] == 2, "also of a stream that came after the load"
    side.configure(order("a", old), order("b", old), order("c", old))
    side.until(lambda: any(r.stream == "c" for r in side.drain()), "results of c")
    assert {(r.version, "trial" in r.flags) for r in side.results if r.stream == "c"} == {
        ("1.1.0", True)
    }
    assert side.ask("rollback", model="tiny") == {"streams": 3}
    count = len(side.drain())
    side.until(lambda: {r.stream for r in side.drain()[count + 9 :]} == set("abc"), "all go on")
    assert {r.version for r in side.results[-3:]} == {"1.0.0"}


# ── a run that can't even be asked to end ─────────────────────────────────────────────────────


class Stubborn(OnnxBackend):
    """ONNX Runtime whose runs do not come back until they are released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> OnnxSession:
        session = super().load(folder, manifest, sha, file=file)
        session.bind = lambda: Deaf(session, self.release, manifest)  # type: ignore[method-assign]
        return session


class Deaf(OnnxBound):
    def __init__(self, session: OnnxSession, release: threading.Event, manifest: Manifest) -> None:
        super().__init__(session._vendor, session._session, manifest)
        self._release = release

    def run(self) -> Mapping[str, NDArray[Any]]:
        assert self._release.wait(20)
        return super().run()


def test_a_run_that_is_deaf_is_borne_once_and_offering_to_it_never_waits(
    packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "HANG_LEAST_US", 100_000)
    monkeypatch.setattr(room, "HANG_BUDGETS", 0)
    backend, model = Stubborn(), ref(packages / "1.0.0")
    loaded = Shelf(backend).load(model.folder, model.sha)
    options = StreamOptions(tracking=True, contours=True)
    run = Run(stream="a", index=0, ref=model, seat=Seat(loaded, model.options, options), rank=2)
    clock = SystemClock()
    shadows = Shadows(clock, lambda: True)

    class OnlyName:
        name, options = "a", StreamOptions(tracking=True, contours=True)

    runs: Any = [(run, OnlyName())]
    shadows.start("tiny", loaded, runs, 1)
    shadow = run.shadow
    assert shadow is not None
    since = time.monotonic()
    for number in range(10_000):
        frame = Frame(number=number, captured_us=number, pixels=NOTHING)
        shadow.offer(Looked(frame, number, 1, Findings(), 1.0))
    assert time.monotonic() - since < 5.0
    assert shadows.watch(clock.boot_us(), lambda _: runs) == [], "seen, and given its time"
    time.sleep(0.15)
    ((hung, model_name),) = shadows.watch(clock.boot_us(), lambda _: runs)
    assert (hung.stream, model_name) == ("a", "tiny")
    assert run.shadow is None
    assert shadows.watch(clock.boot_us(), lambda _: runs) == [], "told once"
    assert shadows.counts("tiny")["a"].hung
    with pytest.raises(Overloaded, match="never came back"):
        shadows.start("tiny", loaded, runs, 1)
    backend.release.set()
    shadows.end()
    assert not shadow_threads()
    shadows.start("tiny", loaded, runs, 1)
    shadows.end()


# ── a machine that is loaded by others ────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("words", "ran_s", "blamed"),
    [
        ("an operator failed", 10.0, BadPackage),
        ("Exiting due to terminate flag", 9.0, BadPackage),
        ("Exiting due to terminate flag", 1.0, Overloaded),
        ("Failed to allocate memory for requested buffer", 10.0, Overloaded),
    ],
)
def test_who_is_to_blame_for_a_first_run_that_failed(
    words: str, ran_s: float, blamed: type[Exception]
) -> None:
    told = of_running("warm up tiny", BadFrame(words), ran_s)
    assert type(told) is blamed
    assert told.hint or blamed is BadPackage


@contextmanager
def hogs_on(cpu: int, count: int) -> Iterator[None]:
    """Others that never rest, in sessions of their own, on one core."""
    words = ["taskset", "-c", str(cpu), sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(words, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_shadow_that_is_starved_by_others_is_late_and_not_hung(
    packages: Path, side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the lowest priority of all; its run took its seconds, and the package was blamed."""
    monkeypatch.setattr(room, "HANG_LEAST_US", 300_000)
    monkeypatch.setattr(room, "HANG_BUDGETS", 0)
    slow = ref(packages / "2.0.0")
    begin(side, slow)
    side.until(lambda: seen_by(side, slow).frames >= 3, "it runs")
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("shadow-")]
    assert thread.native_id is not None
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(thread.native_id, {cpu})
    os.sched_setscheduler(thread.native_id, os.SCHED_IDLE, os.sched_param(0))
    before = seen_by(side, slow)
    with hogs_on(cpu, 2):
        side.until(lambda: seen_by(side, slow).late > before.late + 400, "two seconds of frames")
        counts = seen_by(side, slow)
    assert not counts.hung
    assert counts.errors == 0
    side.until(lambda: seen_by(side, slow).frames > counts.frames + 3, "it goes on")
    assert not [e for e in side.events if e.get("code") == "shadow-hung"]
    assert_no_frame_is_missing(side.drain())
