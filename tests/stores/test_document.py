from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.core.errors import Damaged, Rejected
from edge_agent.stores.document import Document
from edge_agent.stores.handover import MAX_FILES, HandOver


def test_a_document_that_was_never_written_is_none(tmp_path: Path) -> None:
    assert Document(tmp_path, "memory").read() is None


def test_what_was_written_last_is_read(tmp_path: Path) -> None:
    document = Document(tmp_path, "memory")
    for content in (b'{"a":1}', b'{"a":2}'):
        document.write(content)
        assert Document(tmp_path, "memory").read() == content


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["memory.json", "memory.copy.json"]), st.integers(0, 10**6), st.binary())
def test_one_copy_may_rot(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("document")
    document = Document(folder, "memory")
    document.write(b'{"root":11}')
    path = folder / name
    sound = path.read_bytes()
    path.write_bytes(sound[: at % len(sound)] + junk)
    assert document.read() == b'{"root":11}'
    document.write(b'{"root":12}')
    assert path.read_bytes() != sound[: at % len(sound)] + junk


def test_two_damaged_copies_are_damage_and_not_nothing(tmp_path: Path) -> None:
    document = Document(tmp_path, "memory")
    document.write(b"{}")
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(b"{", b'{"a":1,'))
    with pytest.raises(Damaged, match="both copies") as caught:
        document.read()
    assert caught.value.healable
    (tmp_path / "memory.json").unlink()
    with pytest.raises(Damaged):
        document.read()


def test_a_file_in_place_of_the_folder_is_put_aside_and_stays(tmp_path: Path) -> None:
    (tmp_path / "place").write_text("a file where the folder should be")
    Document(tmp_path / "place", "memory").write(b"{}")
    assert Document(tmp_path / "place", "memory").read() == b"{}"
    assert [one.read_text()[:6] for one in tmp_path.glob("place.aside.*")] == ["a file"]


def test_a_link_that_leads_nowhere_is_left_for_its_disk_to_come_back(tmp_path: Path) -> None:
    (tmp_path / "place").symlink_to(tmp_path / "not mounted" / "place")
    with pytest.raises(Damaged, match=r"write memory.json"):
        Document(tmp_path / "place", "memory").write(b"{}")
    assert (tmp_path / "place").is_symlink()


def test_a_folder_in_place_of_a_copy_is_put_aside_and_stays(tmp_path: Path) -> None:
    for name in ("memory.json", "memory.copy.json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "something").write_text("of somebody")
    Document(tmp_path, "memory").write(b'{"a":1}')
    assert Document(tmp_path, "memory").read() == b'{"a":1}'
    assert len(list(tmp_path.glob("memory*.damaged.*/something"))) == 2


def metadata(role: str, version: int) -> bytes:
    return b'{"signed":{"_type":"targets","role":"%s","version":%d}}' % (role.encode(), version)


def test_handed_over_metadata_lies_where_a_repository_has_it(tmp_path: Path) -> None:
    hand = HandOver(tmp_path / "handover")
    assert hand.put(metadata("models-a", 3)) == "3.models-a.json"
    assert hand.put(metadata("models-a", 3)) == "3.models-a.json"
    path = hand.folder / "metadata" / "3.models-a.json"
    assert path.read_bytes() == metadata("models-a", 3)


def test_handed_over_junk_is_bounded(tmp_path: Path) -> None:
    hand = HandOver(tmp_path / "handover")
    for number in range(MAX_FILES + 6):
        hand.put(metadata(f"r{number}", 1))
    assert len(list((hand.folder / "metadata").iterdir())) == MAX_FILES
    for junk in (b"", b"x", bytes(300_000), b'{"signed":{"_type":"../x","version":1}}'):
        with pytest.raises(Rejected):
            hand.put(junk)


def test_messages_that_come_together_are_all_kept(tmp_path: Path) -> None:
    """Found in a demo: one looked at the file that another was about to rename."""
    hand = HandOver(tmp_path / "handover")
    contents = [metadata(f"r{number % 20}", number) for number in range(1, 101)]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(hand.put, contents))
    assert len(set(names)) == 100
    assert len(list((tmp_path / "handover" / "metadata").iterdir())) == MAX_FILES
