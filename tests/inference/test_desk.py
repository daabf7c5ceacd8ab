"""The desk: one frame waits per model and stream, every lost one is told, none is told twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import backends
from edge_agent.core.frames import Drop, Frame
from edge_agent.inference.desk import IDLE_S, Desk, Job
from edge_agent.inference.seats import Offered, Run, Seat, Shelf, StreamOptions
from tests.inference.side import ref
from tests.tiny import write_package

PIXELS = np.zeros((4, 4), np.uint8)
FAR_US = 10**12
MakeRun = Callable[..., Run]


class World:
    """A desk with a clock that stands until it is moved, and a book of what was lost."""

    def __init__(self) -> None:
        self.now_us = 0
        self.lost: Counter[tuple[str, Drop]] = Counter()
        self.desk = Desk(lambda: self.now_us, self._lose)

    def _lose(self, run: Run, why: Drop) -> None:
        self.lost[run.stream, why] += 1

    def put(self, run: Run, number: int = 1, *, deadline_us: int = FAR_US) -> None:
        frame = Frame(number=number, captured_us=self.now_us, pixels=PIXELS)
        self.desk.put(run, Offered(frame, deadline_us))

    def take(self) -> Job:
        job = self.desk.take()
        assert job is not None
        return job


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    model = ref(write_package(tmp_path_factory.mktemp("models")))
    shelf = Shelf(backends.make())
    options = StreamOptions(tracking=True, contours=True)
    seat = Seat(shelf.load(model.folder, model.sha), model.options, options)

    def make(stream: str, *, rank: int = 2) -> Run:
        return Run(stream=stream, index=0, ref=model, seat=seat, rank=rank)

    return make


def test_a_newer_frame_takes_the_place_of_the_one_that_waits(make_run: MakeRun) -> None:
    world, run = World(), make_run("a")
    world.desk.seat([run])
    for number in (1, 2, 3):
        world.put(run, number)
    assert world.take().frame.number == 3
    assert world.lost == {("a", Drop.OVERWRITTEN): 2}


def test_one_lane_at_a_time_works_on_a_run(make_run: MakeRun) -> None:
    world, run = World(), make_run("a")
    world.desk.seat([run])
    world.put(run, 1)
    job = world.take()
    world.put(run, 2)
    assert world.desk.take() is None, "after an idle turn"
    world.desk.done(job.run)
    assert world.take().frame.number == 2


def test_the_higher_class_goes_first_then_the_nearer_deadline(make_run: MakeRun) -> None:
    world = World()
    runs = [make_run("low", rank=4), make_run("far"), make_run("near"), make_run("high", rank=0)]
    world.desk.seat(runs)
    for run, deadline_us in zip(runs, (10, 900, 500, 10_000), strict=True):
        world.put(run, deadline_us=deadline_us)
    order = [world.take().run.stream for _ in runs]
    assert order == ["high", "near", "far", "low"]


def test_a_frame_that_waited_too_long_is_late_and_the_next_one_runs(make_run: MakeRun) -> None:
    world, run, other = World(), make_run("a"), make_run("b")
    run.estimate_us = 5000
    world.desk.seat([run, other])
    world.put(run, deadline_us=10_000)
    world.put(other, deadline_us=20_000)
    world.now_us = 6000
    assert world.take().run is other
    assert world.lost == {("a", Drop.LATE): 1}
    assert run.estimate_us < 5000, "or it would be late for ever"


def test_a_stream_is_not_late_for_ever_after_one_slow_spell(make_run: MakeRun) -> None:
    """Its estimate ended just below its deadline, and only a run could have corrected it."""
    world, run = World(), make_run("a")
    run.estimate_us = 19_990
    world.desk.seat([run])
    for number in range(1, 200):
        frame = Frame(number=number, captured_us=world.now_us, pixels=PIXELS)
        world.desk.put(run, Offered(frame, world.now_us + 20_000))
        world.now_us += 500  # the way to the lane
        if world.desk._pick() is not None:
            return
        world.now_us += 16_000
    pytest.fail("every frame was skipped")


def test_leaving_and_closing_book_what_waits(make_run: MakeRun) -> None:
    world, gone, stays = World(), make_run("gone"), make_run("stays")
    world.desk.seat([gone, stays])
    world.put(gone)
    world.put(stays)
    world.desk.leave([gone], Drop.SHUTDOWN, 1.0)
    assert world.lost == {("gone", Drop.SHUTDOWN): 1}
    world.desk.close()
    world.put(stays)
    assert world.lost == {("gone", Drop.SHUTDOWN): 1, ("stays", Drop.SHUTDOWN): 2}
    assert world.desk.take() is None
    assert world.desk.wait_free(stays, 0.0), "a source that waits learns of the close"
    assert world.desk.is_closed


def test_leaving_waits_for_the_lane_that_works_and_not_for_ever(make_run: MakeRun) -> None:
    """Else a lane could publish into books that are closed."""
    world, run = World(), make_run("a")
    world.desk.seat([run])
    world.put(run)
    job = world.take()
    since = time.monotonic()
    world.desk.leave([run], Drop.SHUTDOWN, 0.05)
    assert time.monotonic() - since >= 0.05
    timer = threading.Timer(0.05, world.desk.done, [job.run])
    timer.start()
    since = time.monotonic()
    world.desk.leave([run], Drop.SHUTDOWN, 10.0)
    assert time.monotonic() - since < 5.0
    assert not run.busy
    timer.join()


def test_a_wake_up_reaches_a_lane_and_never_a_source_that_waits(make_run: MakeRun) -> None:
    """With one condition for both, a live frame could lie until an idle turn was over."""
    world, live, recorded = World(), make_run("live"), make_run("recorded")
    world.desk.seat([live, recorded])
    world.put(recorded)
    assert world.take().run is recorded  # a lane works on it for long
    stop = threading.Event()

    def wait_for_its_result() -> None:
        while not stop.is_set():
            world.desk.wait_free(recorded, 10.0)

    def take() -> None:
        taken_s.append(-time.monotonic())
        while world.desk.take() is None:
            turns.append(1)
        taken_s.append(time.monotonic())

    sources = [threading.Thread(target=wait_for_its_result) for _ in range(4)]
    for thread in sources:
        thread.start()
    slow = 0
    for number in range(1, 6):
        taken_s: list[float] = []
        turns: list[int] = []
        lane = threading.Thread(target=take)
        lane.start()
        time.sleep(0.02)
        world.put(live, number)
        put_s = time.monotonic()
        lane.join(10)
        slow += taken_s[1] - put_s > 0.6 * IDLE_S
        world.desk.done(live)
    stop.set()
    world.desk.done(recorded)
    for thread in sources:
        thread.join(10)
    assert slow <= 1, "one turn may be this machine's"


STEP = st.tuples(
    st.sampled_from(["put", "put", "take", "done", "leave"]),
    st.integers(0, 2),
    st.integers(0, 9000),
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(STEP, max_size=60))
def test_every_frame_is_taken_or_lost_exactly_once(
    make_run: MakeRun, steps: list[tuple[str, int, int]]
) -> None:
    world = World()
    runs = [make_run(str(i), rank=2 * i) for i in range(3)]
    world.desk.seat(runs)
    put, taken = Counter[str](), Counter[str]()
    for kind, index, step_us in steps:
        run = runs[index]
        world.now_us += step_us
        if kind == "put":
            world.put(run, deadline_us=world.now_us + 10_000)
            put[run.stream] += 1
        elif kind == "take":
            job = world.desk._pick()
            if job is not None:
                taken[job.run.stream] += 1
                job.run.estimate_us = float(step_us)
        elif kind == "done":
            world.desk.done(run)
        else:
            world.desk.leave([run], Drop.SHUTDOWN, 0.0)
            world.desk.seat([run])
    world.desk.close()
    for run in runs:
        lost = sum(n for (stream, _), n in world.lost.items() if stream == run.stream)
        assert put[run.stream] == taken[run.stream] + lost
