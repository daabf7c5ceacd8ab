"""The one door of the installer to the repository, and to packages that lie about as files."""

from __future__ import annotations

import errno
import hashlib
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import msgspec

from edge_agent.core import package
from edge_agent.core.errors import ConfigError, Overloaded, Rejected, of_system
from edge_agent.core.manifest import parse_manifest
from edge_agent.errands import Errand
from edge_agent.held import open_plain
from edge_agent.host import SystemClock
from edge_agent.links.fetch import FolderSource, HttpSource, Source, Sources
from edge_agent.stores.document import Document
from edge_agent.stores.files import read_bounded
from edge_agent.stores.handover import HandOver

if TYPE_CHECKING:
    from edge_agent.links.trust import Trust

MAX_ROOT_BYTES = 128_000
PIECE_BYTES = 1 << 20
METADATA = "metadata"
MAX_ABOVE = 8  # folders above a package in which its repository is looked for
TURN_TRIES, TURN_PAUSE_S = 240, 0.25
MEMORY, HANDED_OVER = "memory", "handover"

_toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


class Found(NamedTuple):
    """What a file says that it is; nothing of it is believed."""

    name: str
    version: str
    sha: str


@contextmanager
def opened(errand: Errand) -> Iterator[tuple[Trust, Sources]]:
    """The repository as this device sees it. Sticks first: who brings one wants it used.

    Raises: Refused, Overloaded, Damaged, ConfigError.
    """
    from edge_agent.links.trust import Trust  # noqa: PLC0415 - 33 MB, and only for this

    place = errand.place
    sources = Sources(_sources(errand))
    try:
        bootstrap = read_bounded(Path(place.root_file), MAX_ROOT_BYTES)
    except (OSError, Rejected) as error:
        not_ours = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EISDIR)
        if isinstance(error, OSError) and error.errno not in not_ours:
            raise of_system("read rollouts.root_file", error) from error
        words = error.what if isinstance(error, Rejected) else error.strerror
        raise ConfigError(
            "rollouts.root_file", f"read {place.root_file}: {words}",
            hint="copy the repository's 1.root.json there, as it was at enrolment",
        ) from error  # fmt: skip
    folder = Path(place.tuf)
    memory = Document(folder, MEMORY)
    for attempt in range(TURN_TRIES):
        try:
            trust = Trust(folder, bootstrap, sources, memory=memory, clock=SystemClock())
            break
        except Overloaded:  # another errand asks it; that takes seconds
            if attempt + 1 == TURN_TRIES:
                raise
            time.sleep(TURN_PAUSE_S)
    with trust:
        yield trust, sources


def _sources(errand: Errand) -> list[Source]:
    place = errand.place
    folders = [Path(folder) for folder in place.extra]
    found: list[Source] = [FolderSource(folder) for folder in folders if folder.is_dir()]
    found += [HttpSource(url, ca_file=place.ca_file or None) for url in place.repositories]
    return [*found, FolderSource(HandOver(Path(place.tuf) / HANDED_OVER).folder)]


# ── a package as a file ───────────────────────────────────────────────────────────────────────


def identify(file: Path) -> Found:
    """Raises: Rejected when it is no package; OSError."""
    digest, manifest = hashlib.sha256(), bytearray()
    with _plain(file) as body:

        def take(size_bytes: int) -> bytes:
            content = body.read(size_bytes)
            digest.update(content)
            return content

        for piece in package.read(take):
            if piece.member.name == package.MANIFEST:
                manifest += piece.content
    try:
        fields = _toml.loads(manifest.decode())
    except (_toml.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(f"read manifest of {file.name}: {error}", hint=package.REPACK) from None
    said = parse_manifest(fields, origin=file.name)
    return Found(said.name, said.version, digest.hexdigest())


def _plain(file: Path) -> BinaryIO:
    """Raises: Rejected, OSError."""
    try:
        return open_plain(file, doing="install")
    except (FileNotFoundError, NotADirectoryError):
        raise Rejected(
            f"install {file.name}: expected a file, got none", hint="name a .eam file"
        ) from None


def with_identity(errand: Errand, found: Found) -> Errand:
    """Asking for this package, first where the file came from.

    Raises: Rejected when it is another model than was named.
    """
    if errand.model and errand.model != found.name:
        raise Rejected(f"install: expected a package of {errand.model}, got one of {found.name}")
    above = repository_above(Path(errand.file))
    extra = (str(above), *errand.place.extra) if above else errand.place.extra
    return msgspec.structs.replace(
        errand, model=found.name, version=found.version, sha=found.sha,
        place=msgspec.structs.replace(errand.place, extra=extra),
    )  # fmt: skip


def repository_above(file: Path) -> Path | None:
    """The nearest folder around a file that has `metadata/`."""
    above = list(file.absolute().parents)[:MAX_ABOVE]
    return next((folder for folder in above if (folder / METADATA).is_dir()), None)


def copy(file: Path, tar: Path, say: Callable[..., None]) -> None:
    """In pieces. Whether it was the same all along, its hash says when it is installed."""
    done, of = 0, file.stat().st_size
    with _plain(file) as body, tar.open("wb") as into:
        while piece := body.read(PIECE_BYTES):
            done += into.write(piece)
            say("bytes", done=done, of=of)
