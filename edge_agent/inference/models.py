"""The control verbs of a model: load, shadow, swap, commit, roll back; each on all its streams.

A candidate is loaded and warmed beside the live version, at low priority; the swap itself is one
attribute store per stream, between two frames. Weights nobody sits on are given back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edge_agent.core.errors import BadFrame, Rejected
from edge_agent.inference import realtime
from edge_agent.inference.seats import Loaded, Run, Seat, ShadowCount, Shelf, StreamOptions
from edge_agent.inference.stream import Stream
from edge_agent.orders import ModelRef


def warm_seat(loaded: Loaded, ref: ModelRef, options: StreamOptions) -> Seat:
    """Ready to run at full speed.

    Raises: Rejected when the model does not even run on black.
    """
    seat = Seat(loaded, ref.options, options)
    try:
        seat.warm()
    except BadFrame as bad:
        raise Rejected(f"warm up {ref.name}: {bad.what}", hint=bad.hint) from bad
    return seat


class ModelVerbs:
    """Called from the control thread, `load` from a loader beside it."""

    def __init__(self, shelf: Shelf, streams: Callable[[], Sequence[Stream]]) -> None:
        self._shelf = shelf
        self._streams = streams
        self._candidates: dict[tuple[str, str], dict[str, Seat]] = {}
        self._loading: set[str] = set()  # shas that a loader works on: nobody tidies them away

    def runs_of(self, model: str) -> list[Run]:
        return [run for s in self._streams() for run in s.runs if run.name == model]

    def load(self, model: str, folder: str, sha: str) -> int:
        """Prepares a candidate beside the live version on every stream; returns how many.

        Raises: Rejected.
        """
        if sha in self._loading:
            raise Rejected(f"{model}: version {sha[:16]} is being loaded", hint="wait for it")
        self._loading.add(sha)
        try:
            seats = self._warm(model, folder, sha)
            self._candidates[model, sha] = seats
        finally:
            self._loading.discard(sha)
            self.tidy()  # of one that was rejected nothing stays
        realtime.trim_memory()
        return len(seats)

    def _warm(self, model: str, folder: str, sha: str) -> dict[str, Seat]:
        loaded = self._shelf.load(folder, sha)
        return {
            run.stream: warm_seat(loaded, run.ref, stream.options)
            for stream in self._streams()
            for run in stream.runs
            if run.name == model
        }

    def unload(self, model: str, sha: str) -> None:
        """Gives a candidate up that never went live; its shadow stops."""
        seats = self._seats(model, sha)
        for run in self.runs_of(model):
            if run.shadow is not None and run.shadow is seats.get(run.stream):
                run.shadow = None
        del self._candidates[model, sha]
        self.tidy()

    def _seats(self, model: str, sha: str) -> dict[str, Seat]:
        if (model, sha) not in self._candidates:
            raise Rejected(f"{model}: version {sha[:16]} is not loaded", hint="load it first")
        return self._candidates[model, sha]

    def shadow(self, model: str, sha: str, every: int) -> dict[str, dict[str, float]]:
        """Runs a loaded candidate beside the live one; sha "" stops it. Returns counts so far."""
        counts = {r.stream: r.shadow_count.words() for r in self.runs_of(model)}
        seats = self._seats(model, sha) if sha else {}
        for run in self.runs_of(model):
            seat = seats.get(run.stream)
            if seat is not run.shadow:
                run.shadow_count = ShadowCount()
            run.shadow, run.shadow_every = seat, max(1, every)
        return counts

    def swap(self, model: str, sha: str, *, trial: bool) -> int:
        """Between two frames, on every stream of the model."""
        seats = self._seats(model, sha)
        del self._candidates[model, sha]
        runs = [run for run in self.runs_of(model) if run.stream in seats]
        for run in runs:
            run.shadow = None
            seats[run.stream].fresh = True  # what it saw as a shadow is not what it goes on from
            run.take_seat(seats[run.stream], trial=trial)
        self.tidy()
        return len(runs)

    def commit(self, model: str) -> None:
        """The trial is over; the previous version may go."""
        for run in self.runs_of(model):
            run.live.trial, run.previous = False, None
        self.tidy()

    def roll_back(self, model: str) -> int:
        """Back to the previous version; returns on how many streams."""
        count = sum(run.roll_back() for run in self.runs_of(model))
        self.tidy()
        return count

    def tidy(self) -> None:
        used = {sha for s in self._streams() for run in s.runs for sha in run.shas()}
        used |= {sha for _, sha in list(self._candidates)} | self._loading
        if self._shelf.keep_only(used):
            realtime.trim_memory()
