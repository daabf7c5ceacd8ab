"""The file of a model package (`.eam`): a plain tar that has one form, so that its hash is its id.

    header of 512 bytes | content | zeros to 512      for each file, names ascending
    two blocks of zeros | zeros to 10240              and nothing behind them

A reader makes each header again from the name and size that it read: what differs by one bit is
another file, and refused. So there are no links, folders, owners, times or extended headers to
mistrust. Pure: bytes come from a function, and go to whoever asks for the next piece.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import Manifest

MANIFEST = "manifest.toml"
SUFFIX = ".eam"
MAX_PACKAGE_BYTES = 2 << 30
MAX_FILE_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILES = 64
PIECE_BYTES = 1 << 20

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(_BLOCK)
_SHA = re.compile(r"[0-9a-f]{64}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KINDS = {
    b"1": "a hard link",
    b"2": "a link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
    b"g": "an extended header",
    b"x": "an extended header",
    b"L": "a long name",
    b"K": "a long link",
    b"S": "a sparse file",
}
REPACK = "pack it again: python -m tools.hot_tier pack"

Take = Callable[[int], bytes]  # at most so many bytes; none at the end


class Member(NamedTuple):
    name: str
    size_bytes: int


class Piece(NamedTuple):
    """A part of one file, in order; each file has at least one."""

    member: Member
    content: bytes


def is_sha(word: str) -> bool:
    """Whether it is an id of a package: 64 digits of lower-case hex."""
    return _SHA.fullmatch(word) is not None


def is_plain(name: str) -> bool:
    """Whether a file of a package may have this name."""
    return _PLAIN.fullmatch(name) is not None


# ── write ─────────────────────────────────────────────────────────────────────────────────────


def names_of(manifest: Manifest) -> list[str]:
    """The files of a package, as they stand in its tar.

    Raises: Rejected when one can't be in a tar of the one form.
    """
    named = {MANIFEST}
    for variant in manifest.variants:
        named |= {variant.file, variant.golden}
    for name in sorted(named):
        if not is_plain(name):
            raise Rejected(
                f"pack model {manifest.name}: file {name[:120]!r}: expected a name of at most "
                "100 letters, digits and `._-`",
                hint="rename the file, in the manifest too",
            )
    if len(named) > MAX_FILES:
        raise Rejected(f"pack model {manifest.name}: expected {MAX_FILES} files, got {len(named)}")
    return sorted(named)


def header(name: str, size_bytes: int) -> bytes:
    """The block before a file."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size_bytes, 0o644, 0
    return entry.tobuf(format=tarfile.USTAR_FORMAT)


def padding(size_bytes: int) -> bytes:
    """The zeros behind a file."""
    return bytes(-size_bytes % _BLOCK)


def ending(length_bytes: int) -> bytes:
    """What closes a tar whose files take so much."""
    return bytes(2 * _BLOCK + -(length_bytes + 2 * _BLOCK) % tarfile.RECORDSIZE)


def length_of(sizes: Iterable[int]) -> int:
    """How long the tar of files of these sizes is."""
    files = sum(_BLOCK + size + -size % _BLOCK for size in sizes)
    return files + len(ending(files))


# ── read ──────────────────────────────────────────────────────────────────────────────────────


def read(take: Take, *, max_bytes: int = MAX_PACKAGE_BYTES) -> Iterator[Piece]:
    """Every file in pieces, to the last byte of the tar. What came is right only when it ended.

    Raises: Rejected as soon as something is not as it has to be.
    """
    last, count, length = "", 0, 0
    while (block := _exactly(take, _BLOCK, "a header")) != _END:
        member = _member(block, last)
        count += 1
        length += _BLOCK + member.size_bytes + len(padding(member.size_bytes))
        if count > MAX_FILES:
            raise Rejected(f"read package: expected at most {MAX_FILES} files", hint=REPACK)
        if length > max_bytes:
            raise Rejected(f"read package: expected at most {max_bytes} bytes, got more")
        yield from _content(take, member)
        last = member.name
    if _exactly(take, len(ending(length)) - _BLOCK, "its end").strip(b"\0") or take(1):
        raise Rejected("read package: expected zeros at its end and nothing else", hint=REPACK)


def check_members(manifest: Manifest, members: Sequence[Member]) -> None:
    """A package holds what its manifest names, all of it and nothing else.

    Raises: Rejected.
    """
    wanted, got = set(names_of(manifest)), {member.name for member in members}
    if wanted != got:
        missing = ", ".join(sorted(wanted - got)) or "nothing"
        surplus = ", ".join(sorted(got - wanted)) or "nothing"
        raise Rejected(
            f"read package {manifest.name} {manifest.version}: expected the files that its "
            f"manifest names; missing: {missing}; not named: {surplus}",
            hint=REPACK,
        )


def _content(take: Take, member: Member) -> Iterator[Piece]:
    left = member.size_bytes
    while left or member.size_bytes == 0:
        content = _exactly(take, min(left, PIECE_BYTES), f"file {member.name}")
        left -= len(content)
        yield Piece(member, content)
        if not left:
            break
    filler = padding(member.size_bytes)
    if _exactly(take, len(filler), f"the padding of {member.name}") != filler:
        raise Rejected(f"read package: file {member.name}: expected zeros behind it", hint=REPACK)


def _member(block: bytes, last: str) -> Member:
    """Raises: Rejected with what the header says instead."""
    name = block[:100].split(b"\0")[0].decode("latin-1")
    if not block.startswith(b"ustar", 257):
        raise Rejected("read package: expected a tar, got something else", hint="is this a .eam?")
    kind = block[156:157]
    if kind != b"0":
        what = _KINDS.get(kind, f"an entry of kind {kind!r}")
        raise Rejected(f"read package: {name!r}: expected a file, got {what}", hint=REPACK)
    if block[345:500].strip(b"\0") or not is_plain(name):
        raise Rejected(
            f"read package: expected plain names of files, got {name!r}", hint="do not install it"
        )
    if name <= last:
        what = "is there twice" if name == last else f"comes after {last!r}"
        raise Rejected(f"read package: expected names in ascending order, {name!r} {what}")
    member = Member(name, _size(block, name))
    if block != header(*member):
        raise Rejected(
            f"read package: file {name}: expected a header without owner, time or rights",
            hint=REPACK,
        )
    return member


def _size(block: bytes, name: str) -> int:
    field = block[124:136].rstrip(b"\0 ")
    size = int(field, 8) if re.fullmatch(rb"[0-7]{1,11}", field) else -1
    bound = MAX_MANIFEST_BYTES if name == MANIFEST else MAX_FILE_BYTES
    if not 0 <= size <= bound:
        got = f"{size}" if size >= 0 else repr(field)
        raise Rejected(f"read package: file {name}: expected at most {bound} bytes, got {got}")
    return size


def _exactly(take: Take, size_bytes: int, what: str) -> bytes:
    """Raises: Rejected when the tar ends before."""
    parts, left = [], size_bytes
    while left:
        part = take(left)
        if not part:
            raise Rejected(
                f"read package: cut off in {what}: {left} of {size_bytes} bytes are missing",
                hint="fetch it again",
            )
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
