from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Rejected
from edge_agent.core.trust import (
    CODES,
    HINTS,
    MAX_SERIALS,
    Memory,
    Now,
    Refused,
    Seen,
    Shown,
    checked_path,
    judged_s,
    metadata_name,
    seen,
    served,
)

versions = st.integers(1, 6)
keys = st.sets(st.sampled_from("abc"), min_size=1).map(tuple)
hours = st.integers(0, 60)


@st.composite
def shown_states(draw: st.DrawFn) -> Seen:
    return Seen(
        root=draw(versions),
        timestamp=Shown(draw(versions), draw(keys), draw(st.integers(1, 2))),
        snapshot=Shown(draw(versions), draw(keys), draw(st.integers(1, 2))),
        roles=draw(st.dictionaries(st.sampled_from(["targets", "models-a"]), versions, min_size=1)),
        issued_s=tuple(draw(st.lists(hours, max_size=2))),
        expires_s=tuple(draw(st.lists(st.integers(1, 60), min_size=4, max_size=4))),
    )


nows = st.builds(Now, hours, st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(shown_states(), nows), max_size=12))
def test_a_memory_only_rises(history: list[tuple[Seen, Now]]) -> None:
    memory = Memory()
    for shown, now in history:
        try:
            after = seen(memory, shown, now)
        except Refused as error:
            if error.code != "rollback":
                raise
            continue
        assert after.root >= memory.root
        assert after.time_s >= memory.time_s
        for old, new in ((memory.timestamp, after.timestamp), (memory.snapshot, after.snapshot)):
            assert (new.reign, new.version) >= (old.reign, old.version)
        if after.snapshot.reign == memory.snapshot.reign:
            assert all(after.roles[name] >= version for name, version in memory.roles.items())
        assert judged_s(after, now) >= judged_s(memory, now)
        assert msgspec.json.decode(msgspec.json.encode(after), type=Memory) == after
        memory = after


@settings(max_examples=60, deadline=None)
@given(shown_states(), nows, st.integers(0, 60))
def test_the_floor_of_time_stays_below_the_first_expiry(
    shown: Seen, now: Now, floor_s: int
) -> None:
    after = seen(Memory(time_s=floor_s), shown, now)
    assert after.time_s == floor_s or after.time_s < min(shown.expires_s)


@settings(max_examples=60, deadline=None)
@given(shown_states(), nows)
def test_a_reign_ends_only_when_too_few_of_its_keys_are_left(shown: Seen, now: Now) -> None:
    before = seen(Memory(), shown, now)
    low = Shown(0, shown.timestamp.keys, len(shown.timestamp.keys))
    with pytest.raises(Refused, match="timestamp: expected version"):
        seen(before, msgspec.structs.replace(shown, timestamp=low), now)
    rotated = msgspec.structs.replace(shown, timestamp=Shown(0, ("z",), 1))
    assert seen(before, rotated, now).timestamp.reign == 1


def test_the_clock_counts_only_when_something_disciplines_it() -> None:
    shown = Seen(
        root=1, timestamp=Shown(1, ("a",), 1), snapshot=Shown(1, ("a",), 1), roles={"targets": 1},
        issued_s=(10,), expires_s=(100, 100, 100, 100),
    )  # fmt: skip
    assert seen(Memory(), shown, Now(50, synced=False)).time_s == 10
    assert seen(Memory(), shown, Now(50, synced=True)).time_s == 50
    assert seen(Memory(), shown, Now(4_102_444_800, synced=True)).time_s == 10
    assert judged_s(Memory(time_s=50), Now(0)) == 50


def test_serials_only_rise_and_are_bounded() -> None:
    memory = served(Memory(), "desired/a.json", 7)
    assert served(memory, "desired/a.json", 7) == memory
    with pytest.raises(Refused, match="expected serial 7 or higher, got 6"):
        served(memory, "desired/a.json", 6)
    assert served(memory, "desired/b.json", 1).serials == {"desired/a.json": 7, "desired/b.json": 1}
    for number in range(MAX_SERIALS - 1):
        memory = served(memory, f"desired/n{number}.json", 1)
    with pytest.raises(Refused, match="expected at most") as raised:
        served(memory, "desired/one-more.json", 1)
    assert raised.value.code == "bounds"


def test_more_roles_than_the_memory_holds_are_refused() -> None:
    shown = Seen(
        root=1, timestamp=Shown(1, ("a",), 1), snapshot=Shown(1, ("a",), 1),
        roles={f"r{n}": 1 for n in range(513)}, expires_s=(100,),
    )  # fmt: skip
    with pytest.raises(Refused, match="at most 512 roles"):
        seen(Memory(), shown, Now(0))


def test_every_code_says_what_to_do() -> None:
    assert set(HINTS) == set(CODES)
    for code in HINTS:
        assert str(Refused(code, "look")).startswith("look -> ")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("signed", "name"),
    [
        ({"_type": "root", "version": 3}, "3.root.json"),
        ({"_type": "timestamp", "version": 3}, "timestamp.json"),
        ({"_type": "targets", "version": 3}, "3.targets.json"),
        ({"_type": "targets", "version": 4, "role": "models-a"}, "4.models-a.json"),
        ({"_type": "root", "version": 4, "role": "models-a"}, "4.root.json"),
    ],
)
def test_metadata_has_the_name_under_which_a_repository_holds_it(
    signed: dict[str, object], name: str
) -> None:
    assert metadata_name(json.dumps({"signatures": [], "signed": signed}).encode()) == name


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"signed":{"_type":"targets","version":0}}',
        b'{"signed":{"_type":"elsewhere","version":1}}',
        b'{"signed":{"_type":"targets","version":1,"role":"../../etc/x"}}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_metadata_gets_no_name(content: bytes) -> None:
    with pytest.raises(Rejected, match="name metadata"):
        metadata_name(content)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_a_checked_path_stays_below_its_folder(path: str) -> None:
    try:
        checked_path(path)
    except Refused:
        return
    assert ".." not in path.split("/")
    assert not path.startswith("/")
    assert path.isascii()
    assert path.isprintable()
