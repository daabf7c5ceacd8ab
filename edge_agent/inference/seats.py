"""Models on streams: what is loaded, and which version sits on which stream.

A `Seat` is one loaded version prepared for one stream: its own buffers, decoder and tracker over a
session that all streams share. A `Run` is one model of one stream: `live` is read once per frame,
so a swap is one attribute store between two frames. Raw outputs never leave the lane.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.config.structs import StreamModel
from edge_agent.core import blame, schedule
from edge_agent.core.errors import BadPackage, Damaged, EdgeAgentError, Overloaded, Rejected
from edge_agent.core.frames import Calibration, Frame
from edge_agent.core.manifest import Manifest, variant_for
from edge_agent.core.trial import LiveCounts
from edge_agent.held import Held
from edge_agent.inference import realtime
from edge_agent.inference.counts import LiveCount, ModelCount
from edge_agent.inference.interpret import Findings, Interpreter
from edge_agent.inference.proof import prove
from edge_agent.orders import ModelRef
from edge_agent.ports import Backend, Bound, Session
from edge_agent.stores import package
from edge_agent.stores.shelf import changed

WARM_RUNS = 3
LOAD_TIMES = 5  # of its file a model takes while it is loaded, at most: 2.2 were measured, and
# what was hashed is loaded from copies, of its file and of what was prepared of it
SPARE_BYTES = 64 << 20  # for everything else on the machine
BAD_FOR_S = 1.0  # a package that is no good is not tried again for so long after it was
MAX_BAD = 64
GAP_US = 1_000_000  # without a frame for longer, what is fed back is of another moment


class StreamOptions(NamedTuple):
    """What of a stream's configuration shapes its results."""

    tracking: bool
    contours: bool


class Shadowing(Protocol):
    """Who looks at the same frames beside the live seat (`inference.shadow`)."""

    every: int

    def offer(self, looked: Any) -> None: ...


class Loaded:
    """One model version in memory."""

    def __init__(
        self, *, sha: str, manifest: Manifest, session: Session, is_proven: bool = False
    ) -> None:
        self.sha = sha
        self.manifest = manifest
        self.session = session
        self.is_proven = is_proven  # it gave its golden sample; False: it has none


class Shelf:
    """Sessions by content; one serves all streams of a model. free_bytes: of memory, here.

    What is loaded is what was hashed: every byte of a package goes through its hash into memory of
    this process, and from there into the runtime.
    """

    def __init__(
        self, backend: Backend, free_bytes: Callable[[], int | None] = lambda: None
    ) -> None:
        self._backend = backend
        self._free_bytes = free_bytes
        self._loaded: dict[str, Loaded] = {}
        self._bad: dict[str, tuple[BadPackage, float]] = {}  # by sha, and since when
        self._turn = threading.Lock()  # a loader works beside the control thread

    def load(self, folder: str, sha: str, *, is_known: bool = True) -> Loaded:
        """is_known: somebody said before that it has to be `sha`; else all its golden samples are
        run, not the first alone.

        Raises: BadPackage when the runtime can't load it, or it does not give its golden
        sample; Damaged when it is not `sha`; Overloaded when there is no memory, or the live
        models would be left without; Rejected by its manifest.
        """
        with self._turn:
            if sha not in self._loaded:
                self._check_lately(sha)
                try:
                    self._loaded[sha] = self._load(Path(folder), sha, is_known=is_known)
                except BadPackage as bad:
                    self._bad = {sha: (bad, time.monotonic()), **self._bad}
                    self._bad = dict(list(self._bad.items())[:MAX_BAD])
                    raise
                except MemoryError as error:
                    raise Overloaded(
                        f"load model {sha[:16]}: out of memory", hint="stop what else runs here"
                    ) from error
            return self._loaded[sha]

    def _check_lately(self, sha: str) -> None:
        """Streams of one model that is no good do not each wait for its first run to be given up.

        Raises: BadPackage.
        """
        bad, since_s = self._bad.get(sha, (None, 0.0))
        if bad is not None and time.monotonic() - since_s < BAD_FOR_S:
            raise BadPackage(bad.what, hint=bad.hint)

    def _load(self, folder: Path, sha: str, *, is_known: bool) -> Loaded:
        if self._loaded:  # the first has to run, whatever there is
            self._check_room(folder, package.read_manifest(folder))
        try:
            held, manifest = package.held(folder, self._wanted)
        except Rejected as gone:
            raise Damaged(gone.what, hint=gone.hint, healable=True) from gone
        with held:
            if held.sha != sha:
                raise changed(folder, held.sha)
            session, is_proven = self._proven(folder, manifest, held, is_known=is_known)
            return Loaded(sha=sha, manifest=manifest, session=session, is_proven=is_proven)

    def _wanted(self, manifest: Manifest) -> set[str]:
        variant = variant_for(manifest, self._backend.name)
        return {variant.file, variant.golden} if variant else set()

    def _proven(
        self, folder: Path, manifest: Manifest, held: Held, *, is_known: bool
    ) -> tuple[Session, bool]:
        """What was prepared of it is a short cut: when that fails, the package's own file is
        loaded, and only what that does is told.
        """
        variant = variant_for(manifest, self._backend.name)
        file = held.path(variant.file) if variant else None
        try:
            session = self._backend.load(folder, manifest, held.sha, file=file)
            try:
                return session, prove(session, manifest, held, is_thorough=not is_known)
            except BadPackage:
                if not session.is_prepared:
                    raise
            session = self._backend.load(folder, manifest, file=file)
            return session, prove(session, manifest, held, is_thorough=not is_known)
        except Rejected as wrong:
            raise _blamed(wrong) from wrong

    def blamed(self, folder: str, sha: str, wrong: EdgeAgentError) -> EdgeAgentError:
        """What is wrong with a package, as whose fault it is; reads every byte of it.

        One whose files are no longer what they were is our disk's.
        """
        if blame.is_of_memory(wrong.what):
            return Overloaded(wrong.what, hint="stop what else runs here")
        try:
            got = package.look(Path(folder)).sha
        except Rejected as gone:
            return Damaged(gone.what, hint=gone.hint)
        except Damaged as unread:
            return unread
        return changed(Path(folder), got) if got != sha else _blamed(wrong)

    def _check_room(self, folder: Path, manifest: Manifest) -> None:
        free = self._free_bytes()
        files = [folder / variant.file for variant in manifest.variants]
        largest = max(map(_size, files), default=0)
        wanted = LOAD_TIMES * largest + SPARE_BYTES
        if free is not None and free < wanted:
            raise Overloaded(
                f"load model {manifest.name} {manifest.version}: expected {wanted >> 20} MB of "
                f"free memory, got {free >> 20} MB",
                hint="stop what else runs here, or ship a smaller variant",
            )

    def keep_only(self, shas: Iterable[str]) -> int:
        """Closes every session that nobody sits on; returns how many.

        No session while a loader works: a roll-back does not wait for it, and it tidies at its end.
        """
        if not self._turn.acquire(blocking=False):
            return 0
        try:
            gone = set(self._loaded) - set(shas)
            for sha in gone:
                self._loaded.pop(sha).session.close()
            return len(gone)
        finally:
            self._turn.release()


def _blamed(wrong: EdgeAgentError) -> EdgeAgentError:
    """Of a package that was read as it has to be."""
    if blame.is_of_memory(wrong.what):
        return Overloaded(wrong.what, hint="stop what else runs here")
    return BadPackage(wrong.what, hint=wrong.hint)


def _size(path: Path) -> int:
    """0 where it can't be looked at."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class View(NamedTuple):
    """What all frames have in common between which something may be carried over.

    size: [w, h] px. roi: [x, y, w, h] px, None: all. exam: its pseudonym.
    """

    size: tuple[int, int]
    roi: tuple[int, int, int, int] | None
    exam: str


class Seat:
    """One version, ready to run on one stream."""

    def __init__(self, loaded: Loaded, options: StreamModel, stream: StreamOptions) -> None:
        self.loaded = loaded
        self.bound: Bound = loaded.session.bind()
        self.interpreter = Interpreter(
            loaded.manifest,
            threshold=options.threshold,
            min_area_px=options.min_area_px,
            tracking=stream.tracking,
            contours=stream.contours,
        )
        self.fresh = True  # starts from nothing: its next result says `state_reset`
        self.trial = False
        self.tally = LiveCount()  # of its time as the live one
        self._seen_us = 0
        self._view: View | None = None

    def warm(self) -> None:
        """Runs on black until caches and arenas are there, then forgets what it saw.

        Raises: BadFrame.
        """
        width, height = self.loaded.manifest.input.size
        black = np.zeros((height, width, 3), np.uint8)
        frame = Frame(number=0, captured_us=0, pixels=black)
        for _ in range(WARM_RUNS):
            self.bound.fill(frame, (0, 0, width, height))
            with realtime.heavy():
                self.bound.run()

    def begin(self, frame: Frame, at_us: int) -> bool:
        """Before a frame, in its lane: nothing is fed back, and no object followed, from before a
        start, a swap, a gap, or from a picture of another size, region or exam.

        True when it starts from nothing.
        """
        gap = bool(self.loaded.manifest.states) and at_us - self._seen_us > GAP_US
        view = View(frame.size, frame.calibration.roi, frame.exam)
        other = self._view is not None and view != self._view
        fresh, self.fresh = self.fresh or gap or other, False
        self._seen_us, self._view = at_us, view
        if fresh:
            self.bound.reset_state()
            self.interpreter.reset()
        return fresh

    def failed(self, *, fresh: bool) -> None:
        """After a bad frame: what it fed back may be as bad; `state_reset` is yet to be told."""
        self.fresh |= fresh or bool(self.loaded.manifest.states)

    def look(
        self,
        frame: Frame,
        outputs: Mapping[str, NDArray[Any]],
        roi: tuple[int, int, int, int],
        at_us: int,
    ) -> Findings:
        """at_us: the time that tracks live in.

        Raises: BadFrame.
        """
        return self.interpreter.interpret(
            outputs,
            frame_size=frame.size,
            roi=roi,
            calibration=frame.calibration,
            captured_us=at_us,
        )

    def counts(self) -> LiveCounts:
        """Of its time as the live one."""
        loaded = self.loaded
        return self.tally.counts(version=loaded.manifest.version, sha=loaded.sha, trial=self.trial)

    def region(self, frame: Frame) -> tuple[int, int, int, int]:
        """[x, y, w, h] px that this model gets of the frame."""
        width, height = frame.size
        calibration: Calibration = frame.calibration
        if self.loaded.manifest.input.region == "frame" or calibration.roi is None:
            return (0, 0, width, height)
        return calibration.roi


class Offered(NamedTuple):
    """A captured frame and what was true when it was offered.

    poor: never to be shown as fresh. every: frames from one run of this model to the next.
    """

    frame: Frame
    deadline_us: int
    poor: bool = False
    level: int = 0
    every: int = 1


class Run:
    """One model of one stream. Only one lane works on it at a time."""

    def __init__(self, *, stream: str, index: int, ref: ModelRef, seat: Seat, rank: int) -> None:
        self.stream = stream
        self.primary = index == 0
        self.ref = ref
        self.name = ref.name
        self.rank = rank
        self.live = seat
        self.previous: Seat | None = None
        self.shadow: Shadowing | None = None
        self.count = ModelCount()
        self.estimate_us = 0.0
        self.waiting: Offered | None = None  # the slot: one frame waits, the newest wins
        self.busy = False

    def ready(self, key: int) -> schedule.Ready | None:
        waiting = self.waiting
        if waiting is None or self.busy:
            return None
        return schedule.Ready(self.rank, waiting.deadline_us, waiting.frame.captured_us, key)

    def take_seat(self, seat: Seat, *, trial: bool) -> None:
        """The swap: one store; the lane reads `live` once per frame."""
        seat.trial = trial  # of the seat, so that no frame of the old version says it
        self.previous, self.live = self.live, seat

    def roll_back(self) -> bool:
        """False when there is nothing to go back to."""
        if self.previous is None:
            return False
        self.previous.fresh = True  # its lane forgets what it fed back, before its next frame
        self.live, self.previous = self.previous, None
        return True

    def shas(self) -> set[str]:
        return {seat.loaded.sha for seat in (self.live, self.previous) if seat is not None}
