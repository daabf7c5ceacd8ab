"""One look at the repository through `tuf.ngclient`, its errors translated at once.

The two things that ngclient does not let one say, the time and what it has verified, are taken from
inside it; a test holds them to what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tuf.api import exceptions as wrong
from tuf.api.metadata import Signed
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge_agent.core.errors import LinkDown
from edge_agent.core.trust import Code, Memory, Now, Refused, Seen, Shown, judged_s
from edge_agent.links.fetch import NotHere, Source, Sources
from edge_agent.links.trust.terms import (
    LAST_S,
    METADATA,
    Limits,
    Refreshed,
    Target,
    Trouble,
    disk,
    unwritable,
    utc,
)


class Session:
    """One `Updater` of TUF, at one moment, with one order of sources."""

    def __init__(
        self, folder: Path, bootstrap: bytes, carrier: Carrier, memory: Memory, now: Now
    ) -> None:
        self.now = now
        self._carrier = carrier
        self._time_s = judged_s(memory, now)
        self._floor_s = memory.time_s
        try:
            with disk(folder):
                self._updater = Updater(
                    str(folder), METADATA, fetcher=carrier, config=carrier.config,
                    bootstrap=bootstrap,
                )  # fmt: skip
        except wrong.RepositoryError as error:
            raise Refused("bootstrap", f"read bootstrap root: {error}") from error
        # ngclient has no way to say what time it is, and none to read what it has verified.
        self._trusted = self._updater._trusted_set  # noqa: SLF001
        self._trusted.reference_time = datetime.fromtimestamp(self._time_s, timezone.utc)

    def refresh(self) -> None:
        with self._translated():
            self._updater.refresh()

    def target(self, path: str) -> Target:
        with self._translated():
            info = self._updater.get_targetinfo(path)
        if info is None:
            raise Refused("unknown-target", f"look up {path}: expected a signed target, got none")
        sha256, custom = info.hashes.get("sha256", ""), info.custom
        if len(sha256) != 64 or not isinstance(custom, dict | None):
            raise Refused("malformed", f"look up {path}: expected a sha256 and a custom table")
        return Target(path=path, length=info.length, sha256=sha256, custom=custom or {})

    def shown(self) -> Seen:
        root, targets = self._trusted.root, self._trusted.targets
        roles = {role: root.roles[role] for role in ("timestamp", "snapshot")}
        return Seen(
            root=root.version,
            timestamp=_shown(self._trusted.timestamp.version, roles["timestamp"]),
            snapshot=_shown(self._trusted.snapshot.version, roles["snapshot"]),
            roles={
                name.removesuffix(".json"): meta.version
                for name, meta in self._trusted.snapshot.meta.items()
            },
            issued_s=tuple(_issued_s(one) for one in (root, targets)),
            expires_s=self._expires_s(),
        )

    def refreshed(self, troubles: tuple[Trouble, ...]) -> Refreshed:
        trusted = self._trusted
        return Refreshed(
            root=trusted.root.version, timestamp=trusted.timestamp.version,
            snapshot=trusted.snapshot.version, expires_s=min(self._expires_s()),
            time_s=self._time_s, troubles=troubles,
        )  # fmt: skip

    def _expires_s(self) -> tuple[int, ...]:
        trusted = self._trusted
        ends = (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
        return tuple(int(one.expires.timestamp()) for one in ends)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """TUF's complaints in the words of the house."""
        try:
            yield
        except wrong.DownloadError as error:
            raise self._not_fetched(error) from None
        except wrong.RepositoryError as error:
            raise self._not_trusted(error) from error
        except OSError as error:
            raise unwritable(Path("tuf"), error) from error

    def _not_fetched(self, error: wrong.DownloadError) -> Exception:
        asked = self._carrier.asked
        if isinstance(error, wrong.DownloadLengthMismatchError):
            return Refused("length", f"read {asked}: {error}")
        if isinstance(error.__cause__, (LinkDown, Refused)):
            return error.__cause__
        return LinkDown(f"fetch {asked}: {error}")

    def _not_trusted(self, error: wrong.RepositoryError) -> Refused:
        """Which attack it would be: TUF has one class for several."""
        role, asked = self._carrier.name, self._carrier.asked
        code: Code = "malformed"
        if isinstance(error, wrong.ExpiredMetadataError):
            return self._expired(error)
        if isinstance(error, wrong.UnsignedMetadataError):
            code = "signature"
        elif isinstance(error, wrong.LengthOrHashMismatchError):
            code = "mix-and-match"
        elif isinstance(error, wrong.BadVersionNumberError):
            code = "rollback" if role in ("timestamp", "snapshot") else "mix-and-match"
        elif "missing info" in str(error):  # a snapshot without a role that it had
            code = "rollback"
        return Refused(code, f"verify {asked}: {error}")

    def _expired(self, error: Exception) -> Refused:
        root_ended = self._trusted.root.is_expired(self._trusted.reference_time)
        online = not root_ended and self._carrier.name in ("timestamp", "snapshot")
        code: Code = "freeze" if online else "expired"
        floor = f", {utc(self._floor_s)} at least" if self._floor_s else ""
        words = f"verify {self._carrier.asked}: {error}; here it is {utc(self._time_s)}{floor}"
        return Refused(code, words)


class Carrier(FetcherInterface):
    """One of our sources as TUF's, the others for what it lacks.

    asked, name: the file and the role of the last question.
    settled: the folder of what is verified; nothing newer than that is looked for.
    """

    def __init__(
        self, sources: Sources, source: Source, limits: Limits, settled: Path | None
    ) -> None:
        self.asked = "root.json"
        self.config = UpdaterConfig(
            max_root_rotations=limits.max_root_rotations,
            max_delegations=limits.max_delegations,
            root_max_length=limits.max_root_bytes,
            timestamp_max_length=limits.max_timestamp_bytes,
            snapshot_max_length=limits.max_snapshot_bytes,
            targets_max_length=limits.max_targets_bytes,
        )
        self._sources = sources
        self._source = source
        self._max_bytes = 1 + max(limits.max_targets_bytes, limits.max_snapshot_bytes)
        self._kept = settled

    @property
    def name(self) -> str:
        return self.asked.removesuffix(".json").rpartition(".")[2]

    def _fetch(self, url: str) -> Iterator[bytes]:
        self.asked = url.removeprefix(METADATA)
        try:
            if self._kept is not None and self.name == "root":
                raise NotHere("fetch root: settled")
            if self._kept is not None and self.name == "timestamp":
                return iter([(self._kept / "timestamp.json").read_bytes()])
            return self._sources.lead(self._source, url, max_bytes=self._max_bytes)
        except NotHere as error:
            raise wrong.DownloadHTTPError(error.what, 404) from error


def _shown(version: int, role: Any) -> Shown:
    return Shown(version, tuple(role.keyids), role.threshold)


def _issued_s(signed: Signed) -> int:
    """When offline keys say that they signed this; 0 where the publisher does not tell."""
    issued = signed.unrecognized_fields.get("issued")
    return issued if isinstance(issued, int) and 0 <= issued <= LAST_S else 0
