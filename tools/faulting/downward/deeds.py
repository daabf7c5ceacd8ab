"""Carries out what the plan says, and keeps the words as they change. Judges nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import anyio

from tools.faulting.downward import disks
from tools.faulting.downward.aboard import CHILD, INSTALLER, PROOF, STRACE, Aboard, send
from tools.faulting.downward.packages import FIRST, NAME, Kind
from tools.faulting.downward.plan import Deed
from tools.faulting.downward.site import Site
from tools.faulting.downward.watch import Watch
from tools.faulting.downward.words import Window, Words, now_s

STATE_S: Final = 8.0  # that a deed waits for its state; then it is done all the same
PREY_S: Final = 3.0  # that a hunter waits for an installer
LOOK_S: Final = 0.01
ONE_ERROR: Final = (
    STRACE or "strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=openat",
    "-e", "inject=openat:error=EIO:when=1",
)  # fmt: skip
LASTING: Final = frozenset({"stop-child", "state-full", "models-full", "cloud", "broker"})
GONE: Final = (OSError, aiohttp.ClientError, asyncio.TimeoutError)


class Deeds:
    """counts: of what was done, by kind."""

    def __init__(self, site: Site, aboard: Aboard, watch: Watch, words: Words) -> None:
        self._site, self._aboard, self._watch, self._words = site, aboard, watch, words
        self.counts: Counter[str] = Counter()
        self.done: list[str] = []

    async def do(self, deeds: tuple[Deed, ...]) -> None:
        """One after the other; what lasts goes on meanwhile. At the end nothing is broken."""
        async with anyio.create_task_group() as group:
            for deed in deeds:
                await self._moment(deed)
                if deed.kind in LASTING:
                    group.start_soon(self._done, deed)
                else:
                    await self._done(deed)

    async def ease(self, *, all_of_it: bool) -> None:
        """The stream is there again. all_of_it: no pin and no version in the configuration."""
        held = "" if all_of_it else self._words.holds
        if not self._words.is_used or held != self._words.holds:
            await self._configured(is_used=True, held=held)
        if all_of_it and self._words.pinned != {""}:
            await self._ordered("pin", {"off": True}, "")

    async def _moment(self, deed: Deed) -> None:
        until_s = now_s() + STATE_S
        while deed.state and now_s() < until_s:
            if deed.state in self._watch.stage[:2]:
                break
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(deed.wait_s)

    async def _done(self, deed: Deed) -> None:
        if self._aboard.has_ended():
            await self.revive()
        if await self._verb(deed.kind)(deed):
            self.counts[deed.kind] += 1
            self.done.append(f"{deed.kind}@{'/'.join(filter(None, self._watch.stage[:2])) or '-'}")

    def _verb(self, kind: str) -> Callable[[Deed], Awaitable[bool]]:
        verbs: dict[str, Callable[[Deed], Awaitable[bool]]] = {
            "want-back": self._want_back, "halt-wanted": self._halt_wanted,
            "halt-live": self._halt_live, "without": self._without,
            "pin": self._pin, "pin-live": self._pin_live, "unpin": self._unpin,
            "rollback": self._roll_back, "install": self._install,
            "stream-goes": self._stream_goes, "stream-comes": self._stream_comes,
            "held": self._held, "held-no-more": self._held_no_more,
            "kill-agent": self._kill_agent, "kill-child": self._kill_child,
            "kill-installer": self._kill_installer, "kill-proof": self._kill_proof,
            "stop-child": self._stop_child, "state-full": self._state_full,
            "models-full": self._models_full, "read-error": self._read_error,
            "broker": self._broker, "cut": self._cut, "cloud": self._cloud,
        }  # fmt: skip
        return verbs.get(kind, self._want)

    async def revive(self) -> None:
        """As a service manager does with an agent that ended by itself; the watch has told."""
        async with self._aboard.lock:
            if self._aboard.has_ended():
                with self._excused("ended"):
                    self._watch.started(await self._aboard.up())

    @contextmanager
    def _excused(self, why: str) -> Iterator[None]:
        window = Window(why, now_s())
        self._words.windows.append(window)
        try:
            yield
        finally:
            window.to_s = now_s()

    # ── the hot tier ──────────────────────────────────────────────────────────────────────────

    async def _want(self, deed: Deed) -> bool:
        kind: Kind = deed.kind.removeprefix("want-")  # type: ignore[assignment]
        made = await self._site.publish(kind)
        await self._site.want(made.version, deed.mode)
        return True

    async def _want_back(self, deed: Deed) -> bool:
        """A good one from before, that nobody halted."""
        halted = self._words.wish.halted
        there = [
            one.version
            for one in self._words.made.values()
            if one.kind == "good" and one.version not in {FIRST, self._words.wish.version, *halted}
        ]
        if not there:
            return False
        await self._site.want(_of(there, deed.lot))
        return True

    async def _without(self, _: Deed) -> bool:
        await self._site.want_nothing()
        return True

    async def _halt_wanted(self, _: Deed) -> bool:
        return await self._halted(self._words.wish.version)

    async def _halt_live(self, _: Deed) -> bool:
        return await self._halted(self._watch.newest.live)

    async def _halted(self, version: str) -> bool:
        if version in ("", FIRST) or version in self._words.wish.halted:
            return False
        await self._site.halt(version)
        return True

    # ── persons ───────────────────────────────────────────────────────────────────────────────

    async def _pin(self, deed: Deed) -> bool:
        """To what is live, under way or was there before."""
        look = self._watch.newest
        there = [one for one in (look.live, look.version, look.pointed, FIRST) if one]
        version = _of(there, deed.lot)
        return await self._ordered("pin", {"version": version}, version)

    async def _pin_live(self, _: Deed) -> bool:
        look = self._watch.newest
        return await self._ordered("pin", {}, look.live, look.pointed or FIRST, look.version)

    async def _unpin(self, _: Deed) -> bool:
        return await self._ordered("pin", {"off": True}, "")

    async def _install(self, deed: Deed) -> bool:
        """By the name of what is wanted or was wanted once."""
        there = [one for one in self._words.made if one != FIRST]
        if not there:
            return False
        version = self._words.wish.version if deed.lot < 0.5 else ""
        version = version or _of(there, deed.lot)
        self._words.by_hand.add(version)
        return await self._ordered("install", {"version": version}, version)

    async def _roll_back(self, _: Deed) -> bool:
        look, words = self._watch.newest, self._words
        before = set(words.left)
        words.left |= {look.live, look.version, look.pointed, words.wish.version} - {"", FIRST}
        answer = await self._asked("rollback", {})
        if answer is not None:
            words.left = before | ({str(answer["leaving"])} if answer else set())
        words.hand = "" if answer != {} else words.hand
        return True

    async def _ordered(self, verb: str, body: dict[str, Any], *versions: str) -> bool:
        """A pin, by whatever verb. versions: one of which it will be."""
        words, before = self._words, self._words.pinned
        words.pin(*before, *versions)
        words.hand = ""
        answer = await self._asked(verb, body)
        if answer == {}:
            words.pins[-1:] = []
            words.pin(*before)
        elif answer is not None and answer.get("written", verb == "install"):
            version = versions[0] if verb == "install" else str(answer["pinned"] or "")
            words.pin(version)
            words.hand = version if verb == "install" else ""
            words.left -= {version} if verb == "install" else set()
        return True

    async def _asked(self, verb: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; {} when it was refused; None when nobody knows what became of it."""
        try:
            status, answer = await self._aboard.post(f"/v1/models/{verb}", {"model": NAME, **body})
        except GONE:
            return None
        if 400 <= status < 500:
            return {}
        return answer if status < 300 else None

    # ── the configuration ─────────────────────────────────────────────────────────────────────

    async def _stream_goes(self, _: Deed) -> bool:
        return await self._configured(is_used=False, held="")

    async def _stream_comes(self, _: Deed) -> bool:
        return await self._configured(is_used=True, held=self._words.holds)

    async def _held(self, deed: Deed) -> bool:
        """To what is committed, or what was there first."""
        look = self._watch.newest
        return await self._configured(
            is_used=True, held=_of([FIRST, look.pointed or FIRST], deed.lot)
        )

    async def _held_no_more(self, _: Deed) -> bool:
        return await self._configured(is_used=self._words.is_used, held="")

    async def _configured(self, *, is_used: bool, held: str) -> bool:
        """Until an agent has taken it."""
        self._aboard.configure(is_used=is_used, held=held)
        taken = False
        while not taken:
            async with self._aboard.lock:
                with contextlib.suppress(*GONE):
                    status, answer = await self._aboard.post("/v1/reload", {})
                    taken = status < 300 and bool(answer.get("reloaded"))
            await asyncio.sleep(0 if taken else 0.2)
        self._words.configured(is_used=is_used, held=held)
        return True

    # ── what falls over ───────────────────────────────────────────────────────────────────────

    async def _kill_agent(self, deed: Deed, *prefix: str) -> bool:
        async with self._aboard.lock:
            with self._excused(deed.kind):
                if not self._aboard.has_ended():
                    await self._aboard.down()
                self._watch.strays += await self._aboard.orphans()
                await asyncio.sleep(deed.lot * 0.5)
                self._watch.started(await self._aboard.up(*prefix))
                self._aboard.untraced()
        return True

    async def _read_error(self, deed: Deed) -> bool:
        """One, of one of the documents, at a start."""
        state = self._aboard.state
        path = _of(
            [
                state / "desired" / "desired.json", state / "rollouts" / f"{NAME}.json",
                state / "models" / NAME / "pointers.json",
            ],
            deed.lot,
        )  # fmt: skip
        return await self._kill_agent(deed, *ONE_ERROR, "-P", str(path))

    async def _kill_child(self, deed: Deed) -> bool:
        with self._excused(deed.kind):
            return await self._hunted(CHILD, signal.SIGKILL)

    async def _kill_installer(self, _: Deed) -> bool:
        return await self._hunted(INSTALLER, signal.SIGKILL)

    async def _kill_proof(self, _: Deed) -> bool:
        return await self._hunted(PROOF, signal.SIGKILL)

    async def _hunted(self, words: str, number: signal.Signals) -> bool:
        until_s = now_s() + PREY_S
        while now_s() < until_s:
            if any(send(pid, number) for pid in self._aboard.pids(words)):
                return True
            await asyncio.sleep(LOOK_S)
        return False

    async def _stop_child(self, deed: Deed) -> bool:
        pids = self._aboard.pids(CHILD)
        with self._excused(deed.kind):
            stopped = [pid for pid in pids if send(pid, signal.SIGSTOP)]
            await asyncio.sleep(deed.seconds)
            for pid in stopped:
                send(pid, signal.SIGCONT)
        return bool(stopped)

    async def _state_full(self, deed: Deed) -> bool:
        await disks.full(self._aboard.state, deed.seconds)
        return True

    async def _models_full(self, deed: Deed) -> bool:
        await disks.full(self._aboard.store, deed.seconds)
        return True

    async def _broker(self, deed: Deed) -> bool:
        await asyncio.to_thread(self._site.broker.stop, kill=True)
        await asyncio.sleep(deed.lot)
        await asyncio.to_thread(self._site.broker.start)
        return True

    async def _cut(self, _: Deed) -> bool:
        self._site.road.cut()
        return True

    async def _cloud(self, deed: Deed) -> bool:
        self._site.edgecore.cut()
        await asyncio.sleep(deed.seconds / 2)
        self._site.edgecore.restore()
        return True


def _of(there: list[Any], lot: float) -> Any:
    return there[int(lot * len(there))]
