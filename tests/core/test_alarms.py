"""Alarms speak only when something changes, and what was raised is cleared."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core.alarms import ENGINE_DOWN, ENGINE_STILL, OF_STATE, AlarmBook, Meaning
from edge_agent.core.frames import Signal

FROZEN, BLACK = OF_STATE["frozen"], OF_STATE["black"]
MEANINGS = [None, ENGINE_DOWN, ENGINE_STILL, *OF_STATE.values()]


def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    book = AlarmBook()
    assert [(c.state, c.since_us) for c in book.update("a", FROZEN, 5)] == [("raised", 5)]
    assert book.update("a", FROZEN, 6) == []
    assert [(c.state, c.since_us) for c in book.update("a", None, 9)] == [("cleared", 5)]
    assert book.update("a", None, 10) == []
    assert book.standing() == {}


def test_one_alarm_gives_way_to_another() -> None:
    book = AlarmBook()
    book.update("a", FROZEN, 1)
    changes = book.update("a", BLACK, 2)
    assert [(c.meaning.code, c.state) for c in changes] == [
        ("frozen", "cleared"), ("black", "raised")
    ]  # fmt: skip


def test_streams_do_not_share_alarms() -> None:
    book = AlarmBook()
    book.update("a", FROZEN, 1)
    book.update("b", BLACK, 1)
    book.update("a", None, 2)
    assert list(book.standing()) == ["b"]


def test_a_stream_that_works_starts_or_is_paused_raises_nothing() -> None:
    names = {signal.value for signal in Signal}
    assert names - set(OF_STATE) == {"ok", "starting", "paused"}
    assert set(OF_STATE) - names == {"stale"}


def test_every_alarm_says_what_to_do_and_nothing_clinical() -> None:
    codes = [meaning.code for meaning in (ENGINE_DOWN, ENGINE_STILL, *OF_STATE.values())]
    assert len(set(codes)) == len(codes)
    assert all(
        meaning.what and meaning.fix for meaning in (ENGINE_DOWN, ENGINE_STILL, *OF_STATE.values())
    )


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(MEANINGS)), max_size=50))
def test_raised_and_cleared_alternate(told: list[tuple[str, Meaning | None]]) -> None:
    book, open_codes = AlarmBook(), dict[str, str]()
    for now_us, (stream, meaning) in enumerate(told):
        for change in book.update(stream, meaning, now_us):
            if change.state == "raised":
                assert stream not in open_codes
                open_codes[stream] = change.meaning.code
            else:
                assert open_codes.pop(stream) == change.meaning.code
    assert open_codes == {name: held.meaning.code for name, held in book.standing().items()}
