"""The control verbs of a model: load, shadow, swap, commit, roll back; each on all its streams.

A candidate is loaded and warmed beside the live version, at low priority; the swap itself is one
attribute store per stream, between two frames. Weights nobody sits on are given back. Decides
nothing: when to swap and what the counts mean is the agent's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_agent.core.contract import check_contract
from edge_agent.core.errors import BadPackage, Overloaded, Rejected
from edge_agent.core.trial import LiveCounts, Probation, ShadowCounts
from edge_agent.inference import realtime
from edge_agent.inference.proof import WARM_LIMIT_S, limited
from edge_agent.inference.seats import Loaded, Run, Seat, Shelf, StreamOptions
from edge_agent.inference.shadow import Shadow
from edge_agent.inference.shadows import Shadows
from edge_agent.inference.stream import Stream
from edge_agent.orders import ModelRef
from edge_agent.ports import Clock


def warm_seat(loaded: Loaded, ref: ModelRef, options: StreamOptions) -> Seat:
    """Ready to run at full speed.

    Raises: BadPackage when the model does not even run on black, or not in time; Overloaded when
    it had no core or no memory for it.
    """
    seat = Seat(loaded, ref.options, options)
    with limited(seat.bound, f"warm up {ref.name}", WARM_LIMIT_S):
        seat.warm()
    return seat


def seat_beside(run: Run, stream: Stream, loaded: Loaded) -> Seat:
    """A version that may take the place of what is live there.

    Raises: BadPackage when it breaks the contract or does not run, Overloaded.
    """
    try:
        check_contract(run.live.loaded.manifest, loaded.manifest)
    except Rejected as wrong:
        raise BadPackage(wrong.what, hint=wrong.hint) from wrong
    return warm_seat(loaded, run.ref, stream.options)


class Candidate:
    """A version that is loaded and not live. Seats are by run: a stream that was ordered anew has
    another run, and other options.
    """

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.seats: dict[Run, Seat] = {}


class ModelVerbs:
    """Called from the control thread, `load` from a loader beside it, `watch` from the pulse."""

    def __init__(
        self,
        shelf: Shelf,
        streams: Callable[[], Sequence[Stream]],
        *,
        clock: Clock,
        is_idle: Callable[[], bool] = lambda: True,
        realtime_wanted: bool = False,
    ) -> None:
        self._shelf = shelf
        self._streams = streams
        self.shadows = Shadows(clock, is_idle, realtime_wanted=realtime_wanted)
        self._candidates: dict[tuple[str, str], Candidate] = {}
        self._loading: set[str] = set()  # shas that a loader works on: nobody tidies them away
        self._trials: dict[str, Loaded] = {}  # by model, what is live but not committed

    def runs_of(self, model: str) -> list[tuple[Run, Stream]]:
        """Those that a candidate may take over: a pinned one never joins a trial."""
        return [
            (run, stream)
            for stream in self._streams()
            for run in stream.runs
            if run.name == model and not run.ref.pinned
        ]

    def load(self, model: str, folder: str, sha: str) -> dict[str, object]:
        """Prepares a candidate beside the live version on every stream; says how many, which.

        Without a stream that runs the model it says 0.

        Raises: BadPackage; Overloaded, Damaged when it had no fair trial; Rejected, OSError.
        """
        if sha in self._loading:
            raise Overloaded(f"{model}: version {sha[:16]} is being loaded", hint="wait for it")
        self._loading.add(sha)
        try:
            candidate = self._warm(model, folder, sha)
            self._candidates[model, sha] = candidate
        finally:
            self._loading.discard(sha)
            self.tidy()  # of one that was rejected nothing stays
        realtime.trim_memory()
        version = candidate.loaded.manifest.version
        return {"streams": len(candidate.seats), "version": version}

    def _warm(self, model: str, folder: str, sha: str) -> Candidate:
        loaded = self._shelf.load(folder, sha)
        candidate = Candidate(loaded)
        try:
            for run, stream in self.runs_of(model):
                candidate.seats[run] = seat_beside(run, stream, loaded)
        except BadPackage as bad:
            raise self._shelf.blamed(folder, sha, bad) from bad
        return candidate

    def unload(self, model: str, sha: str) -> None:
        """Gives a candidate up that never went live; its shadow stops. Again is harmless."""
        if self._candidates.pop((model, sha), None) is None:
            return
        if sha == self.shadows.sha_of(model):
            self.shadows.stop(model, self.runs_of(model))
        self.tidy()

    def _candidate(self, model: str, sha: str) -> Candidate:
        if (model, sha) not in self._candidates:
            raise Rejected(f"{model}: version {sha[:16]} is not loaded", hint="load it first")
        return self._candidates[model, sha]

    def shadow(self, model: str, sha: str, every: int) -> dict[str, ShadowCounts]:
        """Runs a loaded version beside the live one: a candidate, or on trial the one before.

        sha "" stops it; again is harmless. Returns the counts so far, of the one that runs or has
        just been stopped.

        Raises: Rejected when it is not loaded, Overloaded while no shadow can be borne.
        """
        if not sha:
            counts = self.shadows.counts(model)
            self.shadows.stop(model, self.runs_of(model))
            return counts
        if sha != self.shadows.sha_of(model):
            loaded, runs = self._shadowed(model, sha), self.runs_of(model)
            self.shadows.start(model, loaded, runs, max(1, every))
        return self.shadows.counts(model)

    def _shadowed(self, model: str, sha: str) -> Loaded:
        for run, _ in self.runs_of(model):
            if run.previous is not None and run.previous.loaded.sha == sha:
                return run.previous.loaded
        return self._candidate(model, sha).loaded

    def watch(self, now_us: int) -> list[tuple[Shadow, str]]:
        """Shadows that have just been found to hang, with their model."""
        return self.shadows.watch(now_us, self.runs_of)

    # ── the swap ──────────────────────────────────────────────────────────────────────────────

    def swap(self, model: str, sha: str, *, trial: bool) -> dict[str, object]:
        """Between two frames, on every stream of the model; says how many, and what was live.

        Raises: Rejected when it is not loaded, or another is on trial; BadPackage, Overloaded of a
        stream that came after the load.
        """
        candidate = self._candidate(model, sha)
        if model in self._trials:
            raise Rejected(
                f"swap {model}: version {self._trials[model].manifest.version} is on trial",
                hint="commit it or roll it back first",
            )
        runs = self.runs_of(model)
        for run, stream in runs:
            if run not in candidate.seats:  # its stream came after the load
                candidate.seats[run] = seat_beside(run, stream, candidate.loaded)
        self.shadows.stop(model, self.runs_of(model))
        del self._candidates[model, sha]
        if trial:
            self._trials[model] = candidate.loaded
        before = next((run.live.loaded.sha for run, _ in runs), "")
        for run, _ in runs:
            run.take_seat(candidate.seats[run], trial=trial)
        self.tidy()
        return {"streams": len(runs), "previous": before}

    def join(self, stream: Stream) -> None:
        """A stream that starts while a version is on trial takes part in it.

        Raises: BadPackage, Overloaded.
        """
        for run in stream.runs:
            loaded = None if run.ref.pinned else self._trials.get(run.name)
            if loaded is not None and loaded.sha != run.live.loaded.sha:
                run.take_seat(seat_beside(run, stream, loaded), trial=True)

    def commit(self, model: str) -> None:
        """The trial is over; the previous version may go."""
        self.shadows.stop(model, self.runs_of(model))
        self._trials.pop(model, None)
        for run, _ in self.runs_of(model):
            run.live.trial, run.previous = False, None
        self.tidy()

    def roll_back(self, model: str) -> int:
        """Back to the previous version; returns on how many streams."""
        count = sum(run.roll_back() for run, _ in self.runs_of(model))
        self._trials.pop(model, None)
        self.shadows.stop(model, self.runs_of(model))
        self.tidy()
        return count

    def figures(self, model: str) -> dict[str, Probation]:
        """By stream: the version that is live, the one before it, and how they compare."""
        before_shas = {run.previous.loaded.sha for run, _ in self.runs_of(model) if run.previous}
        watched = self.shadows.sha_of(model) in before_shas
        beside = self.shadows.counts(model) if watched else {}
        return {
            stream.name: Probation(
                before=run.previous.counts() if run.previous else LiveCounts(),
                now=run.live.counts(),
                beside=beside.get(stream.name),
            )
            for run, stream in self.runs_of(model)
        }

    def tidy(self) -> None:
        there = {run for s in self._streams() for run in s.runs}
        for candidate in tuple(self._candidates.values()):
            for run in set(candidate.seats) - there:
                del candidate.seats[run]
        used = {sha for s in self._streams() for run in s.runs for sha in run.shas()}
        used |= {sha for _, sha in list(self._candidates)} | self._loading
        used |= {loaded.sha for loaded in tuple(self._trials.values())}
        used |= self.shadows.shas()
        if self._shelf.keep_only(used):
            realtime.trim_memory()
