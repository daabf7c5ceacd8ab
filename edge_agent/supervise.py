"""Who may fail, how often, and what happens then.

A room raises; only this page catches `Exception`. `LinkDown` is weather: tried again for ever, with
jitter. Anything else is a bug with a budget: so many crashes in a window, each logged once with its
traceback. A vital room out of budget ends the process (the service manager starts a clean one), any
other is given up and the rest works on. A room that returns has finished and is not started again.

`rooms` blocks are nested by the app; the nesting is the shutdown order: when a body ends, its group
is cancelled and has ended before the next one out goes on. A room that must drain does so shielded
and timed, for at most `grace_s`.
"""

from __future__ import annotations

import asyncio
import enum
import functools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import anyio.abc
import msgspec

from edge_agent import logs
from edge_agent.config.structs import SuperviseConfig
from edge_agent.core.errors import EdgeAgentError
from edge_agent.core.problems import Problem
from edge_agent.core.restart import (
    LONGEST_DELAY_S,
    Backoff,
    Budget,
    Hush,
    is_denied,
    is_weather,
    leaves,
)
from edge_agent.ports import Clock

MAX_ERROR_CHARS = 500

log = logs.get("supervise")

Run = Callable[[Callable[[], None]], Awaitable[None]]  # a room's `run(ready)`


class GaveUp(EdgeAgentError):
    """A vital room used up its budget: the process has to end."""


class RoomState(str, enum.Enum):
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"  # failed, waits for its next start
    GIVEN_UP = "given_up"
    FINISHED = "finished"


# ── what is known of each room ────────────────────────────────────────────────────────────────


class RoomHealth(msgspec.Struct, frozen=True, kw_only=True):
    """since_us: CLOCK_BOOTTIME of the last change of state. error: the last one, without trace."""

    name: str
    vital: bool
    state: RoomState
    since_us: int
    crashes: int = 0
    error: str = ""
    hint: str = ""
    weather: bool = False  # the last error was a link that is down
    denied: bool = False  # that link is there and refuses: a person has to mend it
    failing: bool = False  # it failed, and has not been ready since: also while it tries again


class Note(Protocol):
    """How `supervise` tells a change of state."""

    def __call__(
        self, name: str, state: RoomState, error: BaseException | None, *, vital: bool
    ) -> None: ...


class Health:
    """The register of all rooms: feeds READY, status and its problems. Decides nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rooms: dict[str, RoomHealth] = {}
        self._expected: frozenset[str] = frozenset()
        self._changed = anyio.Event()

    def expect(self, names: Iterable[str]) -> None:
        """The vital rooms of the house: none of them may be missing from what counts as ready."""
        self._expected = frozenset(names)

    def note(
        self, name: str, state: RoomState, error: BaseException | None, *, vital: bool
    ) -> None:
        """A `Note`. LinkDown is weather, so it does not count as a crash."""
        old = self._rooms.get(name)
        crashes = old.crashes if old else 0
        last, hint = (old.error, old.hint) if old else ("", "")
        weather, denied = (old.weather, old.denied) if old else (False, False)
        if error is not None:
            last, hint = _words(error)
            weather, denied = is_weather(error), is_denied(error)
            crashes += not weather
        self._rooms[name] = RoomHealth(
            name=name,
            vital=vital,
            state=state,
            since_us=self._clock.boot_us(),
            crashes=crashes,
            error=last,
            hint=hint,
            weather=weather,
            denied=denied,
            failing=_is_failing(old, state),
        )
        self._changed.set()
        self._changed = anyio.Event()

    def rooms(self) -> dict[str, RoomHealth]:
        return dict(self._rooms)

    def is_ready(self) -> bool:
        """Every vital room runs, those that are expected and not yet begun too; there is one."""
        if not self._expected <= self._rooms.keys():
            return False
        vital = [room.state for room in self._rooms.values() if room.vital]
        return bool(vital) and all(state is RoomState.RUNNING for state in vital)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks again at each change of a room: `until(health.is_ready)`."""
        while not condition():
            await self._changed.wait()

    def problems(self) -> list[Problem]:
        """A road that is down is none, if the house can do without: the edge is made for that.

        One that is there and refuses us is.
        """
        found = []
        for room in self._rooms.values():
            if not room.failing:
                continue
            is_weather = room.weather and not room.denied
            if is_weather and not room.vital and room.state is not RoomState.GIVEN_UP:
                continue
            verb = "is given up" if room.state is RoomState.GIVEN_UP else "failed, will restart"
            verb = "is refused" if room.denied else verb
            found.append(
                Problem(
                    "link-denied" if room.denied else "service-failed",
                    "critical" if room.vital else "warning",
                    f"{room.name} {verb}: {room.error}",
                    room.hint or f"look at the log of {room.name}",
                    subject=room.name,
                )
            )
        return found


def _is_failing(old: RoomHealth | None, state: RoomState) -> bool:
    """A try that is under way is no success yet."""
    if state is RoomState.STARTING:
        return old is not None and old.failing
    return state in {RoomState.BACKOFF, RoomState.GIVEN_UP}


def _words(error: BaseException) -> tuple[str, str]:
    leaf = leaves(error)[0]
    what = leaf.what if isinstance(leaf, EdgeAgentError) else f"{type(leaf).__name__}: {leaf}"
    return logs.mask(what)[:MAX_ERROR_CHARS], getattr(leaf, "hint", "")


# ── effects ───────────────────────────────────────────────────────────────────────────────────


async def supervise(
    name: str,
    run: Run,
    *,
    vital: bool,
    config: SuperviseConfig,
    on_state: Note,
    longest_s: float = LONGEST_DELAY_S,
    chance: Callable[[], float] = random.random,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Runs a room until it finishes, is cancelled, or is given up.

    longest_s: between two starts.

    `task_status` is told when a vital room is ready, and for any other at the latest when it first
    fails: an agent starts without a network.

    Raises: GaveUp.
    """
    term = _Term(name, vital=vital, config=config, on_state=on_state, task_status=task_status)
    term.backoff = Backoff(longest_s=longest_s)
    while True:
        term.begin()
        try:
            await run(term.ready)
        except Exception as error:  # noqa: BLE001 - the one place of the house
            pause_s = term.failed(error, chance())
            if pause_s is None:
                return
            await anyio.sleep(pause_s)
        else:
            term.finished()
            return


class _Term:
    """One room's time in office: its budget, its back-off, what was told of it."""

    def __init__(
        self,
        name: str,
        *,
        vital: bool,
        config: SuperviseConfig,
        on_state: Note,
        task_status: anyio.abc.TaskStatus[None],
    ) -> None:
        self._name = name
        self._vital = vital
        self._config = config
        self._note = functools.partial(on_state, vital=vital)
        self._budget = Budget(config.crashes, config.window_s)
        self.backoff = Backoff()
        self._told = Hush()
        self._started: Callable[[], None] | None = task_status.started
        self._ready_s: float | None = None

    def begin(self) -> None:
        self._ready_s = None
        self._note(self._name, RoomState.STARTING, None)

    def ready(self) -> None:
        """The room calls this once it does its work; again is harmless."""
        if self._ready_s is None:
            self._ready_s = anyio.current_time()
            self._note(self._name, RoomState.RUNNING, None)
        self._tell_started()

    def finished(self) -> None:
        self._note(self._name, RoomState.FINISHED, None)
        self._tell_started()

    def failed(self, error: Exception, chance: float) -> float | None:
        """The pause before the next start; None: there is none.

        Raises: GaveUp.
        """
        now_s = anyio.current_time()
        weather = is_weather(error)
        what, hint = _words(error)
        if not weather:
            is_told = isinstance(leaves(error)[0], EdgeAgentError)  # in words, where it was known
            trace = None if is_told else error
            log.error("room crashed", trace=trace, name=self._name, error=what, hint=hint)
        if not weather and not self._budget.allows(now_s):
            self._give_up(error, what)
            return None
        ran_s = 0.0 if self._ready_s is None else now_s - self._ready_s
        pause_s = self.backoff.delay_s(ran_s=ran_s, chance=chance)
        if weather and self._told.is_news(what, now_s):
            log.warning("link down", name=self._name, error=what, retry_s=round(pause_s, 2))
        self._note(self._name, RoomState.BACKOFF, error)
        if not self._vital:
            self._tell_started()
        return pause_s

    def _give_up(self, error: Exception, what: str) -> None:
        self._note(self._name, RoomState.GIVEN_UP, error)
        terms = f"more than {self._config.crashes} crashes in {self._config.window_s:g} s"
        if self._vital:
            raise GaveUp(
                f"run {self._name}: {terms}, last {what}",
                hint="the service manager starts a clean agent; look at the log above",
            ) from error
        log.error("room given up", name=self._name, why=terms)
        self._tell_started()

    def _tell_started(self) -> None:
        if self._started is not None:
            self._started()
            self._started = None


class Rooms:
    """One floor of the running house. Made by `rooms`."""

    def __init__(
        self, group: anyio.abc.TaskGroup, *, config: SuperviseConfig, on_state: Note
    ) -> None:
        self._group = group
        self._config = config
        self._on_state = on_state
        self._inside: dict[str, None] = {}

    async def start(
        self, name: str, run: Run, *, vital: bool = True, longest_s: float = LONGEST_DELAY_S
    ) -> None:
        """Returns when the room is ready; one that is not vital may also have failed first.

        longest_s: between two starts of a room that fails.

        Raises: GaveUp, when a vital room used up its budget before it was ready.
        """
        await self._group.start(self._live, name, run, vital, longest_s)

    def begin(self, name: str, run: Run, *, longest_s: float = LONGEST_DELAY_S) -> None:
        """As `start`, not vital, and without waiting: for what may take as long as it likes."""
        self._group.start_soon(self._live, name, run, False, longest_s)

    def inside(self) -> list[str]:
        """The rooms that have not ended."""
        return list(self._inside)

    async def _live(
        self,
        name: str,
        run: Run,
        vital: bool,
        longest_s: float,
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        self._inside[name] = None
        try:
            await supervise(
                name,
                run,
                vital=vital,
                config=self._config,
                on_state=self._on_state,
                longest_s=longest_s,
                task_status=task_status,
            )
        finally:
            self._inside.pop(name, None)


@asynccontextmanager
async def rooms(name: str, *, config: SuperviseConfig, on_state: Note) -> AsyncIterator[Rooms]:
    """A floor: its rooms end when the body does, and have ended when the block is left.

    A group of one error is raised as that error, so that a `GaveUp` arrives as what it is.
    """
    loop = asyncio.get_running_loop()
    late: asyncio.TimerHandle | None = None
    try:
        async with anyio.create_task_group() as group:
            floor = Rooms(group, config=config, on_state=on_state)
            try:
                yield floor
            finally:
                group.cancel_scope.cancel()
                late = loop.call_later(config.grace_s, _tell_late, name, floor)
    except Exception as error:
        found = leaves(error)
        if len(found) == 1 and found[0] is not error:
            raise found[0] from found[0].__cause__
        raise
    finally:
        if late is not None:
            late.cancel()


def _tell_late(name: str, floor: Rooms) -> None:
    log.error("rooms did not end in their grace", floor=name, rooms=", ".join(floor.inside()))
