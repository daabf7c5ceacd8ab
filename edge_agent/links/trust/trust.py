"""The order of things: ask each source, remember, look up, compare."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, final

import msgspec

from edge_agent.core import desired
from edge_agent.core.errors import Damaged, LinkDown, Overloaded, Rejected
from edge_agent.core.trust import Memory, Now, Refused, checked_path, seen, served
from edge_agent.links import aside
from edge_agent.links.fetch import NotHere, Source, Sources
from edge_agent.links.trust.session import Carrier, Session
from edge_agent.links.trust.terms import (
    LAST_S,
    Blob,
    Limits,
    Refreshed,
    Target,
    Trouble,
    checked,
    disk,
    other,
    unequal,
)
from edge_agent.ports import Clock, StateFile

HISTORY: Final = "root_history"  # a folder of `tuf.ngclient`
MAX_FILES: Final = 4096
MAX_HELD_BYTES: Final = 64 << 20  # of a target that is read into memory


@final
class Trust:
    """One process at a time per folder. bootstrap: root metadata that came by a road one trusts.

    memory: outlives the folder; see `core.trust`.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: bytes,
        sources: Sources,
        *,
        memory: StateFile,
        clock: Clock,
        limits: Limits | None = None,
    ) -> None:
        """Raises: Overloaded when another process is at it; Refused `bootstrap`; Damaged."""
        self._folder = folder / "metadata"
        self._bootstrap = bootstrap
        self._sources = sources
        self._file = memory
        self._clock = clock
        self._limits = limits or Limits()
        self._settled: Session | None = None
        self._served: list[Source] = list(sources.order)  # those that served come first
        self._lock = _locked(folder)
        try:
            self._memory = _recalled(memory)
            with disk(self._folder):
                aside.no_folder(self._folder)
                self._folder.mkdir(exist_ok=True, mode=0o700)
                put_aside(self._folder)
            self._session(self._served[0])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Trust:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def memory(self) -> Memory:
        return self._memory

    def refresh(self) -> Refreshed:
        """The newest state that any source shows and that may be believed.

        Raises: Refused when what they show is wrong, LinkDown when none shows anything; what was
        known stays. Damaged.
        """
        self._settled = None
        failed: list[Refused | LinkDown] = []
        troubles: list[Trouble] = []
        served: list[Source] = []
        for source in self._sources.order:
            try:
                session = self._session(source)
                session.refresh()
                self._remember(seen(self._memory, session.shown(), session.now))
                served.append(source)
            except (Refused, LinkDown) as error:
                failed.append(error)
                code = error.code if isinstance(error, Refused) else "down"
                troubles.append(Trouble(source.name, code, error.what, error.hint))
        if not served:
            raise worst(failed)
        others = [source for source in self._sources.order if source not in served]
        self._served = [*served, *others]
        settled = self._settle(self._served[0])
        self._remember(seen(self._memory, settled.shown(), settled.now))
        self._settled = settled
        return settled.refreshed(tuple(troubles))

    def target(self, path: str) -> Target:
        """What was signed of it, by whoever may sign for this path. `refresh` comes first.

        Raises: Refused, LinkDown, Damaged.
        """
        checked_path(path)
        if self._settled is None:
            raise RuntimeError("target: expected a refresh before it")
        failed: list[Refused | LinkDown] = []
        for session in self._sessions():
            try:
                return session.target(path)
            except (Refused, LinkDown) as error:
                if isinstance(error, Refused) and error.code == "unknown-target":
                    raise  # signed roles were read, and none knows it
                failed.append(error)
        raise worst(failed)

    def read(self, path: str, max_bytes: int, *, content: bytes | None = None) -> bytes:
        """A small target, verified. content: it came already, by another road.

        Raises: Refused, LinkDown, Damaged.
        """
        target = self.target(path)
        if target.length > max_bytes:
            raise Refused(
                "bounds", f"read {path}: expected at most {max_bytes} bytes, got {target.length}"
            )
        if content is not None:
            return checked(path, content, target.length, target.sha256)
        return self.blob(Blob(url=target.url, length=target.length, sha256=target.sha256))

    def blob(self, blob: Blob) -> bytes:
        """A small file whose hash a signed target names: a table of chunks, a delta.

        Raises: Refused when no source has the right one; LinkDown.
        """
        url, length = blob.url, blob.length
        if length > MAX_HELD_BYTES:
            raise Refused("bounds", f"read {url}: expected at most {MAX_HELD_BYTES} bytes")
        failed: list[Refused | LinkDown] = []
        for source in self._served:
            try:
                chunks = self._sources.ask(source, url, max_bytes=length + 1)
                return checked(url, b"".join(chunks), length, blob.sha256)
            except (Refused, LinkDown) as error:
                failed.append(error)
        raise worst(failed)

    def desired(self, path: str, *, content: bytes | None = None) -> bytes:
        """A desired state, verified and no older than any seen before; its serial is remembered.

        Only that of a document which this agent reads whole: one that it refuses may be corrected
        under whatever serial the publisher gives the correction.

        Raises: Refused, LinkDown, Damaged.
        """
        body = self.read(path, desired.MAX_BYTES, content=content)
        try:
            state = desired.read(body, path)
        except Rejected as error:
            raise Refused("malformed", error.what, hint=error.hint) from None
        self._remember(served(self._memory, path, state.serial))
        return body

    def verify(self, path: str, file: Path) -> Target:
        """That a file which was downloaded elsewhere is this target.

        Raises: Refused, LinkDown, Damaged when it cannot be read.
        """
        target = self.target(path)
        digest = hashlib.sha256()
        with disk(file), file.open("rb") as body:
            length = os.fstat(body.fileno()).st_size
            while length == target.length and (chunk := body.read(1 << 20)):
                digest.update(chunk)
        if length != target.length:
            raise unequal(path, target.length, length)
        if digest.hexdigest() != target.sha256:
            raise other(path, target.sha256, digest.hexdigest())
        return target

    # ── inside ────────────────────────────────────────────────────────────────────────────────

    def _session(self, source: Source, *, settled: bool = False) -> Session:
        offset_us, error_us = self._clock.utc_offset_us()
        clock_s = 0 if offset_us is None else (self._clock.boot_us() + offset_us) // 1_000_000
        now = Now(max(0, min(clock_s, LAST_S)), synced=error_us is not None)
        known = self._folder if settled else None
        carrier = Carrier(self._sources, source, self._limits, known)
        return Session(self._folder, self._bootstrap, carrier, self._memory, now)

    def _settle(self, source: Source) -> Session:
        """On what is known by now; no root and no timestamp is asked for."""
        session = self._session(source, settled=True)
        session.refresh()
        return session

    def _sessions(self) -> Iterator[Session]:
        """The one at hand; then, for a delegated role that is wrong there, source by source."""
        assert self._settled is not None
        yield self._settled
        for source in self._served[1:]:
            yield self._settle(source)

    def _remember(self, memory: Memory) -> None:
        if memory != self._memory:
            self._file.write(msgspec.json.encode(memory))
            self._memory = memory


def worst(failed: Sequence[Refused | LinkDown]) -> Refused | LinkDown:
    """What to tell of several failures: what is wrong, then what is down, then what is missing."""
    for kind in (Refused, LinkDown):
        for error in failed:
            if isinstance(error, kind) and not isinstance(error, NotHere):
                return error
    return failed[0]


def _recalled(file: StateFile) -> Memory:
    content = file.read()
    if content is None:
        return Memory()
    try:
        return msgspec.json.decode(content, type=Memory)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Damaged(f"read memory of tuf: {error}", hint="was it edited? restore it") from error


def put_aside(metadata: Path) -> None:
    """What is no file in the place of one. Raises: OSError."""
    history = metadata / HISTORY
    aside.no_folder(history)
    for folder in (metadata, history):
        for path in sorted(folder.glob("*.json"))[:MAX_FILES]:
            aside.no_file(path)


def _locked(folder: Path) -> int:
    with disk(folder):
        aside.no_folder(folder)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside.no_file(folder / "lock")
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise Overloaded(
            f"open {folder.name}: another installation is at it", hint="wait for it to end"
        ) from None
    return lock
