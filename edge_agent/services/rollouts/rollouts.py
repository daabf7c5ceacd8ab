"""The service of the rollouts: what is wanted comes in, each table is driven, reports go out.

Not vital: without it, without a repository, without a disk, what is committed runs on. What is live
on trial is taken back when this service falls: nobody would judge it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from edge_agent import logs
from edge_agent.core import desired
from edge_agent.core.desired import Halt, Standing
from edge_agent.core.edgecore import Desired, Tuf
from edge_agent.core.errors import Damaged, EdgeAgentError, Overloaded
from edge_agent.core.problems import Problem
from edge_agent.core.rollout import (
    Limits,
    Offered,
    Report,
    RollBackWanted,
    Rollout,
    State,
    Wanted,
    Withdrawn,
)
from edge_agent.errands import Errand
from edge_agent.services.rollouts import shown
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.drive import Drive
from edge_agent.services.rollouts.keep import Keep
from edge_agent.services.rollouts.ports import Progress
from edge_agent.services.rollouts.settling import FOLDERS
from edge_agent.services.rollouts.watch import watch
from edge_agent.services.rollouts.wishes import Heard, Wishes

COLLECT_S: Final = 300.0
RECALL_S: Final = 1.0  # between two tries to read the documents
READ_S: Final = 2.0
BACK_S: Final = 3.0  # to take back what nobody would judge
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
        self.agent, self.cohort = bench.agent, bench.config.cohort
        self._hand_over = hand_over
        self._limits = limits_of(self._bench)
        heard = Heard(offer=self.offer, leave=self._leave, changed=self.look_again)
        self.wishes = Wishes(self._bench, keep, node=node, heard=heard)
        self.drives: dict[str, Drive] = {}
        self.unread = ""  # why the documents could not be read yet
        self.is_told: Callable[[], bool] = lambda: False  # that the disk refuses, by who owns it
        self._is_read = False
        self._group: anyio.abc.TaskGroup | None = None
        self._store_turn = anyio.Lock()  # of who installs by hand, and of who makes room

    async def run(self, ready: Callable[[], None]) -> None:
        falls = True
        try:
            async with anyio.create_task_group() as self._group:
                self._group.start_soon(self.wishes.write_on)
                ready()
                await self.wishes.recall()
                await self._recall()
                self._listen(self._group)
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            falls = False  # an orderly stop: the side goes with us
            raise
        finally:
            self._group, self._is_read = None, False
            if falls:
                await self._take_back()
            self.drives.clear()

    async def _recall(self) -> None:
        """The documents of an earlier life. A disk that fails is asked again."""
        while True:
            try:
                found = await anyio.to_thread.run_sync(self._keep.rollouts)
            except EdgeAgentError as disk:
                self.unread = disk.what
                await anyio.sleep(RECALL_S)
                continue
            self.unread, self._is_read = "", True
            for document in found.documents.values():
                self._drive(document)
            for model, why in found.lost.items():
                await self.wishes.doubt(model, why)
            return

    def _listen(self, group: anyio.abc.TaskGroup) -> None:
        config = self._bench.config
        if not config.enabled:
            return
        group.start_soon(self.wishes.run)
        if config.desired_file:
            group.start_soon(watch, Path(config.desired_file), self.wishes.hint)
        if config.usb_dir:
            group.start_soon(watch, Path(config.usb_dir) / USB_TIMESTAMP, self.wishes.hint)

    async def _take_back(self) -> None:
        """A candidate is never live without somebody who judges it."""
        side, house = self._bench.side, self._bench.house
        with anyio.CancelScope(shield=True), anyio.move_on_after(BACK_S):
            for model in list(self.drives):
                try:
                    if side.is_on_trial(model):
                        await side.roll_back(model)
                    await house.first(model, None, "")
                except EdgeAgentError as gone:
                    log.warning("not taken back", model=model, error=gone.what)

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

    async def until_read(self) -> None:
        """A moment after the start the documents are read; whoever asks sooner waits for that."""
        with anyio.move_on_after(READ_S):
            while not self._is_read:  # noqa: ASYNC110 - it has an end, and nothing tells us
                await anyio.sleep(0.02)

    def absent(self, model: str) -> str:
        """Why no version of it runs; "" when one does, nothing is known of it, or what ought to run
        has rotted: who could not order it says so.
        """
        drive = self.drives.get(model)
        if (
            model in self.wishes.rotten
            or drive is None
            or drive.document.wanted is None
            or self._bench.side.live(model)
        ):
            return ""
        document, version = drive.document, drive.document.wanted.version
        if not document.is_settled:
            return f"no version of {model} runs yet: {version} is {document.state.value}"
        words = f"no version of {model} runs: {version} was {document.state.value}"
        return f"{words}: {document.report.reason}" if document.report.reason else ""

    def look_again(self) -> None:
        """What is wanted, or which streams there are, has changed: each rollout is compared."""
        for drive in self.drives.values():
            drive.look_again()

    def _objects(self, document: Rollout) -> str:
        """Why what is under way is not what is wanted; "" when it is, or nothing is."""
        wanted = document.wanted
        if wanted is None or document.is_settled or document.revert_to:
            return ""
        if document.outcome is not None and document.order != "commit":
            return ""  # it is on its way out
        wishes = self.wishes
        if not wishes.is_recalled:
            return ""
        standing = wishes.standing_of(document.model)
        note = desired.objection(wishes.memory, document.model, standing, wanted)
        return "" if note is None else (note.text or note.word.value)

    def offer(self, model: str, wanted: Wanted, again: bool) -> None:
        if self._group is not None and self._is_read:
            self.drive_of(model).hear(Offered(wanted=wanted, again=again))

    def blocked(self, model: str, sha: str) -> str:
        """Why that version may not run on this node; "" when it may."""
        halt = desired.must_leave(self.wishes.memory, model, Standing(current=sha))
        if halt is not None:
            return desired.halted(halt)
        document = self.drives[model].newest if model in self.drives else Rollout(model=model)
        is_left = document.outcome is State.ROLLED_BACK and document.wanted is not None
        if is_left and document.wanted is not None and document.wanted.sha == sha:
            return f"{document.wanted.version} is being rolled back: {document.report.reason}"
        return ""

    async def _leave(self, model: str, standing: Standing, halt: Halt) -> bool:
        """The hot tier halted what is live, or would be after a restart: the last good one comes
        back. Nothing is tried beside a version that may not run.
        """
        if self._group is None or not self._is_read:
            return False
        side = self._bench.side
        live = side.live(model)
        is_shown = live is not None and live.sha == standing.current
        if side.is_up and not is_shown and not await self._is_pointed(model, standing.current):
            return False  # it shows nothing already; a side that is away would start on it
        drive, reason = self.drive_of(model), desired.halted(halt)
        if drive.newest.is_settled:
            target, version = await anyio.to_thread.run_sync(self.last_good, model)
            drive.hear(
                RollBackWanted(
                    sha=target or FOLDERS, version=version, live=standing.current,
                    live_version=standing.version or halt.version, reason=reason, by="desired",
                )
            )  # fmt: skip
        elif not drive.newest.is_ending:
            drive.hear(Withdrawn(reason=f"{reason}; that gives way first"))
        return True

    def pointed(self, model: str) -> tuple[str, str]:
        """(current, previous) of the store; where these are rotten, as the history knows; blocks.

        Raises: EdgeAgentError while nobody can read them.
        """
        try:
            pointers = self._bench.store.pointers(model)
        except Damaged as rotten:
            if not rotten.healable:
                raise
        else:
            return pointers.current, pointers.previous
        live = self._bench.side.live(model)
        return (live.sha if live is not None else ""), ""

    async def _is_pointed(self, model: str, sha: str) -> bool:
        """Whether the store's pointer names it. One that can't be read just now names nothing."""
        try:
            pointers = await anyio.to_thread.run_sync(self._bench.store.pointers, model)
        except EdgeAgentError:
            return False
        return pointers.current == sha

    def last_good(self, model: str) -> tuple[str, str]:
        """(sha, version) of what was committed last, is still here and sound, and is not halted;
        blocks.

        "" for what the folders of the configuration say.
        """
        store, memory = self._bench.store, self.wishes.memory
        document = self.drives[model].newest if model in self.drives else Rollout(model=model)
        committed = [r.sha for r in reversed(document.history) if r.outcome == "committed"]
        current, previous = self.pointed(model)
        for sha in [previous, *committed]:
            folder = store.folder(sha) if sha and sha != current else None
            refused = document.refused_as(sha, self._bench.agent)
            may_run = folder is not None and refused is None and memory.halt(model, sha) is None
            if may_run and folder is not None and store.has(sha):
                return sha, self._bench.manifest(folder).version
        return "", ""

    def drive_of(self, model: str) -> Drive:
        """Of a model that had none as well. Raises: Overloaded while the service is down; Damaged
        while nobody can read how far its rollout was and what was refused of it.
        """
        if self._group is None:
            raise Overloaded("rollouts: the service is down", hint="edge-agent status says why")
        if not self._is_read:
            raise Damaged(
                f"rollouts can not be read: {self.unread or 'not yet'}",
                hint="check the disk of state_dir (dmesg), and whose its files are",
            )
        return self.drives.get(model) or self._drive(Rollout(model=model))

    def _drive(self, document: Rollout) -> Drive:
        assert self._group is not None
        drive = Drive(
            document, self._bench, self._keep, limits=self._limits, on_end=self._ended,
            objects=self._objects, boot=self._boot,
        )  # fmt: skip
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
            self._group.start_soon(self._offer_again)

    async def _offer_again(self) -> None:
        """What is wanted may be another thing than what ended; that does not wait for a clock."""
        if not self.wishes.is_recalled:
            return
        try:
            await self.wishes.follow_models()
        except EdgeAgentError as disk:
            log.warning("not followed just now", error=disk.what)

    @asynccontextmanager
    async def installing(self) -> AsyncIterator[None]:
        """By hand: until the package has a document that names it, nobody makes room."""
        async with self._store_turn:
            yield

    async def _tidy(self) -> None:
        """Room on the disk: what no pointer, no rollout and no pin names."""
        async with self._store_turn:
            errand = Errand(verb="collect", place=self._bench.place, keep=await self._kept())
            try:
                with anyio.move_on_after(COLLECT_S):
                    await self._bench.crew.run(errand, lambda _what, _facts: None)
            except EdgeAgentError as trouble:
                log.warning("the store was not tidied", error=trouble.what)

    async def _kept(self) -> tuple[str, ...]:
        keep = {
            wanted.sha
            for drive in self.drives.values()
            for wanted in (drive.newest.wanted, drive.newest.next)
            if wanted is not None and not _is_over(drive.newest, wanted.sha)
        }
        keep |= self._coming()
        pins = {(name, pin.version) for name, pin in self.wishes.memory.pins.items()}
        have = await anyio.to_thread.run_sync(self._bench.store.have) if pins else []
        keep |= {one.sha for one in have if (one.name, one.version) in pins}
        return tuple(sorted(keep))

    def _coming(self) -> set[str]:
        """What is wanted, and may begin before an installer sweeps that starts now."""
        memory, found = self.wishes.memory, set()
        for name, model in (memory.desired.models if memory.desired else {}).items():
            document = self.drives[name].newest if name in self.drives else Rollout(model=name)
            wanted = Wanted(version=model.version, sha=model.sha256, mode=model.mode)
            standing = self.wishes.standing_of(name)
            if document.refused_as(wanted.sha, self.agent) is None and (
                desired.objection(memory, name, standing, wanted) is None
            ):
                found.add(wanted.sha)
        return found

    # ── what a person may ask ─────────────────────────────────────────────────────────────────

    def models(self) -> dict[str, dict[str, Any]]:
        """By model, for the status."""
        names = {*self.drives, *self.wishes.notes, *self.wishes.memory.pins}
        return {name: shown.model(name, self) for name in sorted(names)}

    def desired(self) -> dict[str, Any]:
        """The wanted state and what became of it."""
        return shown.desired(self)

    def live_version(self, model: str) -> str:
        """What runs now; "" while nothing does."""
        live = self._bench.side.live(model)
        return live.version if live is not None else ""

    def waits(self) -> bool:
        """Whether the disk refuses what is to be read or written."""
        is_stuck = any(drive.trouble for drive in self.drives.values())
        return is_stuck or bool(self.wishes.unwritten or self.unread)

    def problems(self) -> list[Problem]:
        """What a person should know or do something about."""
        return shown.problems(self)

    def history(self, model: str = "") -> list[dict[str, Any]]:
        """Reports, newest first."""
        return shown.history(self, model)


def _is_over(document: Rollout, sha: str) -> bool:
    """Nobody goes on with it: refused, or given up."""
    is_refused = any(one.sha == sha for one in document.refused)
    return document.is_settled and (is_refused or document.state is State.WITHDRAWN)


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
