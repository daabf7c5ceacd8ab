"""Downloads over cuts, deaths, bad sources and bad disks: whole in the end, or a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.core.chunks import read_table, write_table
from edge_agent.core.errors import LinkDown, Rejected
from edge_agent.links.blobs import MAX_EMPTY_PIECES, Download, Fetch, Source
from tests.links.hosts import CONTENT, KIB, Host, flipped, opened, sha, table_of


def test_a_file_comes_whole_and_is_not_fetched_again(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with opened(tmp_path / "d") as download:
        assert download.missing() == list(range(11))
        path = download.run(Host(), told=lambda have, of: told.append((have, of)))
        assert path.read_bytes() == CONTENT
        assert download.missing() == []
    assert told[0] == (KIB, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))
    with opened(tmp_path / "d") as again:
        assert again.run(lambda *_: pytest.fail("asked again")).read_bytes() == CONTENT


def test_a_cut_within_a_chunk_costs_not_one_byte(tmp_path: Path) -> None:
    host = Host()
    fetched = 0
    for cut in (1500, 700, 3333):
        host.cut_after = cut
        with opened(tmp_path / "d") as download:  # a new one, as after the death of the process
            with pytest.raises(LinkDown, match=r"source 1: the cable was pulled"):
                download.run(host)
            fetched += download.fetched_bytes
    with opened(tmp_path / "d") as download:
        assert download.run(host).read_bytes() == CONTENT
        assert fetched + download.fetched_bytes == len(CONTENT)


def test_a_bad_chunk_names_its_source_and_comes_from_the_next(tmp_path: Path) -> None:
    bad, good = Host(flipped(CONTENT, 2500)), Host()
    with opened(tmp_path / "d") as download:
        path = download.run(Source("usb", bad), Source("https", good))
        assert path.read_bytes() == CONTENT
        assert download.blamed == {"usb": "another chunk 3"}
    assert max(bad.asked)[0] == 2 * KIB  # what it said afterwards was not asked for
    assert min(good.asked)[0] == 2 * KIB


def test_a_source_is_not_blamed_for_what_another_one_began(tmp_path: Path) -> None:
    liar, honest = Host(flipped(CONTENT, 10)), Host()
    liar.cut_after = 500
    with opened(tmp_path / "d") as download:
        path = download.run(Source("liar", liar), Source("honest", honest))
        assert path.read_bytes() == CONTENT
        assert "honest" not in download.blamed
        assert download.fetched_bytes <= len(CONTENT) + 500 + KIB


def test_when_every_source_lies_all_are_named(tmp_path: Path) -> None:
    hosts = [Source(name, Host(flipped(CONTENT, 5))) for name in ("usb", "https")]
    with opened(tmp_path / "d") as download:
        with pytest.raises(Rejected, match=r"usb sent another chunk 1; https sent another") as told:
            download.run(*hosts)
        assert "publish the package again" in told.value.hint
        with pytest.raises(LinkDown, match="there is no source"):
            download.run()


def test_endless_data_ends_where_it_should(tmp_path: Path) -> None:
    given = 0

    def endless(offset: int, most: int) -> Iterator[bytes]:
        nonlocal given
        del most
        while True:
            given += 1
            yield CONTENT[offset : offset + 200]
            offset += 200

    with opened(tmp_path / "d") as download:
        assert download.run(endless).read_bytes() == CONTENT
        assert download.fetched_bytes == len(CONTENT)
    assert given <= 11 * (KIB // 200 + 1)


def test_a_source_that_sends_more_than_was_asked_is_cut(tmp_path: Path) -> None:
    with opened(tmp_path / "d") as download:
        assert download.run(lambda at, _: iter([CONTENT[at:] * 3])).read_bytes() == CONTENT
        assert download.fetched_bytes == len(CONTENT)


def silent(_: int, __: int) -> Iterator[bytes]:
    while True:
        yield b""


@pytest.mark.parametrize(
    ("fetch", "why"),
    [
        (lambda _, __: iter([b"short"]), "ended after 5 of 1024 bytes"),
        (silent, f"{MAX_EMPTY_PIECES + 1} empty pieces"),
    ],
)
def test_a_source_that_dries_up_is_away(tmp_path: Path, fetch: Fetch, why: str) -> None:
    with opened(tmp_path / "d") as download, pytest.raises(LinkDown, match=why):
        download.run(fetch)


def test_without_a_table_a_file_resumes_by_offset(tmp_path: Path) -> None:
    host = Host()
    host.cut_after = 4321
    with opened(tmp_path / "d", table=False) as download, pytest.raises(LinkDown):
        download.run(host)
    with opened(tmp_path / "d", table=False) as download:
        assert download.run(host).read_bytes() == CONTENT
    assert host.asked == [(0, len(CONTENT)), (4321, len(CONTENT) - 4321)]


def test_without_a_table_a_wrong_file_comes_from_the_next_source(tmp_path: Path) -> None:
    with opened(tmp_path / "d", table=False) as download:
        path = download.run(Source("bad", Host(flipped(CONTENT, 9))), Source("good", Host()))
        assert path.read_bytes() == CONTENT
        assert list(download.blamed) == ["bad"]


def test_an_empty_file_needs_no_source(tmp_path: Path) -> None:
    with opened(tmp_path / "d", b"") as download:
        assert download.run().read_bytes() == b""


def test_what_the_disk_lost_comes_again(tmp_path: Path) -> None:
    host = Host()
    with opened(tmp_path / "d") as download:
        path = download.run(host)
    path.write_bytes(flipped(CONTENT, 3 * KIB))
    host.asked.clear()
    with opened(tmp_path / "d") as download:
        assert download.run(host).read_bytes() == CONTENT
    assert host.asked == [(3 * KIB, KIB)]
    path.unlink()
    with opened(tmp_path / "d") as download:
        assert download.run(host).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [0, 3, 40, 70, 78])
def test_marks_that_were_torn_cost_chunks_never_the_file(tmp_path: Path, left: int) -> None:
    with opened(tmp_path / "d") as download:
        download.run(Host())
    have = tmp_path / "d" / "have"
    have.write_bytes(have.read_bytes()[:left])
    with opened(tmp_path / "d") as download:
        assert download.run(Host()).read_bytes() == CONTENT


def test_a_lost_mark_costs_one_chunk(tmp_path: Path) -> None:
    with opened(tmp_path / "d") as download:
        download.run(Host())
    have = tmp_path / "d" / "have"
    marks = bytearray(have.read_bytes())
    marks[-3] = 0
    have.write_bytes(marks)
    with opened(tmp_path / "d") as download:
        assert download.missing() == [8]
        download.run(Host())
        assert download.fetched_bytes == KIB


def test_another_file_in_the_same_folder_starts_anew(tmp_path: Path) -> None:
    other = bytes(5000)
    with opened(tmp_path / "d") as download:
        download.run(Host())
    with opened(tmp_path / "d", other) as download:
        assert len(download.missing()) == 5
        assert download.run(Host(other)).read_bytes() == other


def test_a_table_of_another_file_is_refused(tmp_path: Path) -> None:
    content = flipped(CONTENT, 77)
    with (
        Download(
            tmp_path / "d", length=len(CONTENT), sha256=sha(CONTENT), chunks=table_of(content)
        ) as download,
        pytest.raises(Rejected, match="its chunk table is not its own"),
    ):
        download.run(Host(content))
    with pytest.raises(Rejected, match="expected a table of 3 bytes"):
        Download(tmp_path / "e", length=3, sha256=sha(b"abc"), chunks=table_of())


def test_tables_are_as_long_as_their_file() -> None:
    table = table_of()
    assert read_table(table.hashes, length=len(CONTENT), chunk_bytes=KIB) == table
    assert write_table([CONTENT[at : at + 7] for at in range(0, len(CONTENT), 7)], KIB) == table
    for raw, length in ((table.hashes[:-1], len(CONTENT)), (table.hashes, 5), (b"", 1 << 60)):
        with pytest.raises(Rejected, match="read chunk table"):
            read_table(raw, length=length, chunk_bytes=KIB)
