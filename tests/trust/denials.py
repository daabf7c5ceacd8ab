"""How a refusal is looked at, and how a repository is falsified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from edge_agent.core.trust import Memory, Refused
from edge_agent.links.fetch import FolderSource, Source
from edge_agent.links.trust import Trust
from tests.trust.site import MODEL, Site


class Falsified:
    """A source between the device and the repository. changed: content by path, given the real."""

    name = "somebody between"

    def __init__(self, folder: Path, **changed: Any) -> None:
        self._real = FolderSource(folder)
        self._changed = changed

    def open(self, path: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
        for part, change in self._changed.items():
            if part in path.replace("-", "_"):
                yield from change(b"".join(self._real.open(path, offset=0, max_bytes=1 << 30)))
                return
        yield from self._real.open(path, offset=offset, max_bytes=max_bytes)


@contextmanager
def refused(site: Site, code: str, *sources: Source | Path, match: str = ".") -> Iterator[Trust]:
    """The block is refused with this code; the device knows what it knew, and goes on with it."""
    before = site.knows()
    with site.device(*sources) as trust:
        with pytest.raises(Refused, match=match) as raised:
            yield trust
        assert raised.value.code == code, raised.value
        assert raised.value.hint
        assert_no_less(before, trust.memory)
    assert_no_less(before, site.knows())


def assert_no_less(before: Memory, after: Memory) -> None:
    assert after.root >= before.root
    assert after.time_s >= before.time_s
    assert after.serials == before.serials
    assert after.timestamp.version >= before.timestamp.version
    assert after.snapshot.version >= before.snapshot.version
    assert all(after.roles[name] >= version for name, version in before.roles.items())


def serves(site: Site, path: str) -> None:
    """The honest repository still serves this device."""
    with site.device() as trust:
        trust.refresh()
        assert trust.read(path, 1 << 20) == MODEL


def sign_as(site: Site, name: str, signer: CryptoSigner) -> None:
    """What is signed in this file of metadata now, signed by that key alone."""
    path = site.folder / "metadata" / name
    metadata: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
    metadata.signatures.clear()
    metadata.sign(signer)
    path.write_bytes(metadata.to_bytes())


def sign_above(site: Site, changed: str) -> None:
    """Snapshot and timestamp of this changed file, by the real online keys."""
    version, role, _ = changed.split(".")
    body = (site.folder / "metadata" / changed).read_bytes()
    draft = site.house.open()
    meta = draft._snapshot.signed.meta[f"{role}.json"]
    fresh = type(meta).from_data(int(version), body, ["sha256"])
    draft._snapshot.signed.meta[f"{role}.json"] = fresh
    draft.commit()
