"""Whatever may be asked of the rollouts, in any order, with a fault between any two steps.

A model of what is wanted and held, of the store, the side and the disk, over the real service.

    EDGE_AGENT_MODEL_EXAMPLES=50000 python -m pytest -q tests/services/test_rollouts_model.py

runs that many by hand, each with other faults; without it there are 200. What it found has a test
of its own below, of the rules that led there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.services.modelled_device import Device
from tests.services.modelled_side import Flaw
from tests.services.virtual import without_threads

CI_EXAMPLES: Final = 200  # the same in each run; any other number looks at new ones
EXAMPLES: Final = int(os.environ.get("EDGE_AGENT_MODEL_EXAMPLES", str(CI_EXAMPLES)))
STEPS: Final = 30
GOOD: Final = [Flaw.NONE] * 4


@pytest.mark.timeout(0)
def test_whatever_happens_what_is_told_runs_and_what_is_held_stays() -> None:
    with without_threads():
        run_state_machine_as_test(
            Device,
            settings=settings(
                max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None,
                suppress_health_check=list(HealthCheck), print_blob=True,
                derandomize=EXAMPLES == CI_EXAMPLES, database=None,
            ),
        )  # fmt: skip


@contextmanager
def device(*, is_fresh: bool = False) -> Iterator[Device]:
    """The laws hold after it, and once it is left in peace."""
    with without_threads():
        found = Device()
        found.begin(is_fresh=is_fresh, flaws=GOOD)
        try:
            yield found
            found.laws_hold()
        finally:
            found.teardown()


def test_a_side_that_is_deaf_holds_up_no_roll_back_of_what_is_committed() -> None:
    with device() as one:
        one.want(version="1.1.0", pause=8.0)
        one.the_side_is_deaf(pause=0.0)
        one.roll_back(pause=8.0)


def test_a_halt_reaches_streams_that_the_configuration_holds_to_it() -> None:
    with device() as one:
        one.configure(one="1.0.0", two="gone", pause=2.5)
        one.halt(version="1.0.0", pause=8.0)
        assert not one.runs()
        one.halt(version="1.0.0", pause=8.0)
        assert one.runs() == {"1.0.0"}


def test_streams_go_on_once_what_they_ran_is_halted_no_more() -> None:
    with device() as one:
        one.halt(version="1.0.0", pause=8.0)
        assert not one.runs()
        one.halt(version="1.0.0", pause=8.0)
        assert one.runs() == {"1.0.0"}


def test_streams_go_on_with_what_is_halted_once_a_person_holds_on_to_it() -> None:
    with device() as one:
        one.halt(version="1.0.0", pause=8.0)
        one.pin(version="1.0.0", pause=8.0)
        assert one.runs() == {"1.0.0"}


def test_a_roll_back_of_the_only_version_there_is_is_refused_and_it_stays() -> None:
    with device(is_fresh=True) as one:
        one.want(version="1.1.0", pause=8.0)
        one.the_disk_refuses(places={"pointers"}, number=28, only={"create"}, after=0, pause=0.0)
        one.roll_back(pause=8.0)
        assert one.runs() == {"1.1.0"}


def test_a_full_disk_holds_up_no_halt_of_the_only_version_there_is() -> None:
    with device(is_fresh=True) as one:
        one.want(version="1.1.0", pause=8.0)
        one.the_disk_refuses(places={"pointers"}, number=28, only={"create"}, after=0, pause=0.0)
        one.halt(version="1.1.0", pause=8.0)
        assert not one.runs()


def test_a_halt_reaches_what_runs_while_nobody_can_read_the_pointers() -> None:
    with device(is_fresh=True) as one:
        one.want(version="1.1.0", pause=8.0)
        one.a_document_rots(place="pointers", which=(0, 1))
        one.halt(version="1.1.0", pause=8.0)
        assert not one.runs()


def test_a_side_that_is_deaf_holds_up_no_halt() -> None:
    with device() as one:
        one.the_side_is_deaf(pause=0.0)
        one.halt(version="1.0.0", pause=8.0)
        assert not one.runs()


def test_a_side_that_is_deaf_holds_up_no_reload_that_takes_a_halted_version_away() -> None:
    """The reload waited a minute, and what was halted ran on: nobody else asked for its end."""
    with device() as one:
        one.the_side_is_deaf(pause=0.0)
        one.halt(version="1.0.0", pause=0.0)
        one.configure(one="1.1.0", two="1.2.0", pause=8.0)
        assert "1.0.0" not in one.runs()


def test_a_halt_that_comes_while_the_side_is_away_reaches_the_next() -> None:
    with device() as one:
        one.time_goes_by(seconds=2.0)
        one.halt(version="1.0.0", pause=0.1)
        one.the_side_dies(how=signal.SIGSEGV, pause=8.0)
        assert not one.runs()


def test_an_installation_that_is_refused_pins_nothing() -> None:
    with device() as one:
        one.want(version="1.1.0", pause=8.0)
        one.the_room_falls(pause=0.01)
        one.install(version="1.1.0", pause=0.05)
        assert not one.world.life.rollouts.wishes.memory.pins


def test_a_first_version_waits_for_a_stream_that_may_run_it() -> None:
    with device(is_fresh=True) as one:
        one.configure(one="1.1.0", two="gone", pause=0.4)
        one.want(version="1.1.0", pause=8.0)
        one.configure(one="", two="gone", pause=60.0)
        assert one.runs() == {"1.1.0"}
