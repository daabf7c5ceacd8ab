"""Words of libraries: bounded, counted, and without whom and what they are about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import chatter
from edge_agent.core.chatter import Chatter, without_particulars


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("libpng error: bad adaptive filter value", "libpng error: bad adaptive filter value"),
        ("Corrupt JPEG data: 12 extraneous bytes before marker 0xd9",
         "Corrupt JPEG data: 12 extraneous bytes before marker 0x"),
        ("[rtsp @ 0x55d0c0a1] method DESCRIBE failed: 401 Unauthorized",
         "[rtsp (address) 0x] method DESCRIBE failed: 401 Unauthorized"),
        ("rtsp://nurse:s3cret@10.0.0.7/live: Connection refused", "(address) Connection refused"),
        ("/data/Mustermann/a.mp4: Invalid data", "(path) Invalid data"),
        ("can't open 'Mustermann, Erika.avi'", "can't open (name)"),
        ('imread_("Mustermann.png"): can\'t open', "imread_((name)): can't open"),
        ("Mustermann_1970.dcm: truncated", "(file): truncated"),
        ("patient Doe^Jane^^^ 1.2.840.113619.2 no 19700101", "patient (name) (number) no #"),
        ("  a \t b  ", "a b"),
    ],
)  # fmt: skip
def test_the_words_stay_and_the_particulars_do_not(line: str, said: str) -> None:
    assert without_particulars(line) == said


@given(st.lists(st.text(max_size=400), max_size=60))
def test_a_window_has_few_lines_whatever_is_said(lines: list[str]) -> None:
    heard = Chatter()
    said = [one for line in lines for one in heard.take(line, 5.0)] + heard.quiet(6.0)
    assert len(said) <= chatter.LIMIT + 1
    assert all(one.is_trace or len(one.text) <= chatter.MAX_LINE_CHARS for one in said)
    assert len(heard.end()) <= chatter.LIMIT + 1


def test_repeats_are_counted_and_told_when_the_minute_is_over() -> None:
    heard = Chatter()
    first = [one for n in range(500) for one in heard.take(f"bad block {n}", 1.0)]
    assert [(one.text, one.more) for one in first] == [("bad block 0", 0)]
    for n in range(chatter.LIMIT + 4):
        heard.take("other " + chr(97 + n), 2.0)
    told = heard.quiet(62.0)
    assert [(one.text, one.more) for one in told] == [("bad block 0", 499), ("other lines", 5)]
    assert heard.take("bad block 7", 63.0)[0].text == "bad block 7"


def test_a_trace_comes_out_whole_and_in_one_piece() -> None:
    heard = Chatter()
    trace = ["Traceback (most recent call last):", '  File "x.py", line 1, in <module>', "    1/0",
             "ZeroDivisionError: division by zero"]  # fmt: skip
    for line in trace:
        assert heard.take(line, 1.0) == []
    (said,) = heard.quiet(2.0)
    assert (said.text, said.is_trace) == ("\n".join(trace), True)
    assert heard.quiet(3.0) == []
    for n in range(1000):
        heard.take(f"Fatal Python error: {n}", 4.0)
    (said,) = heard.quiet(5.0)
    assert len(said.text) <= chatter.MAX_TRACE_CHARS
