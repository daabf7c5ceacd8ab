from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.clock_watch import STEP_US, TOLD_US, ClockWatch
from edge_agent.core.problems import MAX_PROBLEMS, Problem, ProblemBook, distinct, is_fault

DISK = Problem("disk-low", "warning", "nearly full", "make room")
LOST = Problem("source-lost", "critical", "gone", "plug it in", stream="a")
PIN = Problem("pinned", "notice", "pinned", "unpin", subject="tiny")
HOUR_US = 3_600_000_000


def test_each_stands_since_it_began_though_its_words_change() -> None:
    book = ProblemBook()
    assert [change.is_raised for change in book.observe([DISK], 10)] == [True]
    assert book.observe([DISK._replace(what="fuller")], 20) == []
    assert book.since_us(DISK, 30) == 10
    (over,) = book.observe([], 50)
    assert (over.is_raised, over.stood_us) == (False, 40)
    assert book.since_us(DISK, 60) == 60


def test_the_worst_come_first_one_of_each_key() -> None:
    found = distinct([PIN, DISK, LOST, LOST._replace(what="gone twice")])
    assert [one.code for one in found] == ["source-lost", "disk-low", "pinned"]
    assert found[0].what == "gone"
    assert [is_fault(one) for one in found] == [True, True, False]


def test_words_are_the_shape_of_the_status() -> None:
    assert LOST.words(1.234) == {
        "severity": "critical", "code": "source-lost", "stream": "a", "subject": "",
        "what": "gone", "fix": "plug it in", "since_s": 1.2,
    }  # fmt: skip


CODES = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.sets(CODES), max_size=30))
def test_raised_and_over_alternate_and_the_book_says_what_stands(looks: list[set[str]]) -> None:
    book, standing = ProblemBook(), {}
    for now_us, codes in enumerate(looks):
        for change in book.observe([DISK._replace(code=code) for code in codes], now_us):
            if change.is_raised:
                assert change.problem.code not in standing
                standing[change.problem.code] = now_us
            else:
                assert change.stood_us == now_us - standing.pop(change.problem.code)
        assert set(standing) == codes


def test_a_flood_of_problems_is_bounded() -> None:
    assert len(distinct([DISK._replace(subject=str(n)) for n in range(1000)])) == MAX_PROBLEMS


# ── the wall clock ────────────────────────────────────────────────────────────────────────────


def codes(watch: ClockWatch, now_us: int) -> list[str]:
    return [problem.code for problem in watch.problems(now_us)]


def test_a_jump_is_told_until_the_clock_is_back() -> None:
    watch = ClockWatch()
    watch.look(0, HOUR_US, is_synchronised=True)
    assert codes(watch, 0) == []
    watch.look(1, 2 * HOUR_US, is_synchronised=True)
    assert codes(watch, 1) == ["clock-jumped"]
    assert "+3600.0 s" in watch.problems(1)[0].what
    watch.look(2, HOUR_US, is_synchronised=True)
    assert codes(watch, 2) == []


def test_a_jump_is_told_for_ten_minutes() -> None:
    watch = ClockWatch()
    watch.look(0, HOUR_US, is_synchronised=False)
    watch.look(1, 0, is_synchronised=False)
    assert codes(watch, TOLD_US) == ["clock-jumped"]
    assert codes(watch, 1 + TOLD_US) == []


def test_a_clock_that_ntp_sets_for_the_first_time_did_not_jump() -> None:
    watch = ClockWatch()
    watch.look(0, None, is_synchronised=False)
    assert codes(watch, 0) == ["clock-unset"]
    watch.look(1, HOUR_US, is_synchronised=False)
    assert codes(watch, 1) == []
    watch.look(2, 5 * HOUR_US, is_synchronised=True)
    assert codes(watch, 2) == []


def test_small_steps_are_no_jump() -> None:
    watch = ClockWatch()
    for step in range(100):
        watch.look(step, step * (STEP_US - 1), is_synchronised=True)
        assert codes(watch, step) == []
