from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import audit
from edge_agent.core.audit import Draft, Head, Stamp

STAMP = Stamp(boot_us=5_000_000, utc_us=1_790_000_000_123_456, boot="0badc0de")
MANY = 10_000


def a_draft(number: int = 0, **detail: object) -> Draft:
    return audit.draft(STAMP, f"uid {number}", "model-installed", "us-chamber@1.1.0", detail)


@functools.cache
def a_log(count: int) -> tuple[list[bytes], list[Head]]:
    """The lines without their ends, the first of the file among them, and the head before each."""
    head, heads = Head(), [Head()]
    lines = [audit.first_line(head)]
    for number in range(count):
        heads.append(head)
        line, head = audit.line_of(a_draft(number, n=number), head)
        lines.append(line)
    return [line.rstrip(b"\n") for line in lines], [*heads, head]


def checked(lines: Sequence[bytes], *known: Head) -> audit.Check:
    check = audit.Check(known)
    check.begin("audit.log", lines[0])
    for line in lines[1:]:
        check.entry(line)
    check.end()
    return check


def test_an_entry_says_when_who_what_and_to_which() -> None:
    line, head = audit.line_of(a_draft(7, ok=True, nothing=None, share=0.25), Head())
    assert line == (
        b'{"entry":{"at":{"boot_us":5000000,"utc":"2026-09-21T14:13:20.123Z"},"boot":"0badc0de",'
        b'"detail":{"nothing":null,"ok":true,"share":"0.25"},"object":"us-chamber@1.1.0","seq":1,'
        b'"what":"model-installed","who":"uid 7"},"hash":"' + head.hash.encode() + b'"}\n'
    )
    entry = line[len(b'{"entry":') : line.index(b',"hash"')]
    assert head == Head(1, hashlib.sha256(bytes(32) + entry).hexdigest())
    unset = audit.draft(Stamp(1, None, "0badc0de"), "agent", "started", "", {})
    assert b'"utc":null' in audit.line_of(unset, Head())[0]


def test_a_whole_log_is_sound() -> None:
    lines, heads = a_log(100)
    check = checked(lines, heads[-1], heads[50])
    assert (check.faults, check.head, check.entries, check.starts_after) == ([], heads[-1], 100, 0)


def test_any_edit_deletion_or_change_of_order_of_10000_entries_is_found() -> None:
    lines, heads = a_log(MANY)
    for number in range(1, MANY + 1):
        line, before = lines[number], heads[number]
        edits = (
            line.replace(b'"uid ', b'"Uid '),
            line.replace(b'"n":', b'"n" :'),
            line[:-3] + (b"0" if line[-3:-2] != b"0" else b"1") + line[-2:],
            line[:-1],
        )
        assert audit.follow(edits[number % 4], before)[1], number
        if number < MANY:  # deleted, or after its follower
            assert audit.follow(lines[number + 1], before)[1], number


def test_a_truncation_of_10000_entries_is_found_by_whoever_knows_the_head() -> None:
    lines, heads = a_log(MANY)
    for kept in (0, 1, MANY - 1):
        cut = checked(lines[: kept + 1], heads[-1])
        (fault,) = cut.faults
        assert fault.why == f"expected {MANY} entries, got {kept}: its end is missing"
    assert checked(lines[:9]).faults == []  # nobody else can know


def test_a_log_that_was_written_anew_is_found_by_whoever_knows_a_head() -> None:
    heads = a_log(50)[1]
    other, ends = a_log(0)
    head = ends[-1]
    for number in range(60):
        line, head = audit.line_of(a_draft(number, n=-number), head)
        other.append(line.rstrip(b"\n"))
    assert checked(other).faults == []
    (fault,) = checked(other, heads[-1]).faults
    assert "written anew" in fault.why
    assert fault.line == 51


def test_a_fault_names_its_place_and_one_can_read_on() -> None:
    lines, heads = a_log(30)
    lines = list(lines)
    lines[11] = lines[11].replace(b"uid 10", b"uid 99")
    check = checked(lines, heads[-1])
    (fault,) = check.faults
    assert (fault.file, fault.line) == ("audit.log", 12)
    assert "changed after writing" in fault.why
    assert (check.head, check.entries) == (heads[-1], 30)


@given(st.data())
def test_whatever_happens_to_a_log_is_found(data: st.DataObject) -> None:
    lines, heads = a_log(6)
    whole = b"\n".join(lines)
    how = data.draw(st.sampled_from(["flip", "delete", "swap", "repeat", "cut", "insert"]))
    at = data.draw(st.integers(1, 6))
    changed = list(lines)
    if how == "flip":
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        changed = bytes(flipped).split(b"\n")
    elif how == "delete":
        del changed[at]
    elif how == "swap":
        other = data.draw(st.integers(1, 6).filter(lambda n: n != at))
        changed[at], changed[other] = changed[other], changed[at]
    elif how == "repeat":
        changed.insert(at, changed[at])
    elif how == "cut":
        changed = changed[:at]
    else:
        changed.insert(at, data.draw(st.binary(max_size=50)))
    assert checked(changed, heads[-1]).faults != []


@given(st.binary(max_size=300))
def test_no_line_crashes_who_reads_it(line: bytes) -> None:
    assert audit.parse_first(line) is None
    assert audit.parse_entry(line) is None
    assert audit.follow(line, Head())[1]


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=600))
def test_any_text_is_written_and_read_back(who: str, obj: str, text: str) -> None:
    draft = audit.draft(STAMP, who, "told", obj, {"text": text})
    line, head = audit.line_of(draft, Head())
    assert line.count(b"\n") == 1
    assert len(line) <= audit.MAX_LINE_BYTES
    assert audit.follow(line.rstrip(b"\n"), Head()) == (head, "")
    entry = audit.parse_entry(line.rstrip(b"\n"))
    assert entry is not None
    assert not any(ord(char) < 32 for char in entry["detail"]["text"])
    assert json.loads(line)["entry"]["seq"] == 1


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("read /mnt/exams/Doe^Jane/1.dcm: no", "read (path): no"),
        ("mqtt://edge:hunter2@broker:1883", "mqtt://broker:1883"),
        ("a\nb\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("https://tier.example/models/a?b=c", "https://tier.example"),
        ('"/mnt/Doe Jane/1.dcm" is gone', "(path) is gone"),
        ("file:///mnt/Doe/1.mp4 is gone", "file:(path) is gone"),
        ("12 frames/s, 3/4 agree", "12 frames/s, 3/4 agree"),
    ],
)
def test_paths_and_passwords_stay_out(text: str, clean: str) -> None:
    assert audit.clean(text) == clean
    assert a_draft(0, why=text).detail == {"why": clean}


def test_what_and_the_keys_are_words_of_ours() -> None:
    for what in ("", "Model installed", "x" * 65, "a/b"):
        with pytest.raises(ValueError, match="expected a word"):
            audit.draft(STAMP, "agent", what, "", {})
    for detail in ({"a b": 1}, {"": 1}, {f"k{n}": n for n in range(17)}):
        with pytest.raises(ValueError, match="plain keys"):
            audit.draft(STAMP, "agent", "told", "", detail)
    assert audit.draft(STAMP, "a", "told", "", {"big": 1 << 70}).detail == {"big": str(1 << 70)}


def test_files_follow_each_other() -> None:
    lines, heads = a_log(5)
    second, head = audit.line_of(a_draft(), heads[-1])
    for first, words in (
        (audit.first_line(heads[-1]), ""),
        (audit.first_line(heads[3]), "expected to follow entry 5"),
        (b"{}", "expected the first line of a file"),
    ):
        check = audit.Check([head])
        check.begin("audit.000001.log", lines[0])
        for line in lines[1:]:
            check.entry(line)
        check.begin("audit.log", first.rstrip(b"\n"))
        check.entry(second.rstrip(b"\n"))
        check.end()
        assert words in "".join(fault.why for fault in check.faults[:1])
        assert bool(check.faults) == bool(words)
        assert check.head == head
