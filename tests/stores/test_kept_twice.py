"""A document kept twice: whatever fails, breaks off or rots, it is the old one or the new one."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Damaged, NoRoom, Overloaded
from edge_agent.stores.document import Document, sealed
from edge_agent.stores.papers import Papers
from tests.faults.failing import FailingDisk
from tests.faults.power import QuickDisk, RecordingDisk, cuts

OLD, NEW = b'{"serial":1}', b'{"serial":2,"pins":{"us-chamber":{"version":"1.0.0"}}}'
FIRST, COPY = "desired.json", "desired.copy.json"
JSON = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=4)
CONTENT = JSON.map(msgspec.json.encode)
SHORT = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE)
REFUSED = (*SHORT, errno.EROFS, errno.EIO, errno.EACCES)
Place = Callable[[], Path]


def whose(number: int) -> type[Exception]:
    """The class that an error of the kernel has for whoever acts on it."""
    if number in (errno.ENOSPC, errno.EDQUOT):
        return NoRoom
    return Overloaded if number in SHORT else Damaged


@pytest.fixture
def place(quick_place: Path) -> Place:
    numbers = iter(range(1 << 30))

    def new() -> Path:
        folder = quick_place / str(next(numbers))
        folder.mkdir()
        return folder

    return new


@settings(max_examples=60, deadline=None)
@given(content=CONTENT)
def test_the_first_copy_is_the_document_with_its_sum_as_the_last_field(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    Document(folder, "desired", disk=QuickDisk()).write(content)
    fields = json.loads((folder / FIRST).read_bytes())
    assert [*fields][-1] == "sha256"
    fields.pop("sha256")
    fields.update({key: one for key, one in json.loads(content).items() if key == "sha256"})
    assert fields == json.loads(content)
    assert (folder / FIRST).read_bytes() == (folder / COPY).read_bytes()
    assert Document(folder, "desired").read() == content


class Rot(NamedTuple):
    """A byte of one copy flips, or is the first that is cut off. is_alone: the other is gone."""

    name: str
    at: int
    flip: int
    is_cut: bool
    is_alone: bool


ROT = st.builds(
    Rot,
    st.sampled_from([FIRST, COPY]),
    st.integers(0, 1 << 16),
    st.integers(1, 255),
    st.booleans(),
    st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(content=CONTENT, rot=ROT)
def test_any_byte_that_flips_and_any_cut_is_noticed_and_survived(
    content: bytes, rot: Rot, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("twice")
    document = Document(folder, "desired", disk=QuickDisk())
    document.write(content)
    raw = bytearray((folder / rot.name).read_bytes())
    at = rot.at % len(raw)
    raw[at] ^= rot.flip
    (folder / rot.name).write_bytes(raw[:at] if rot.is_cut else raw)
    assert document.read() == content
    if rot.is_alone:
        (folder / (COPY if rot.name == FIRST else FIRST)).unlink()
        with pytest.raises(Damaged, match="both copies are damaged") as caught:
            document.read()
        assert caught.value.healable
        return
    document.mend()
    assert (folder / FIRST).read_bytes() == (folder / COPY).read_bytes() == sealed(content)


def damaged(folder: Path, how: str) -> None:
    """how: what is wrong with the pair before the write."""
    if how.startswith("rotten"):
        (folder / (FIRST if how.endswith("first") else COPY)).write_bytes(b'{"serial":')
    elif how.startswith("gone"):
        (folder / (FIRST if how.endswith("first") else COPY)).unlink()
    elif how == "plain":
        (folder / FIRST).write_bytes(OLD)
        (folder / COPY).unlink()
    elif how == "new":
        shutil.rmtree(folder)
        folder.mkdir()


BEFORE = ("sound", "rotten first", "rotten copy", "gone first", "gone copy", "plain", "new")


@pytest.mark.parametrize("before", BEFORE)
def test_the_power_goes_between_any_two_effects_of_a_write(before: str, place: Place) -> None:
    root, was, scratch = place(), place(), place()
    Document(root, "desired").write(OLD)
    damaged(root, before)
    shutil.copytree(root, was, dirs_exist_ok=True)
    disk = RecordingDisk()
    Document(root, "desired", disk=disk).write(NEW)
    count = 0
    for how, folder in cuts(root, was, disk.effects, scratch):
        found = Document(folder, "desired").read()
        assert found in ((None, NEW) if before == "new" else (OLD, NEW)), how
        Document(folder, "desired").write(NEW)
        assert Document(folder, "desired").read() == NEW, how
        (folder / FIRST).unlink()
        assert Document(folder, "desired").read() == NEW, how
        count += 1
    assert count > len(disk.effects)


@settings(max_examples=40, deadline=None)
@given(contents=st.lists(CONTENT, min_size=1, max_size=4), seed=st.integers(0, 1 << 16))
def test_any_sequence_of_writes_is_cut_off_anywhere(
    contents: list[bytes], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("twice")
    root, was, scratch = (place / name for name in ("root", "was", "scratch"))
    for folder in (root, was, scratch):
        folder.mkdir()
    disk = RecordingDisk()
    allowed: list[tuple[bytes | None, ...]] = [(None, contents[0])]
    for before, content in zip([None, *contents], contents, strict=False):
        Document(root, "desired", disk=disk).write(content)
        allowed += [(before, content)] * (len(disk.effects) - len(allowed) + 1)
    prefix = seed % (len(disk.effects) + 1)
    for how, folder in cuts(root, was, disk.effects[:prefix], scratch):
        length = int(folder.name.split("-")[0])
        assert Document(folder, "desired").read() in allowed[length], how
        shutil.rmtree(folder)


@pytest.mark.parametrize("number", REFUSED, ids=errno.errorcode.get)
@pytest.mark.parametrize("what", ["create", "write", "sync", "rename"])
@pytest.mark.parametrize("before", BEFORE)
def test_a_write_that_the_kernel_refuses_says_whose_fault_and_the_old_one_is_believed(
    before: str, what: str, number: int, place: Place
) -> None:
    folder = place()
    Document(folder, "desired").write(OLD)
    damaged(folder, before)
    first = 0
    while (disk := write_failing(folder, number, what, first)).failed:
        found = Document(folder, "desired").read()
        assert found == (None if before == "new" else OLD), disk.failed
        assert not list(folder.glob(".*")), disk.failed
        first += 1
    assert first > 0
    assert Document(folder, "desired").read() == NEW


def write_failing(folder: Path, number: int, what: str, first: int) -> FailingDisk:
    disk = FailingDisk(number, what, first=first, times=1)
    try:
        Document(folder, "desired", disk=disk).write(NEW)
    except (Overloaded, Damaged) as error:
        kind, words = type(error), error.what
    else:
        return disk
    assert kind is whose(number), disk.failed
    assert words.startswith("write desired.json: ")
    return disk


def test_a_folder_that_is_not_flushed_is_said_and_leaves_the_old_one_or_the_new_one(
    place: Place,
) -> None:
    folder = place()
    Document(folder, "desired").write(OLD)
    for first in range(2):
        disk = FailingDisk(errno.EIO, "sync_folder", first=first)
        with pytest.raises(Damaged, match="write desired"):
            Document(folder, "desired", disk=disk).write(NEW)
        assert Document(folder, "desired").read() == (OLD, NEW)[first]


@pytest.mark.parametrize("number", REFUSED, ids=errno.errorcode.get)
@pytest.mark.parametrize("which", [FIRST, COPY, "desired"])
def test_a_read_that_the_kernel_refuses_is_no_damage(which: str, number: int, place: Place) -> None:
    """Seen: one EMFILE at the start, and the operator's pin was put aside as damaged."""
    folder = place()
    Document(folder, "desired").write(OLD)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    short = FailingDisk(number, "read", times=2, only=which)
    assert Document(folder, "desired", disk=short).read() == OLD  # it was over in a moment
    assert short.paused_s <= 1
    long = FailingDisk(number, "read", only=which)
    document = Document(folder, "desired", disk=long)
    if which == "desired":
        with pytest.raises((Overloaded, Damaged), match="read desired") as caught:
            document.read()
        assert type(caught.value) is whose(number)
        assert not getattr(caught.value, "healable", False)
    else:
        assert document.read() == OLD
    assert long.paused_s <= 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_cannot_be_read_beside_a_rotten_copy_may_still_be_sound(place: Place) -> None:
    folder = place()
    Document(folder, "desired").write(OLD)
    for which, other in ((FIRST, COPY), (COPY, FIRST)):
        sound = (folder / other).read_bytes()
        (folder / other).write_bytes(b"\0\0")
        disk = FailingDisk(errno.EIO, "read", only=which)
        with pytest.raises(Damaged, match="read desired") as caught:
            Document(folder, "desired", disk=disk).read()
        assert not caught.value.healable
        (folder / other).write_bytes(sound)


def test_a_document_of_the_version_before_is_believed_until_it_is_written(place: Place) -> None:
    folder = place()
    for plain in (OLD, b'{"current":"%b","previous": "%b"}\n' % (b"ab" * 32, b"cd" * 32), b"{}"):
        (folder / FIRST).write_bytes(plain)
        assert Document(folder, "desired").read() == plain
    for junk in (b"", b"[1]", b"\0" * 40, b"null", b"\xff\xfe", b"[" * 100_000):
        (folder / FIRST).write_bytes(junk)
        with pytest.raises(Damaged, match="both copies"):
            Document(folder, "desired").read()
    Document(folder, "desired").write(NEW)
    (folder / FIRST).write_bytes(OLD)  # without a sum beside a copy that has one
    assert Document(folder, "desired").read() == NEW


def test_what_is_too_large_to_be_read_again_is_not_written(place: Place) -> None:
    document = Document(place(), "desired", max_bytes=100)
    document.write(b'{"a":"%b"}' % (b"x" * 92))
    with pytest.raises(Overloaded, match="expected at most 100 bytes, got 101"):
        document.write(b'{"a":"%b"}' % (b"x" * 93))
    found = document.read()
    assert found is not None
    assert len(found) == 100
    with pytest.raises(ValueError, match="expected a JSON object"):
        document.write(b"[]")


# ── papers ────────────────────────────────────────────────────────────────────────────────────


def test_papers_are_named_once_whatever_lies_in_their_folder(place: Place) -> None:
    folder = place()
    papers = Papers(folder / "rollouts", max_bytes=1000)
    assert (papers.names(), papers.aside(), papers.has_begun()) == ([], [], False)
    longest = "x" * 63
    for name in ("us-chamber", longest, "copy"):
        papers.write(name, OLD)
    for junk in (".us-chamber.json.0123abcd", "a.b.json", "UPPER.json", "us-plane.json.bak"):
        (folder / "rollouts" / junk).write_bytes(b"")
    assert papers.names() == ["copy", "us-chamber", longest]
    assert papers.has_begun()
    (folder / "rollouts" / "us-chamber.json").unlink()
    assert papers.names() == ["copy", "us-chamber", longest]
    papers.put_aside("us-chamber")
    assert (papers.names(), papers.aside()) == (["copy", longest], ["us-chamber"])
    assert papers.read("us-chamber") is None


def test_a_list_of_papers_that_cannot_be_had_is_no_empty_list(place: Place) -> None:
    folder = place()
    (folder / "rollouts").symlink_to("rollouts")
    papers = Papers(folder / "rollouts", max_bytes=1000)
    for asked in (papers.names, papers.aside, papers.has_begun):
        with pytest.raises(Damaged, match="rollouts"):
            asked()
