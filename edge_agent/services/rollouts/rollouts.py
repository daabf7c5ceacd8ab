"""The room of the rollouts: what is wanted comes in, each model's table is driven, reports go out.

Not vital: without it, without a repository, without a disk, what is committed runs on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core.edgecore import Desired, Tuf
from edge_agent.core.errors import EdgeAgentError, Rejected
from edge_agent.core.rollout import Limits, Offered, Report, RollBackWanted, Rollout, Wanted
from edge_agent.errands import Errand
from edge_agent.services.rollouts import shown
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.drive import Drive
from edge_agent.services.rollouts.keep import Keep
from edge_agent.services.rollouts.ports import Progress
from edge_agent.services.rollouts.watch import watch
from edge_agent.services.rollouts.wishes import Wishes

COLLECT_S: Final = 300.0
USB_TIMESTAMP: Final = Path("metadata") / "timestamp.json"

log = logs.get("rollouts")


class Rollouts:
    """`run` for the supervisor; `came` for what comes down; the rest for the console."""

    def __init__(
        self,
        bench: Bench,
        keep: Keep,
        *,
        node: str,
        versions: Mapping[str, str],
        boot: str,
        hand_over: Callable[[bytes], str],
    ) -> None:
        """hand_over: keeps metadata that came by message; blocks. Raises: Rejected, Damaged."""
        self.progress: dict[str, Progress] = {}
        self._bench = bench._replace(progress=self._progressed)
        self._keep = keep
        self._versions = dict(versions)
        self._boot = boot
        self._hand_over = hand_over
        self._limits = limits_of(self._bench)
        self.wishes = Wishes(self._bench, keep, node=node, offer=self.offer)
        self.drives: dict[str, Drive] = {}
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        documents = await anyio.to_thread.run_sync(self._keep.rollouts)
        try:
            async with anyio.create_task_group() as self._group:
                for document in documents.values():
                    self._drive(document)
                config = self._bench.config
                if config.enabled:
                    self._group.start_soon(self.wishes.run)
                if config.enabled and config.desired_file:
                    self._group.start_soon(watch, Path(config.desired_file), self.wishes.hint)
                if config.enabled and config.usb_dir:
                    stick = Path(config.usb_dir) / USB_TIMESTAMP
                    self._group.start_soon(watch, stick, self.wishes.hint)
                ready()
                await anyio.sleep_forever()
        finally:
            self._group = None
            self.drives.clear()

    # ── what comes in ─────────────────────────────────────────────────────────────────────────

    def came(self, event: Desired | Tuf) -> None:
        """From the uplink, on the loop. Nobody is believed: it is a reason to look."""
        if not self._bench.config.enabled or self._group is None:
            return
        if isinstance(event, Desired):
            self.wishes.heard_of(event.state.serial)
        else:
            self._group.start_soon(self._keep_metadata, event.metadata)

    async def _keep_metadata(self, metadata: bytes) -> None:
        try:
            name = await anyio.to_thread.run_sync(self._hand_over, metadata)
        except EdgeAgentError as wrong:
            log.warning("metadata was not kept", error=wrong.what)
            return
        if name == "timestamp.json":  # the last that is sent of one publication
            self.wishes.hint()

    def offer(self, model: str, wanted: Wanted, again: bool) -> None:
        self.drive_of(model).hear(Offered(wanted=wanted, again=again))

    def drive_of(self, model: str) -> Drive:
        """Of a model that had none as well. Raises: Rejected while the room is down."""
        if self._group is None:
            raise Rejected("rollouts: the room is down", hint="edge-agent status says why")
        return self.drives.get(model) or self._drive(Rollout(model=model))

    def _drive(self, document: Rollout) -> Drive:
        assert self._group is not None
        drive = Drive(document, self._bench, self._keep, limits=self._limits, on_end=self._ended)
        self.drives[document.model] = drive
        self._group.start_soon(drive.run)
        return drive

    def _progressed(self, model: str, progress: Progress | None) -> None:
        if progress is None:
            self.progress.pop(model, None)
        else:
            self.progress[model] = progress

    # ── what goes out ─────────────────────────────────────────────────────────────────────────

    def _ended(self, report: Report) -> None:
        versions = {**self._versions, **report.versions}
        told = msgspec.structs.replace(report, versions=versions, boot=self._boot)
        self._bench.house.tell("rollout", msgspec.json.encode(told).decode())
        if self._group is not None:
            self._group.start_soon(self._tidy)

    async def _tidy(self) -> None:
        """Room on the disk: what no pointer and no rollout names."""
        keep = {
            wanted.sha
            for drive in self.drives.values()
            for wanted in (drive.document.wanted, drive.document.next)
            if wanted is not None and not _is_refused(drive.document, wanted)
        }
        errand = Errand(verb="collect", place=self._bench.place, keep=tuple(sorted(keep)))
        try:
            with anyio.move_on_after(COLLECT_S):
                await self._bench.crew.run(errand, lambda _what, _facts: None)
        except EdgeAgentError as trouble:
            log.warning("the store was not tidied", error=trouble.what)

    # ── what a person may ask ─────────────────────────────────────────────────────────────────

    def models(self) -> dict[str, dict[str, Any]]:
        """By model, for the status."""
        names = {*self.drives, *self.wishes.notes, *self.wishes.memory.pins}
        return {name: shown.model(name, self) for name in sorted(names)}

    def desired(self) -> dict[str, Any]:
        """The wanted state and what became of it."""
        return shown.desired(self)

    def history(self, model: str = "") -> list[dict[str, Any]]:
        """Reports, newest first."""
        return shown.history(self, model)

    async def roll_back(self, model: str) -> dict[str, Any]:
        """Raises: Rejected."""
        bench = self._bench
        drive = self.drive_of(model)
        live = await anyio.to_thread.run_sync(bench.house.resolve, model)
        pointers = await anyio.to_thread.run_sync(bench.store.pointers, model)
        if drive.document.is_settled and not pointers.current:
            raise Rejected(
                f"roll back {model}: {live.version} is what the configuration says",
                hint="edge-agent models list",
            )
        version = await self._version_of(pointers.previous)
        drive.hear(
            RollBackWanted(
                sha=pointers.previous or "folders", version=version, live=live.sha,
                live_version=live.version,
            )
        )  # fmt: skip
        return {"model": model, "leaving": live.version, "sha": live.sha}

    async def _version_of(self, sha: str) -> str:
        folder = await anyio.to_thread.run_sync(self._bench.store.folder, sha) if sha else None
        if folder is None:
            return ""
        return (await anyio.to_thread.run_sync(self._bench.manifest, folder)).version


def _is_refused(document: Rollout, wanted: Wanted) -> bool:
    return document.is_settled and any(one.sha == wanted.sha for one in document.refused)


def limits_of(bench: Bench) -> Limits:
    config = bench.config
    return Limits(
        agent=bench.agent,
        prove_s=config.proof_s + 60.0,
        shadow_s=config.hold_s,
        observe_s=config.observe_s,
        wait_s=config.wait_s,
        probation_s=config.hold_s + config.probation_s,
        trials=config.max_trials,
        commit_inconclusive=config.inconclusive == "commit",
    )
