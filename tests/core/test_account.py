"""captured = inferred + the sum of dropped: exactly, after any history of incarnations."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core import ring
from edge_agent.core.account import Account
from edge_agent.core.frames import DROPS, Drop
from edge_agent.core.ring import Header, Word


def header() -> Header:
    return Header(memoryview(bytearray(512)))


LOSSES = [why for why in DROPS if why not in (Drop.OVERRUN, Drop.CRASH)]
# per frame: what became of it. None: still in flight when the incarnation ended
FATE = st.sampled_from(["published", "read", None, *LOSSES])
INCARNATION = st.tuples(st.lists(FATE, max_size=40), st.booleans())


@settings(max_examples=200)
@given(st.lists(INCARNATION, max_size=5))
def test_the_books_balance_after_any_history(
    history: list[tuple[list[str | None], bool]],
) -> None:
    account, crashed, stopped = Account(), 0, 0
    for fates, clean in history:
        words = header()
        for fate in fates:
            words.add(Word.CAPTURED)
            if fate in ("published", "read"):
                words.add(Word.PUBLISHED)
            elif fate is not None:
                words.drop(Drop(fate))
        account.inferred += fates.count("read")
        overrun = fates.count("published")
        account.close(words.still(), overrun, clean=clean)
        crashed += 0 if clean else fates.count(None)
        stopped += fates.count(None) if clean else 0
    totals = account.totals(None, 0)
    every = [fate for fates, _ in history for fate in fates]
    assert totals.captured == len(every)
    assert totals.inferred == every.count("read")
    assert totals.captured == totals.inferred + sum(totals.dropped.values())
    assert totals.in_flight == 0
    assert totals.dropped["crash"] == crashed
    assert totals.dropped["shutdown"] == stopped + every.count(Drop.SHUTDOWN)
    assert totals.dropped["overrun"] == every.count("published")


def test_while_a_side_lives_its_header_is_part_of_the_books() -> None:
    account, words = Account(), header()
    words.add(Word.CAPTURED, 10)
    words.add(Word.REOPENED, 2)
    words.drop(Drop.LATE, 3)
    account.inferred = 4
    totals = account.totals(words, overrun=1)
    assert (totals.captured, totals.inferred, totals.in_flight) == (10, 4, 2)
    assert totals.dropped["late"] == 3
    assert totals.dropped["overrun"] == 1
    assert totals.reopened == 2
    assert set(totals.dropped) == {why.value for why in DROPS}


def test_errors_are_what_a_model_or_a_crash_cost() -> None:
    account, words = Account(), header()
    words.add(Word.CAPTURED, 7)
    words.drop(Drop.ERROR, 2)
    words.drop(Drop.SHED, 1)
    account.close(words, 0, clean=False)
    assert account.totals(None, 0).errors == 2 + 4


def test_a_header_copied_between_two_counts_still_balances() -> None:
    """A side that is not quite dead may drop a frame whose capture the copy did not see."""
    account, words = Account(), header()
    words.add(Word.CAPTURED, 5)
    words.drop(Drop.OVERWRITTEN, 6)
    account.close(words, 0, clean=True)
    totals = account.totals(None, 0)
    assert totals.captured == totals.inferred + sum(totals.dropped.values()) == 6


def test_a_result_published_after_the_last_drain_balances() -> None:
    """Books are closed on one copy: what comes later is in it whole, or not at all."""
    memory = memoryview(bytearray(ring.FRAMES_AT))
    live, writer, reader = Header(memory), ring.ResultWriter(memory), ring.ResultReader(memory)
    account = Account()
    live.add(Word.CAPTURED, 3)
    writer.put(b"read", primary=True)
    account.inferred += sum(1 for _ in reader.drain())
    writer.put(b"late", primary=True)
    still = live.still()
    writer.put(b"later", primary=True)
    reader.settle(still[Word.PUBLISHED])
    account.close(still, reader.lost, clean=True)
    totals = account.totals(None, 0)
    assert totals.dropped["overrun"] == totals.dropped["shutdown"] == 1
    assert totals.captured == totals.inferred + sum(totals.dropped.values()) == 3
