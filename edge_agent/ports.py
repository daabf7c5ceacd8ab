"""Every seam of the house on one page.

Only bytes and frozen types cross; a vendor type (`cv2`, `onnxruntime`, `paho`) never does. An
adapter translates its vendor's errors at once into those of `core.errors`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.frames import Arrays, Frame, Record, Result
from edge_agent.core.manifest import Manifest


class Clock(Protocol):
    """Time, injected. Nothing but an implementation of this reads a clock in the house."""

    def boot_us(self) -> int:
        """CLOCK_BOOTTIME: counts through suspend, never steps."""
        ...

    def utc_offset_us(self) -> tuple[int | None, int | None]:
        """(add to boot_us for UTC, estimated error); None: the clock was never set."""
        ...

    def sleep_us(self, duration_us: int) -> None:
        """Blocks the calling thread; zero or less returns at once."""
        ...


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a source that delivers all the same; stands until its facts say no more.

    code: as in docs/status.md.
    """

    code: str
    severity: Literal["warning", "notice"]
    what: str
    fix: str


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a source says of itself once open. `where` never holds a password or a patient path."""

    where: str
    expected_fps: float | None
    size: tuple[int, int] | None = None
    live: bool = True  # False: recorded, may wait instead of dropping
    watched: bool = False  # a folder in which files turn up: nothing to show is no fault
    details: Mapping[str, str] = {}  # words for `streams probe`
    troubles: tuple[Trouble, ...] = ()


class FrameSource(Protocol):
    """One camera, file or generator. All calls come from one capture thread.

    `read` blocks until the next frame is due (paced) or ready, for at most `timeout_s`, and stamps
    `captured_us` at once. It returns None on time-out.
    """

    def open(self) -> SourceFacts:
        """Raises: SourceLost (retry), Rejected (the content is wrong), ConfigError."""
        ...

    def read(self, timeout_s: float) -> Frame | None:
        """Raises: SourceLost when the source ended or broke; BadFrame when only this one is bad."""
        ...

    def close(self) -> None:
        """Idempotent; never raises."""
        ...


@runtime_checkable
class NewsSource(Protocol):
    """A source of which more can be said than when it was opened."""

    def news(self) -> SourceFacts | None:
        """The facts as they are now; None: as they were told. Asked after each read."""
        ...


class Bound(Protocol):
    """A session with one stream's own buffers: fill, run, look. Used by one thread at a time."""

    def fill(self, frame: Frame, roi: tuple[int, int, int, int]) -> None:
        """Writes the region of the frame into the bound input, resized as the manifest says."""
        ...

    def run(self) -> Mapping[str, NDArray[Any]]:
        """Runs; the arrays by output name are valid until the next `run`.

        Raises: BadFrame.
        """
        ...

    @property
    def input_pixels(self) -> NDArray[np.uint8]:
        """The filled input, for hashing and statistics."""
        ...

    def reset_state(self) -> None:
        """Zeroes the fed-back states."""
        ...

    def cancel(self) -> None:
        """From any thread: the run under way ends with BadFrame, and so does every later one.

        Heeded between two operators; one that never ends is not ended by this.
        """
        ...


class Session(Protocol):
    """A loaded model. Shared by all streams of that model; `bind` gives each its own buffers."""

    @property
    def backend(self) -> str: ...

    @property
    def variant(self) -> str: ...

    @property
    def is_prepared(self) -> bool:
        """Loaded from what was prepared of the package, not from its own file."""
        ...

    def bind(self) -> Bound: ...

    def close(self) -> None: ...


class Backend(Protocol):
    """A runtime: ONNX Runtime, TensorRT."""

    name: str

    def load(
        self, folder: Path, manifest: Manifest, sha: str = "", *, file: Path | None = None
    ) -> Session:
        """Loads the fitting variant (`variant_for`), checks inputs and outputs against the
        manifest.

        sha: of the package; what was prepared for it is loaded instead of its file. file: the
        variant's file as it was hashed; None: the one in the folder.

        Raises: Rejected with what the file has and what the manifest says.
        """
        ...

    def prepare(
        self, folder: Path, manifest: Manifest, sha: str, *, file: Path | None = None
    ) -> Path | None:
        """Makes what `load` takes from then on, costly, in a process that may die of it.

        file: as for `load`. None: this backend, or where it runs, keeps nothing.

        Raises: Rejected.
        """
        ...

    def runtime(self) -> str:
        """Name and version of what runs the models, as in the names of prepared files."""
        ...


class InLaneListener(Protocol):
    """Called in the lane thread, between decode and hand-over. Must return within a millisecond."""

    def result(self, result: Result, arrays: Arrays) -> None: ...

    def blank(self, stream: str, reason: str) -> None:
        """Stop showing: results of this stream are stale, frozen, lost, or the engine is down."""
        ...


class SpoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """bytes: of the bodies held. `volatile`: nothing survives a restart."""

    records: int
    bytes: int
    limit_bytes: int
    oldest_s: float | None
    appended: int
    acked: int
    evicted: int
    corrupt: int
    volatile: bool = False


class Spool(Protocol):
    """Store and forward. `append` never waits and never fails: what does not fit is counted."""

    def append(self, record: Record) -> Record:
        """Gives the record its id (epoch, seq) and returns it so."""
        ...

    def stats(self) -> SpoolStats: ...

    def newest(self, limit: int) -> list[Record]:
        """The newest records held, newest first, for the CLI."""
        ...


class DurableSpool(Protocol):
    """What an operator may ask of a spool on disk, beside what the house needs (`Spool`).

    One request at a time. Each raises: Overloaded, also while another is under way; Damaged.
    """

    async def verify(self) -> Mapping[str, int]:
        """Reads everything held: `records` sound, `corrupt` found damaged now."""
        ...

    def export(self, *, plain: bool = False) -> AsyncGenerator[bytes, None]:
        """All that is held, as lines of a file (`core.carriage`); it is kept here. plain: so that a
        receiver from before reads it.
        """
        ...

    async def apply(self, content: bytes) -> Mapping[str, int]:
        """A file of acknowledgements, all or none: `logs` named, `records` gone, `settled` logs.

        Raises: Rejected.
        """
        ...


class ModelStore(Protocol):
    """Where model packages live. `current` and `previous` move only by a commit or a roll-back."""

    def resolve(self, name: str, version: str) -> Path:
        """The folder of a package; version "" is `current`, or the only one there is.

        Raises: Rejected, naming what is there; Damaged.
        """
        ...

    def manifest(self, folder: Path) -> Manifest:
        """Raises: Rejected."""
        ...

    def identity(self, folder: Path) -> str:
        """sha256 hex of the canonical tar.

        Raises: Rejected; Damaged when it is not what was installed.
        """
        ...

    def versions(self) -> dict[str, list[str]]: ...


class LinkSession(Protocol):
    """One live connection of a `Link`."""

    async def publish(self, topic: str, payload: bytes) -> None:
        """Raises: LinkDown."""
        ...

    def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """Raises: LinkDown when the connection ends."""
        ...


class Link(Protocol):
    """The road to EdgeCore. A new client object per connection; no library queue survives it."""

    def connect(self) -> AbstractAsyncContextManager[LinkSession]:
        """Raises: LinkDown."""
        ...


class Mesh(Protocol):
    """The LAN of peers."""

    def announce(self, key: str, payload: bytes) -> None: ...

    def watch(self, pattern: str, then: Callable[[str, bytes], None]) -> None: ...


class Fetcher(Protocol):
    """Bytes by name from HTTP, a peer or a folder; bounded by the caller."""

    def fetch(self, url: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
        """Raises: LinkDown, Rejected."""
        ...


class StateFile(Protocol):
    """A small document that is either old or new after a power cut."""

    def read(self) -> bytes | None:
        """Raises: Damaged."""
        ...

    def write(self, content: bytes) -> None:
        """Raises: Damaged."""
        ...


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of this machine; None: no such sensor."""

    uptime_s: float
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    disk_total_bytes: int | None = None
    disk_free_bytes: int | None = None
    temperature_celsius: Mapping[str, float] = {}
    load_1m: float | None = None
    module: str = ""


class Host(Protocol):
    """The machine itself. A missing sensor is None, never an error."""

    def sample(self) -> HostSample: ...

    def notify(self, state: str) -> bool:
        """sd_notify; False when no manager listens."""
        ...

    def boot_id(self) -> str:
        """hex8."""
        ...
