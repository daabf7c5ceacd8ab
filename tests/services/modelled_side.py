"""The inference side of the model test: the engine is the real one, over a process that is not.

The process keeps the rules of `inference.models`: candidates live in it alone, a pinned stream
never joins a trial, a stream that comes during a trial does. It answers one thing after another,
a load beside that; what was sent is done, also when nobody waits for the answer any more.
"""

from __future__ import annotations

import asyncio
import enum
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from edge_agent.config.structs import EngineConfig
from edge_agent.core.errors import (
    BadPackage,
    EdgeAgentError,
    Overloaded,
    Rejected,
    fault_of,
)
from edge_agent.core.trial import LiveCounts, Probation, ShadowCounts
from edge_agent.orders import Begin, ModelRef, Request, StreamOrder
from edge_agent.services.engine import Engine
from edge_agent.services.engine.line import Line
from edge_agent.services.engine.taps import Rest
from tests.services.rolling import GOOD, NAME, WELL

ANSWER_S = 0.003
LOAD_S = 0.1
SHOWS_S = 0.3  # until what is wrong with a version shows
HEADER_BYTES = 4
replace = msgspec.structs.replace


class Flaw(enum.Enum):
    """What is wrong with a package."""

    NONE = "none"
    GOLDEN = "golden"
    UNLOADABLE = "unloadable"
    CRASH_LOADING = "crash loading"
    SHADOW_NAN = "shadow nan"
    DISAGREES = "disagrees"
    NAN_LIVE = "nan live"
    ERRORS_LIVE = "errors live"
    CRASH_LIVE = "crash live"


class Made(NamedTuple):
    """What packages there are. By sha."""

    versions: dict[str, str]
    flaws: dict[str, Flaw]


class Run:
    """The model on one stream. since_s: that `live` is live."""

    def __init__(self, order: StreamOrder, ref: ModelRef, now_s: float) -> None:
        self.order = order
        self.ref = ref
        self.live = ref.sha
        self.previous = ""
        self.is_trial = ref.trial
        self.since_s = now_s


class Process:
    """One incarnation of the side. judged_s: when somebody last looked after what is on trial."""

    def __init__(self, loop: asyncio.AbstractEventLoop, made: Made) -> None:
        self._loop = loop
        self._versions = made.versions
        self._flaws = made.flaws
        self.runs: dict[str, Run] = {}
        self.candidates: set[str] = set()
        self.loading: set[str] = set()
        self.trial = ""
        self.shadow = ""
        self._shadow_s = 0.0
        self.judged_s = loop.time()
        self.code: int | None = None
        self.gone = asyncio.Event()
        self.is_deaf = False
        self.loses: set[str] = set()  # verbs after which it hangs, without an answer
        self.lost: set[str] = set()
        self.is_short = False
        self._free_s = 0.0

    # ── `launch.Launched` ─────────────────────────────────────────────────────────────────────

    def kill(self) -> None:
        self.die(-signal.SIGKILL)

    async def wait(self) -> int | None:
        await self.gone.wait()
        return self.code

    def die(self, code: int) -> None:
        if self.code is None:
            self.code = code
            self.runs.clear()
            self.trial = ""
            self.gone.set()

    # ── what it is asked ──────────────────────────────────────────────────────────────────────

    def take(self, line: ModelLine, request: Request) -> None:
        """In the order of coming; a load has a thread of its own."""
        now_s = self._loop.time()
        if request.verb == "load":
            self._loop.call_at(now_s + LOAD_S, self._loaded, line, request)
            self.loading.add(request.sha)
            return
        self._free_s = max(now_s, self._free_s) + ANSWER_S
        self._loop.call_at(self._free_s, self._handle, line, request)

    def _handle(self, line: ModelLine, request: Request) -> None:
        if self.code is not None or self.is_deaf:
            return
        verbs: dict[str, Callable[[Request], dict[str, Any]]] = {
            "begin": lambda _: {}, "configure": self._configure, "shadow": self._shadow,
            "swap": self._swap, "commit": self._commit, "rollback": self._roll_back,
            "figures": self._figures, "unload": self._unload, "stop": self._stop,
        }  # fmt: skip
        self._answer(line, request, verbs[request.verb])

    def _answer(
        self, line: ModelLine, request: Request, verb: Callable[[Request], dict[str, Any]]
    ) -> None:
        words: dict[str, Any]
        try:
            words = {"ok": verb(request)}
        except EdgeAgentError as error:
            words = {"error": error.what, "fault": fault_of(error)}
        if self.code is not None:
            return
        if request.verb in self.loses:
            self.loses.discard(request.verb)
            self.lost.add(request.verb)
            self.is_deaf = True  # what it was told is done; then it hangs
            return
        line.answered(request.id, words)

    def _loaded(self, line: ModelLine, request: Request) -> None:
        self.loading.discard(request.sha)
        if self.code is None and not self.is_deaf:
            self._answer(line, request, self._load)

    def _load(self, request: Request) -> dict[str, Any]:
        flaw = self._flaws.get(request.sha, Flaw.NONE)
        if self.is_short:
            raise Overloaded("load: no memory for it")
        if flaw is Flaw.UNLOADABLE:
            raise BadPackage("load: the runtime can not read it")
        if flaw is Flaw.CRASH_LOADING:
            self.die(-signal.SIGSEGV)
        self.candidates.add(request.sha)
        return {"streams": len(self.free()), "version": self._versions[request.sha]}

    def free(self) -> list[Run]:
        """Those that a candidate may take over."""
        return [run for run in self.runs.values() if not run.ref.pinned]

    def _configure(self, request: Request) -> dict[str, Any]:
        wanted = {order.name: order for order in request.streams}
        for name in set(self.runs) - set(wanted):
            del self.runs[name]
        for order in request.streams:
            if order.name in self.runs:
                continue
            for ref in order.models:
                run = self.runs[order.name] = Run(order, ref, self._loop.time())
                if run.is_trial:
                    self.judged_s = self._loop.time()
                if self.trial and not ref.pinned and self.trial != run.live:
                    self._seat(run, self.trial, is_trial=True)
                self._may_crash(run)
        return {}

    def _seat(self, run: Run, sha: str, *, is_trial: bool) -> None:
        run.previous, run.live, run.is_trial = run.live, sha, is_trial
        run.since_s = self._loop.time()
        self._may_crash(run)

    def _may_crash(self, run: Run) -> None:
        if self._flaws.get(run.live) is Flaw.CRASH_LIVE:
            self._loop.call_later(SHOWS_S, self._crash_of, run, run.live)

    def _crash_of(self, run: Run, sha: str) -> None:
        if run.live == sha and run in self.runs.values():
            self.die(-signal.SIGSEGV)

    def _shadow(self, request: Request) -> dict[str, Any]:
        sha = request.sha
        if sha and sha != self.shadow:
            if sha not in self.candidates and sha not in {run.previous for run in self.free()}:
                raise Rejected(f"version {sha[:16]} is not loaded")
            self.shadow, self._shadow_s = sha, self._loop.time()
        counts = self._shadow_counts()
        if not sha:
            self.shadow = ""
        return {"counts": msgspec.to_builtins({run.order.name: counts for run in self.free()})}

    def _shadow_counts(self) -> ShadowCounts:
        if not self.shadow or self._loop.time() - self._shadow_s < SHOWS_S:
            return ShadowCounts()
        flaw = self._flaws.get(self.shadow, Flaw.NONE)
        if flaw is Flaw.SHADOW_NAN:
            return replace(GOOD, nan=3, errors=3)
        return replace(GOOD, agreement_sum=5.0) if flaw is Flaw.DISAGREES else GOOD

    def _swap(self, request: Request) -> dict[str, Any]:
        sha = request.sha
        if sha not in self.candidates:
            raise Rejected(f"version {sha[:16]} is not loaded")
        if self.trial:
            raise Rejected(f"swap: version {self.trial[:16]} is on trial")
        self.shadow = ""
        self.candidates.discard(sha)
        self.judged_s = self._loop.time()
        if request.trial:
            self.trial = sha
        runs = self.free()
        before = next((run.live for run in runs), "")
        for run in runs:
            self._seat(run, sha, is_trial=request.trial)
        return {"streams": len(runs), "previous": before}

    def _commit(self, _: Request) -> dict[str, Any]:
        self.shadow = self.trial = ""
        for run in self.free():
            run.is_trial, run.previous = False, ""
        return {}

    def _roll_back(self, _: Request) -> dict[str, Any]:
        back = [run for run in self.free() if run.previous]
        for run in back:
            run.live, run.previous, run.is_trial = run.previous, "", False
        self.trial = self.shadow = ""
        self.judged_s = self._loop.time()
        return {"streams": len(back)}

    def shows(self, run: Run) -> Flaw:
        """What is to be seen of what is live there."""
        flaw = self._flaws.get(run.live, Flaw.NONE)
        return flaw if self._loop.time() - run.since_s >= SHOWS_S else Flaw.NONE

    def _figures(self, _: Request) -> dict[str, Any]:
        self.judged_s = self._loop.time()
        found = {run.order.name: self._probation(run) for run in self.free()}
        return {"counts": msgspec.to_builtins(found)}

    def _probation(self, run: Run) -> Probation:
        before = WELL.before if run.previous else LiveCounts()
        if self._loop.time() - run.since_s < SHOWS_S:
            return Probation(before=before)
        now = WELL.now
        if self.shows(run) is Flaw.NAN_LIVE:
            now = replace(now, nan=3, errors=3)
        if self.shows(run) is Flaw.ERRORS_LIVE:
            now = replace(now, errors=100)
        return Probation(before=before, now=now)

    def _unload(self, request: Request) -> dict[str, Any]:
        if request.sha in self.candidates:
            self.candidates.discard(request.sha)
            self.shadow = "" if self.shadow == request.sha else self.shadow
        return {}

    def _stop(self, _: Request) -> dict[str, Any]:
        self._loop.call_soon(self.die, 0)
        return {}


class ModelLine(Line):
    """The real end of the control socket, without a socket."""

    def __init__(self, process: Process) -> None:
        super().__init__(cast("Any", None), lambda _words: None)
        self._process = process

    def _send(self, message: bytes, _fds: Sequence[int]) -> None:
        if self._process.code is not None:
            raise OSError("end of file")
        self._process.take(self, msgspec.msgpack.decode(message[HEADER_BYTES:], type=Request))

    def answered(self, number: int, words: dict[str, Any]) -> None:
        answer = self._waiting.get(number)
        if answer is not None and not answer.done():
            answer.set_result(words)

    async def read_on(self) -> None:
        await self._process.gone.wait()
        self.closed.set()
        self._fail_all()

    def hang_up(self) -> None:
        self.closed.set()
        self._fail_all()


class ModelEngine(Engine):
    """The real engine; its child and the memory of its streams are not there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, made: Made) -> None:
        super().__init__(
            config=EngineConfig(),
            begin=Begin(engine=EngineConfig(), lanes=1, node="cart-3", boot="ab", exam_key=b""),
            launch=cast("Any", None), on_record=lambda _record, _primary: None,
            heard=lambda _words: None,
        )  # fmt: skip
        self._loop = loop
        self._made = made
        self.process: Process | None = None
        self.is_short = False

    async def run(self, ready: Callable[[], None]) -> None:
        process = self.process = Process(self._loop, self._made)
        process.is_short = self.is_short
        self.starts += 1
        self._launched = process
        self._ended_by_us = False
        self._line = ModelLine(process)
        try:
            await self._live(process, self._line, ready)
        finally:
            process.die(-signal.SIGKILL)
            self.process = None

    async def _order_streams(
        self, orders: Sequence[StreamOrder], *, timeout_s: float | None = None
    ) -> None:
        await self.ask(
            "configure",
            timeout_s=timeout_s or self._config.start_timeout_s,
            streams=tuple(orders),
        )

    def rest(self, model: str, now_us: int) -> dict[str, Rest]:
        assert (model, now_us > 0) == (NAME, True)
        return {}
