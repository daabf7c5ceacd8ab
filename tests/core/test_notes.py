"""Problems that were told: bounded in number, words and time."""

from __future__ import annotations

from edge_agent.core.notes import KEPT_US, MAX_NOTES, MAX_WORDS, Notes


class Now:
    us = 0

    def __call__(self) -> int:
        return self.us


def test_a_note_stands_for_ten_seconds_after_it_was_last_told() -> None:
    now = Now()
    notes = Notes(now)
    notes.tell("a", "bad-result", "NaN", "check the model")
    now.us = KEPT_US - 1
    assert notes.of("a") == "NaN"
    notes.tell("a", "bad-result", "NaN again", "check the model")
    now.us = 2 * KEPT_US - 2
    assert notes.of("a") == "NaN again"
    now.us = 2 * KEPT_US
    assert notes.of("a") == ""
    assert notes.standing() == {}


def test_a_stream_that_cannot_start_is_stuck_until_it_is_ordered_anew() -> None:
    now = Now()
    notes = Notes(now)
    notes.tell("a", "model-rejected", "find model 'x'", "install it")
    notes.tell("b", "source-lost", "gone", "replug")
    now.us = 100 * KEPT_US
    assert notes.is_stuck("a")
    assert not notes.is_stuck("b")
    assert set(notes.standing()) == {("a", "model-rejected"), ("b", "source-lost")}
    notes.is_back("b")
    assert [note.severity for note in notes.standing().values()] == ["critical"]
    notes.forget("a")
    assert not notes.is_stuck("a")


def test_the_newest_words_about_a_stream_are_its_reason() -> None:
    now = Now()
    notes = Notes(now)
    notes.tell("a", "bad-frame", "first", "")
    now.us = 10
    notes.tell("a", "bad-result", "second", "")
    assert notes.of("a") == "second"
    assert notes.of("b") == ""


def test_notes_are_bounded_in_number_and_words() -> None:
    notes = Notes(Now())
    for n in range(2 * MAX_NOTES):
        notes.tell("a", f"code-{n}", "w" * 10_000, "f" * 10_000)
    assert len(notes.standing()) == MAX_NOTES
    assert {len(note.what) for note in notes.standing().values()} == {MAX_WORDS}
    assert {len(note.fix) for note in notes.standing().values()} == {MAX_WORDS}


def test_a_flood_of_passing_notes_never_hides_why_a_stream_failed() -> None:
    notes = Notes(Now())
    notes.tell("a", "stream-rejected", "corrupt model", "install it again")
    for n in range(2 * MAX_NOTES):
        notes.tell("b", f"code-{n}", "w", "f")
    assert notes.is_stuck("a")
    assert notes.of("a") == "corrupt model"


def test_a_damaged_model_is_critical_and_stands_while_its_stream_runs_the_one_before() -> None:
    now = [0]
    notes = Notes(lambda: now[0])
    notes.tell("us", "model-damaged", "us-chamber 1.1.0 is not what was installed", "verify it")
    now[0] = 3_600_000_000
    (note,) = notes.standing().values()
    assert note.severity == "critical"
    assert not notes.is_stuck("us")
    notes.forget("us")
    assert not notes.standing()


def test_a_recording_that_has_ended_was_not_lost_and_says_so_for_as_long_as_it_is_over() -> None:
    now = Now()
    notes = Notes(now)
    notes.tell("a", "source-lost", "no such folder", "check source.path")
    notes.tell("a", "source-ended", "has ended after 3 images", "")
    now.us = 100 * KEPT_US
    assert set(notes.standing()) == {("a", "source-ended")}
    assert notes.of("a") == "has ended after 3 images"
    notes.is_back("a")
    assert notes.standing() == {}
