"""Looks at the agent again and again, and writes down what it saw. Decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import aiohttp
import anyio
import msgspec

from tools.faulting.downward.aboard import US, Aboard
from tools.faulting.downward.packages import NAME
from tools.faulting.downward.seen import Ended, Look, Pointed, Seen
from tools.faulting.downward.words import Words, now_s

POINTER_S: Final = 0.02
STATUS_S: Final = 0.15
FRESH_MS: Final = 2000.0


class Watch:
    """seen: of the cycle that is. stage: (state, order, version) of the document on the disk."""

    def __init__(self, aboard: Aboard, words: Words) -> None:
        self._aboard, self._words = aboard, words
        self.seen = Seen(from_s=now_s())
        self.stage = ("", "", "")
        self.strays: list[str] = []  # that outlived an agent
        self._pointed: str | None = None
        self._ended: object = None

    @property
    def newest(self) -> Look:
        return self.seen.looks[-1] if self.seen.looks else Look(at_s=0.0)

    def begin(self) -> None:
        """A new cycle; of the one before only where the pointer stood is known on."""
        before = self.seen
        self.seen = Seen(from_s=now_s(), pointed=before.pointed[-1:], looks=before.looks[-1:])

    def started(self, at_s: float) -> None:
        self.seen.starts.append(at_s)

    async def run(self) -> None:
        async with anyio.create_task_group() as group:  # for ever
            group.start_soon(self._follow_files)
            group.start_soon(self._follow_status)

    async def _follow_files(self) -> None:
        while True:
            sha = self._aboard.pointed()
            if sha is not None and (sha != self._pointed or not self.seen.pointed):
                is_whole = not sha or self._aboard.is_there(sha)
                self.seen.pointed.append(Pointed(now_s(), sha, is_whole))
                self._pointed = sha
            document = self._aboard.document()
            wanted = document.get("wanted") or {}
            version = str(wanted.get("version", ""))
            self.stage = (
                str(document.get("state", "")), str(document.get("order", "")), version,
            )  # fmt: skip
            self._look_after()
            await asyncio.sleep(POINTER_S)

    def _look_after(self) -> None:
        """An agent that ended while nobody was ending it, once."""
        aboard = self._aboard
        if aboard.has_ended() and not aboard.lock.locked() and aboard.process is not self._ended:
            self._ended = aboard.process
            assert aboard.process is not None
            self.seen.ends.append(f"with {aboard.process.returncode}: {aboard.said()[-1500:]}")

    async def _follow_status(self) -> None:
        while True:
            with contextlib.suppress(OSError, aiohttp.ClientError, asyncio.TimeoutError):
                await self.look()
            await asyncio.sleep(STATUS_S)

    async def look(self) -> Look:
        """Raises: OSError, ClientError, TimeoutError while it does not answer."""
        status = await self._aboard.get("/v1/status")
        look = look_of(status, self._words.version_of(self._pointed or ""))
        self.seen.looks.append(look)
        return look

    async def history(self) -> None:
        """What the agent tells of its ends, newest first, into what was seen."""
        found = await self._aboard.get(f"/v1/models/history?model={NAME}")
        self.seen.ended = [
            Ended(one["sha"], one["outcome"], one["at_us"] / 1e6, one.get("reason", ""))
            for one in found["history"]
            if one["at_us"] / 1e6 >= self.seen.from_s
        ]


def look_of(status: dict[str, Any], pointed: str) -> Look:
    """pointed: the version."""
    model = status["models"].get(NAME) or {}
    rollout = model.get("rollout") or {}
    stream = status["streams"].get(US) or {}
    desired = status.get("desired") or {}
    refused = tuple((one["sha"], one["by"]) for one in rollout.get("refused", ()))
    age = stream.get("age_ms")
    return Look(
        at_s=now_s(),
        live=model.get("active", "") if stream else "",
        live_sha=model.get("sha", "") if stream else "",
        pointed=pointed,
        state=rollout.get("state", ""),
        version=rollout.get("version", ""),
        settled=rollout.get("settled", True),
        pinned=rollout.get("pinned") or "",
        serial=desired.get("serial", 0),
        desired=desired.get("models", {}).get(NAME, ""),
        errors=stream.get("dropped", {}).get("error", 0),
        refused=refused,
        up=status["engine"]["up"],
        shows=bool(stream) and stream["state"] == "ok" and age is not None and age < FRESH_MS,
        problems=tuple(one["what"][:120] for one in status["problems"]),
        reason=msgspec.json.encode(
            {key: rollout.get(key) for key in ("reason", "waits_for", "unsettled", "cause")}
        ).decode(),
    )
