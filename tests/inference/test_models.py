"""Load, shadow, swap, commit, roll back and unload while frames flow: none lost, none doubled."""

from __future__ import annotations

import functools
import gc
import os
import threading
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent import backends, memory
from edge_agent.backends.onnx import OnnxBackend, OnnxSession
from edge_agent.core.errors import BadPackage, Damaged, EdgeAgentError, Overloaded, Rejected
from edge_agent.core.frames import Result
from edge_agent.core.manifest import Manifest
from edge_agent.core.trial import ShadowCounts
from edge_agent.host import SystemClock
from edge_agent.inference.models import ModelVerbs, warm_seat
from edge_agent.inference.seats import Run, Shelf
from edge_agent.inference.stream import Stream
from edge_agent.orders import ModelRef
from tests.inference.side import FAST, PACED, Refused, Side, order, ref, running_side
from tests.tiny import write_package


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny: 1.0.0, 1.1.0 just as good, 2.0.0 that sees nothing, 3.0.0 that is no model."""
    root = tmp_path_factory.mktemp("models")
    for version, fault in (("1.0.0", ""), ("1.1.0", ""), ("2.0.0", "blind"), ("3.0.0", "corrupt")):
        write_package(root, version=version, fault=fault)
    write_package(root, name="memory", version="1.0.0", fault="states")
    write_package(root, name="memory", version="1.1.0", fault="states")
    write_package(root, name="other", version="1.0.0")
    write_package(root, name="slow", version="1.0.0", fault="slow")
    return root


@pytest.fixture
def side() -> Iterator[Side]:
    with running_side() as side:
        yield side


def load(side: Side, candidate: ModelRef) -> None:
    side.ask("load", model=candidate.name, folder=candidate.folder, sha=candidate.sha)


def shadow_counts(side: Side, candidate: ModelRef, *, every: int = 1) -> dict[str, ShadowCounts]:
    words = side.ask("shadow", model=candidate.name, sha=candidate.sha, every=every)["counts"]
    return msgspec.convert(words, dict[str, ShadowCounts])


def assert_no_frame_is_missing(results: list[Result]) -> None:
    numbers = [result.frame for result in results]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_version_goes_live_between_two_frames_and_back(packages: Path, side: Side) -> None:
    old, new = ref(packages / "tiny" / "1.0.0"), ref(packages / "tiny" / "1.1.0")
    side.configure(order("a", old))
    side.more(20)
    load(side, new)
    side.more(20)
    told = side.ask("swap", model="tiny", sha=new.sha, trial=True)
    assert told == {"streams": 1, "previous": old.sha}
    side.more(20)
    side.ask("commit", model="tiny")
    side.more(20)
    load(side, old)
    side.ask("swap", model="tiny", sha=old.sha, trial=True)
    side.more(20)
    assert side.ask("rollback", model="tiny") == {"streams": 1}
    side.more(20)
    assert side.ask("rollback", model="tiny") == {"streams": 0}, "there is nothing left to go to"
    results = side.drain()
    assert_no_frame_is_missing(results)
    spells = [
        (version, [r.flags for r in group])
        for version, group in groupby(results, key=lambda r: r.version)
    ]
    assert [version for version, _ in spells] == ["1.0.0", "1.1.0", "1.0.0", "1.1.0"]
    for _, flags in spells:
        assert "state_reset" in flags[0]
        assert not any("state_reset" in later for later in flags[1:])
    trials = [["trial" in flag for flag in flags] for _, flags in spells]
    assert not any(trials[0])
    assert trials[1][0], "on trial from its first frame"
    assert not trials[1][-1], "until it is committed"
    assert all(trials[2])
    assert not any(trials[3])
    assert {r.sha for r in results if r.version == "1.1.0"} == {new.sha[:16]}


def test_the_shadow_is_counted_and_makes_no_record(packages: Path, side: Side) -> None:
    live = ref(packages / "tiny" / "1.0.0")
    side.configure(order("a", live))
    for version, agreed in (("1.1.0", 1.0), ("2.0.0", 0.0)):
        candidate = ref(packages / "tiny" / version)
        load(side, candidate)
        side.ask("shadow", model="tiny", sha=candidate.sha, every=2)
        side.more(40)
        seen = functools.partial(shadow_counts, side, candidate, every=2)
        side.until(lambda: seen()["a"].frames >= 10, "a shadow that finds its time")  # noqa: B023
        counts = seen()["a"]
        assert counts.agreement == agreed
        assert counts.errors == counts.nan == 0
        assert counts.evidence_frames + counts.both_empty == counts.frames
        assert counts.findings_live >= 10
        assert 10 <= counts.frames <= len(side.drain()) / 2 + 1
        side.ask("unload", model="tiny", sha=candidate.sha)
    assert {r.version for r in side.results} == {"1.0.0"}
    assert any(r.objects for r in side.results)
    assert_no_frame_is_missing(side.results)


def test_a_shadow_that_goes_live_starts_from_nothing(packages: Path, side: Side) -> None:
    old, new = ref(packages / "memory" / "1.0.0"), ref(packages / "memory" / "1.1.0")
    side.configure(order("a", old))
    side.more(6)
    load(side, new)
    side.ask("shadow", model="memory", sha=new.sha, every=3)
    side.more(9)
    side.ask("swap", model="memory", sha=new.sha)
    side.until(lambda: sum(r.version == "1.1.0" for r in side.drain()) >= 8, "new results")
    fresh = [r for r in side.results if r.version == "1.1.0"]
    assert "state_reset" in fresh[0].flags
    assert [r.frame - fresh[0].frame for r in fresh[:4]] == [0, 1, 2, 3], "four good runs from zero"
    assert fresh[4].frame - fresh[0].frame == 5, "and the fifth is bad"


def test_what_a_nan_fed_back_is_forgotten(packages: Path, side: Side) -> None:
    """Else one bad frame would make every later one bad."""
    side.configure(order("a", ref(packages / "memory" / "1.0.0")))
    side.more(12)
    numbers = [r.frame for r in side.drain()[:12]]
    assert numbers == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]
    assert ["state_reset" in r.flags for r in side.results[:12]] == [True, False, False, False] * 3
    assert side.taps["a"].totals().dropped["error"] >= 2


def test_states_are_zeroed_after_a_gap(packages: Path) -> None:
    source = {**PACED, "fault": "vanish", "fault_after_frames": 2, "fault_frames": 250}
    source["reopen_max_s"] = 0.3
    with running_side() as side:
        model = ref(packages / "memory" / "1.0.0")
        side.configure(order("a", model, source=source, queue="latest", deadline_ms=1000.0))
        side.until(lambda: any(r.captured_us - side.results[0].captured_us > 10**6
                               for r in side.drain()), "frames after the gap")  # fmt: skip
        after = next(r for r in side.results if r.captured_us - side.results[0].captured_us > 10**6)
        assert "state_reset" in after.flags


def test_a_candidate_that_is_no_model_is_refused_and_leaves_nothing(
    packages: Path, side: Side
) -> None:
    live, bad = ref(packages / "tiny" / "1.0.0"), ref(packages / "tiny" / "3.0.0")
    side.configure(order("a", live))
    side.more(5)
    with pytest.raises(Refused, match=r"load model tiny 3\.0\.0"):
        load(side, bad)
    side.ask("unload", model="tiny", sha=bad.sha)  # there is nothing to give up
    side.ask("shadow", model="tiny", sha="", every=1)
    for verb in ("swap", "shadow"):
        with pytest.raises(Refused, match="is not loaded"):
            side.ask(verb, model="tiny", sha=bad.sha)
    with pytest.raises(Refused, match="control verb 'dance'"):
        side.ask("dance")
    side.more(5)
    assert_no_frame_is_missing(side.drain())


def test_a_candidate_never_takes_the_memory_of_what_is_live(packages: Path) -> None:
    old, new = ref(packages / "tiny" / "1.0.0"), ref(packages / "tiny" / "1.1.0")
    free = [100 << 20]
    shelf = Shelf(backends.make(), lambda: free[0])
    free[0] = 1 << 20
    shelf.load(old.folder, old.sha)
    with pytest.raises(Overloaded, match="expected 64 MB of free memory, got 1 MB"):
        shelf.load(new.folder, new.sha)
    free[0] = 100 << 20
    shelf.load(new.folder, new.sha)


def open_sessions() -> int:
    """Only where no lane works: the collector shows tuples that another thread still builds."""
    gc.collect()
    return sum(
        isinstance(found, OnnxSession) and found._session is not None for found in gc.get_objects()
    )


def test_what_nobody_sits_on_is_given_back(packages: Path) -> None:
    before = open_sessions()
    old, new = ref(packages / "tiny" / "1.0.0"), ref(packages / "tiny" / "1.1.0")
    shelf = Shelf(backends.make())
    streams: list[Stream] = []
    verbs = ModelVerbs(shelf, lambda: streams, clock=SystemClock())
    for name in ("a", "b"):
        fd = memory.create(name)
        stream = Stream(order(name, old), fd)
        os.close(fd)
        seat = warm_seat(shelf.load(old.folder, old.sha), old, stream.options)
        stream.runs = [Run(stream=name, index=0, ref=old, seat=seat, rank=2)]
        streams.append(stream)
    del stream, seat
    assert open_sessions() == before + 1, "one session serves all streams of a model"
    assert verbs.load("tiny", new.folder, new.sha) == {"streams": 2, "version": "1.1.0"}
    assert open_sessions() == before + 2
    verbs.unload("tiny", new.sha)
    assert open_sessions() == before + 1
    verbs.load("tiny", new.folder, new.sha)
    assert verbs.swap("tiny", new.sha, trial=True)["streams"] == 2
    assert open_sessions() == before + 2, "the previous version stays while the trial goes on"
    verbs.commit("tiny")
    assert open_sessions() == before + 1
    streams.clear()
    verbs.tidy()
    assert open_sessions() == before


class Held(OnnxBackend):
    """ONNX Runtime that takes its time: a load goes on when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.loading = threading.Event()
        self.go_on = threading.Event()

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> OnnxSession:
        session = super().load(folder, manifest, sha, file=file)
        self.loading.set()
        assert self.go_on.wait(10)
        return session


def test_a_model_is_not_tidied_away_while_it_is_being_loaded(packages: Path) -> None:
    """A stream that stops meanwhile tidies; the loader then warmed a closed session."""
    held = Held()
    verbs = ModelVerbs(Shelf(held), list, clock=SystemClock())
    new = ref(packages / "tiny" / "1.1.0")
    loader = threading.Thread(target=verbs.load, args=("tiny", new.folder, new.sha))
    loader.start()
    assert held.loading.wait(10)
    tidier = threading.Thread(target=verbs.tidy)
    tidier.start()
    held.go_on.set()
    tidier.join(10)
    loader.join(10)
    assert not loader.is_alive()
    assert not tidier.is_alive()
    assert verbs.swap("tiny", new.sha, trial=False)["streams"] == 0


def test_a_loader_that_is_busy_is_no_fault_of_the_package(packages: Path) -> None:
    held = Held()
    verbs = ModelVerbs(Shelf(held), list, clock=SystemClock())
    new = ref(packages / "tiny" / "1.1.0")
    loader = threading.Thread(target=verbs.load, args=("tiny", new.folder, new.sha))
    loader.start()
    assert held.loading.wait(10)
    with pytest.raises(Overloaded, match="is being loaded"):
        verbs.load("tiny", new.folder, new.sha)
    held.go_on.set()
    loader.join(10)


class Saying(OnnxBackend):
    """A runtime that says something of a file, as if it were the file's fault."""

    words = ""

    def _open(self, path: Path, title: str, options: Any) -> Any:
        del path, options
        raise Rejected(f"{title}: {self.words}")


@pytest.mark.parametrize(
    ("words", "harm", "blamed"),
    [
        ("Protobuf parsing failed", "", BadPackage),
        ("Protobuf parsing failed", "rotten", Damaged),
        ("File doesn't exist", "gone", Damaged),
        ("Failed to allocate memory for requested buffer of size 512", "", Overloaded),
        ("std::bad_alloc", "", Overloaded),
        ("std::bad_alloc", "rotten", Damaged),
    ],
)
def test_who_is_to_blame_for_a_load_that_failed(
    tmp_path: Path, words: str, harm: str, blamed: type[EdgeAgentError]
) -> None:
    folder = write_package(tmp_path)
    model = ref(folder)
    if harm == "gone":
        (folder / "model.onnx").unlink()
    elif harm:
        content = bytearray((folder / "model.onnx").read_bytes())
        content[len(content) // 2] ^= 1
        (folder / "model.onnx").write_bytes(content)
    backend = Saying()
    backend.words = words
    shelf = Shelf(backend)
    verbs = ModelVerbs(shelf, list, clock=SystemClock())
    with pytest.raises(blamed) as caught:
        verbs.load("tiny", model.folder, model.sha)
    assert type(caught.value) is blamed


def test_no_stream_that_runs_a_model_is_no_error_of_it(packages: Path) -> None:
    new = ref(packages / "tiny" / "1.1.0")
    shelf = Shelf(backends.make())
    verbs = ModelVerbs(shelf, list, clock=SystemClock())
    assert verbs.load("tiny", new.folder, new.sha) == {"streams": 0, "version": "1.1.0"}
    verbs.unload("tiny", new.sha)
    verbs.unload("tiny", new.sha)
    assert verbs.shadow("tiny", "", 1) == {}


def test_second_models_run_every_nth_frame_and_stay_out_of_the_books(
    packages: Path, side: Side
) -> None:
    first = ref(packages / "tiny" / "1.0.0")
    second = ref(packages / "other" / "1.0.0", every=3)
    side.configure(order("a", first, second))
    side.more(60)
    mine = [r for r in side.drain() if r.model == "tiny"]
    assert_no_frame_is_missing(mine)
    others = [r for r in side.results if r.model == "other"]
    assert others
    assert all(r.frame % 3 == 0 and r.every == 3 for r in others)
    totals = side.taps["a"].totals()
    assert totals.inferred == len([r for r in side.results if r.model == "tiny"])
    assert totals.extra_runs >= len(others)
    assert totals.extra_shed == 0, "a frame that was never due is not shed"


def test_levels_shed_second_models_first_then_low_streams(packages: Path, side: Side) -> None:
    first, second = ref(packages / "tiny" / "1.0.0"), ref(packages / "other" / "1.0.0")
    side.configure(order("high", first, second, priority="high"))
    side.more(10)
    side.ask("level", level=2)
    low = order("low", first, priority="low")
    side.configure(order("high", first, second, priority="high"), low)
    side.until(lambda: sum(r.stream == "low" for r in side.drain()) > 10, "the low stream runs")
    late = [r for r in side.results if r.level == 2]
    assert {r.model for r in late} == {"tiny"}
    lows = [r for r in late if r.stream == "low"]
    assert all(r.frame % 2 == 0 and r.every == 2 for r in lows), "also of one that came later"
    assert all("degraded" in r.flags for r in late)
    assert side.taps["high"].totals().extra_shed > 0
    assert side.taps["low"].totals().dropped["shed"] > 0
    assert side.taps["high"].totals().dropped["shed"] == 0
    side.ask("level", level=2, thermal=True)
    side.until(lambda: side.taps["low"].totals().dropped["thermal"] > 0, "the reason changes")
    side.ask("level", level=0)
    side.until(lambda: any(r.model == "other" and r.level == 0 for r in side.drain()[-20:]), "back")


def test_the_same_recording_twice_gives_equal_records_but_for_times(packages: Path) -> None:
    """Also the judgement of the picture: in the time of the recording, not of this machine."""
    times = ("at_us", "captured_us", "wait_us", "infer_us", "latency_us", "utc_offset_us",
             "utc_error_us")  # fmt: skip
    source = {**FAST, "fault": "freeze", "fault_after_frames": 10, "fault_frames": 30}
    runs = []
    for _ in range(2):
        with running_side(lanes=2) as side:
            side.configure(order("a", ref(packages / "slow" / "1.0.0"), source=source))
            side.more(70)
            runs.append(side.drain()[:70])
    plain = [
        [{f: getattr(r, f) for f in r.__struct_fields__ if f not in times} for r in run]
        for run in runs
    ]
    assert plain[0] == plain[1]
    poor = [r.frame for r in runs[0] if "low_quality" in r.flags]
    assert poor == list(range(25, 41)), "half a second of 30 fps after the first equal frame"
