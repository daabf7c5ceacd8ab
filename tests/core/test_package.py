"""The one form of a package: what is packed is read, and what differs by a bit is refused."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.core import package
from edge_agent.core.errors import Rejected
from edge_agent.core.package import Member, Piece
from tests.backends import graphs

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}", fullmatch=True)
FILES = st.dictionaries(NAMES, st.binary(max_size=2000), max_size=6)


def tar_of(files: Iterable[tuple[str, bytes]]) -> bytes:
    """As it is written, in the order given."""
    content = b"".join(
        package.header(name, len(body)) + body + package.padding(len(body)) for name, body in files
    )
    return content + package.ending(len(content))


def read(content: bytes, *, at_once: int = 1 << 20, max_bytes: int = 1 << 20) -> dict[str, bytes]:
    stream = io.BytesIO(content)
    found: dict[str, bytes] = {}
    for piece in package.read(lambda n: stream.read(min(n, at_once)), max_bytes=max_bytes):
        found[piece.member.name] = found.get(piece.member.name, b"") + piece.content
    return found


def foreign(
    change: Callable[[tarfile.TarInfo], object], *, form: int = tarfile.USTAR_FORMAT
) -> bytes:
    """A tar of one file, whose entry somebody changed."""
    content = io.BytesIO()
    entry = tarfile.TarInfo("model.onnx")
    entry.size, entry.mode = 5, 0o644
    change(entry)
    with tarfile.open(fileobj=content, mode="w", format=form) as tar:
        tar.addfile(entry, io.BytesIO(b"12345") if entry.isreg() else None)
    return content.getvalue()


@given(FILES, st.integers(1, 700))
def test_what_is_packed_is_read_in_pieces_of_any_size(files: dict[str, bytes], step: int) -> None:
    content = tar_of(sorted(files.items()))
    assert read(content, at_once=step) == files
    assert package.length_of(len(body) for body in files.values()) == len(content)


@given(FILES)
def test_it_is_a_tar_for_everybody_else_too(files: dict[str, bytes]) -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_of(sorted(files.items())))) as tar:
        assert {m.name: tar.extractfile(m).read() for m in tar.getmembers()} == files  # type: ignore[union-attr]


@given(FILES, st.data())
def test_a_bit_that_is_turned_anywhere_is_refused_or_read_as_content(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    whole = tar_of(sorted(files.items()))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    turned = bytearray(whole)
    turned[bit // 8] ^= 1 << bit % 8
    try:
        found = read(bytes(turned))
    except Rejected:
        return
    assert tar_of(found.items()) == turned  # no two files that are read as the same


@given(FILES, st.data())
def test_what_is_cut_off_or_goes_on_is_refused(
    files: dict[str, bytes], data: st.DataObject
) -> None:
    whole = tar_of(sorted(files.items()))
    with pytest.raises(Rejected, match="cut off"):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(Rejected, match="nothing else"):
        read(whole + data.draw(st.binary(min_size=1, max_size=10)))


@given(st.binary(max_size=3000))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(Rejected):
        read(noise)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (foreign(lambda e: setattr(e, "name", "../model.onnx")), "files, got '../mod"),
        (foreign(lambda e: setattr(e, "name", "/etc/passwd")), "files, got '/etc/"),
        (foreign(lambda e: setattr(e, "name", "sub/model.onnx")), "plain names"),
        (foreign(lambda e: setattr(e, "name", ".hidden")), "plain names"),
        (foreign(lambda e: setattr(e, "name", "x" * 101), form=tarfile.PAX_FORMAT), "extended"),
        (foreign(lambda e: setattr(e, "name", "x" * 101), form=tarfile.GNU_FORMAT), "a long name"),
        (foreign(lambda e: setattr(e, "name", "a" * 90 + "/" + "b" * 90)), "plain names"),
        (foreign(lambda e: setattr(e, "type", tarfile.SYMTYPE)), "expected a file, got a link"),
        (foreign(lambda e: setattr(e, "type", tarfile.LNKTYPE)), "got a hard link"),
        (foreign(lambda e: setattr(e, "type", tarfile.DIRTYPE)), "got a folder"),
        (foreign(lambda e: setattr(e, "type", tarfile.CHRTYPE)), "got a device"),
        (foreign(lambda e: setattr(e, "type", tarfile.AREGTYPE)), "an entry of kind"),
        (foreign(lambda e: setattr(e, "mtime", 1)), "without owner, time or rights"),
        (foreign(lambda e: setattr(e, "uid", 1)), "without owner, time or rights"),
        (foreign(lambda e: setattr(e, "uname", "root")), "without owner, time or rights"),
        (foreign(lambda e: setattr(e, "mode", 0o4755)), "without owner, time or rights"),
        (tar_of([("b", b""), ("a", b"")]), "'a' comes after 'b'"),
        (tar_of([("a", b""), ("a", b"")]), "'a' is there twice"),
        (package.header("a", package.MAX_FILE_BYTES + 1), "expected at most 1073741824 bytes"),
        (package.header("manifest.toml", (1 << 20) + 1), "expected at most 1048576 bytes"),
        (package.header("a", 2 << 20), "expected at most 1048576 bytes, got more"),
        (tar_of([(f"{n:03}", b"") for n in range(65)]), "at most 64 files"),
        (b"PK\3\4" + bytes(1000), "expected a tar"),
        (tar_of([("a", b"1")]).replace(b"1" + bytes(9), b"1\1" + bytes(8)), "zeros behind"),
    ],
)  # fmt: skip
def test_what_no_packer_of_ours_writes_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        read(content)


def test_a_file_comes_in_pieces_that_fit_into_memory() -> None:
    whole = tar_of([("a", b""), ("b", bytes((5 << 20) + 1))])
    stream = io.BytesIO(whole)
    pieces = list(package.read(stream.read))
    assert [len(piece.content) for piece in pieces] == [0, *[1 << 20] * 5, 1]
    assert pieces[0] == Piece(Member("a", 0), b"")


def test_a_package_holds_what_its_manifest_names_and_nothing_else() -> None:
    manifest = graphs.manifest()
    names = package.names_of(manifest)
    assert names == ["golden.npz", "manifest.toml", "model.onnx"]
    package.check_members(manifest, [Member(name, 1) for name in names])
    wrong = [Member(name, 1) for name in ("manifest.toml", "model.onnx", "run.sh")]
    with pytest.raises(Rejected, match=r"missing: golden\.npz; not named: run\.sh"):
        package.check_members(manifest, wrong)


def test_a_name_that_no_tar_of_the_one_form_can_hold_is_refused_before_packing() -> None:
    for name in ("m" * 101, "modèle.onnx", "a b.onnx", "a\nb"):
        manifest = graphs.manifest(variants=[{"name": "fp32", "file": name}])
        with pytest.raises(Rejected, match="at most 100 letters"):
            package.names_of(manifest)
