"""In-lane listeners: each result at once, and a blank that no result overtakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agents.listening import Remembers, remembered
from tests.inference.side import FAST, order, ref, running_side
from tests.tiny import write_package

REMEMBERS = "tests.agents.listening:remembers"
LIVE = {**FAST, "pace": "real", "fps": 60.0}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_package(root)
    write_package(root, name="slow", fault="slow")
    return root


def listener() -> Remembers:
    return remembered[-1]


def test_a_listener_gets_each_result_with_its_arrays(packages: Path) -> None:
    with running_side(listeners=[REMEMBERS]) as side:
        side.configure(order("a", ref(packages / "tiny" / "1.0.0")))
        side.more(30)
    heard = [what for kind, what in listener().log if kind == "result"]
    assert heard[:30] == [r.frame for r in side.results[:30]]
    assert listener().shapes == {((120, 160), (1, 1, 48, 64))}
    assert listener().log[-1] == ("blank", "a: stopped")


def test_nothing_is_shown_between_a_blank_and_the_picture_moving_again(packages: Path) -> None:
    source = {**LIVE, "fault": "freeze", "fault_after_frames": 20, "fault_frames": 60}
    with running_side(listeners=[REMEMBERS]) as side:
        side.configure(
            order("a", ref(packages / "tiny" / "1.0.0"), source=source, queue="latest",
                  deadline_ms=2000.0)
        )  # fmt: skip
        side.until(lambda: len(side.drain()) and side.results[-1].frame > 110, "it moves again")
    log = listener().log
    at = log.index(("blank", "a: frozen picture"))
    number = int(next(what for kind, what in log[at:] if kind == "result"))
    frozen = [r.frame for r in side.results if "low_quality" in r.flags]
    assert frozen, "frozen frames have records all the same"
    assert number > max(frozen)
    assert not {r for kind, r in log if kind == "result"} & set(frozen)


def test_a_stream_that_is_removed_is_blanked_for_the_last_time(packages: Path) -> None:
    """A listener would have shown its last result for ever."""
    model = ref(packages / "tiny" / "1.0.0")
    with running_side(listeners=[REMEMBERS]) as side:
        side.configure(order("a", model), order("b", model))
        side.more(20)
        side.configure(order("b", model))
        log = list(listener().log)
        last = len(log) - 1 - log[::-1].index(("blank", "a: stopped"))
        assert last >= 0
        side.more(20)
        assert ("blank", "a: stopped") in listener().log
    words = [what for kind, what in listener().log if kind == "blank"]
    assert words.count("a: stopped") == words.count("b: stopped") == 1


def test_a_result_older_than_max_age_is_never_shown(packages: Path) -> None:
    """A model slower than max_age_ms: its results are stored, and blanked as stale."""
    with running_side(listeners=[REMEMBERS]) as side:
        side.configure(order("a", ref(packages / "slow" / "1.0.0"), max_age_ms=0.001))
        side.more(20)
        side.until(lambda: ("blank", "a: stale") in listener().log, "stale is told")
    assert not [what for kind, what in listener().log if kind == "result"]
