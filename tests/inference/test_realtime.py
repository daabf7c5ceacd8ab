"""Who shares the interpreter with the lanes is never below everybody else while it holds it.

On a busy machine a niced loader was taken off its core with the interpreter in its hands, and each
swap cost a frame.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.inference import realtime
from tests.inference.side import PACED, order, ref, running_side
from tests.inference.test_models import load
from tests.tiny import write_package


def in_thread(work: Callable[[], None]) -> None:
    """In one of its own: a policy stays with its thread."""
    wrong: list[BaseException] = []

    def body() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told below
            wrong.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(20)
    assert not wrong, wrong


def policy() -> tuple[int, int]:
    """(policy without its flag, nice) of this thread."""
    me = threading.get_native_id()
    plain = os.sched_getscheduler(me) & ~os.SCHED_RESET_ON_FORK
    return plain, os.getpriority(os.PRIO_PROCESS, me)


def is_permitted() -> bool:
    found: list[bool] = []
    in_thread(lambda: found.append(realtime.go_beside()))
    return found[0]


needs_realtime = pytest.mark.skipif(not is_permitted(), reason="real-time policy not permitted")


@needs_realtime
def test_a_background_thread_sinks_in_its_heavy_parts_alone() -> None:
    def work() -> None:
        realtime.go_background(realtime_wanted=True)
        assert policy()[0] == os.SCHED_RR
        for _ in range(2):
            with realtime.heavy():
                assert policy() == (os.SCHED_OTHER, realtime.BACKGROUND_NICE)
            assert policy()[0] == os.SCHED_RR
        with pytest.raises(ValueError, match="a run that failed"), realtime.heavy():
            raise ValueError("a run that failed")
        assert policy()[0] == os.SCHED_RR

    in_thread(work)


def test_a_background_thread_is_niced_where_real_time_is_not_wanted() -> None:
    def work() -> None:
        realtime.go_background(realtime_wanted=False)
        with realtime.heavy():
            assert policy() == (os.SCHED_OTHER, realtime.BACKGROUND_NICE)
        assert policy() == (os.SCHED_OTHER, realtime.BACKGROUND_NICE)

    in_thread(work)


def test_a_thread_that_is_not_in_the_background_never_sinks() -> None:
    def work() -> None:
        before = policy()
        with realtime.heavy():
            assert policy() == before

    in_thread(work)


@needs_realtime
def test_every_thread_of_a_side_stands_with_the_lanes_or_just_below(tmp_path: Path) -> None:
    model = ref(write_package(tmp_path))
    candidate = ref(write_package(tmp_path, version="1.1.0"))
    with running_side(realtime=True) as side:
        side.configure(order("a", model, source=PACED))
        side.more(5)
        load(side, candidate)
        side.ask("shadow", model="tiny", sha=candidate.sha, every=100)
        side.more(20)
        names = {"inference", "lane-0", "pulse", "cap-a", "shadow-tiny"}
        found = {t.name: t.native_id for t in threading.enumerate() if t.name in names}
        assert set(found) == names
        for name, native in found.items():
            assert native is not None
            plain = os.sched_getscheduler(native) & ~os.SCHED_RESET_ON_FORK
            assert plain == os.SCHED_RR, name
            own = os.sched_getparam(native).sched_priority
            assert own >= realtime.LANE_PRIORITY or own == realtime.BESIDE_PRIORITY, name
