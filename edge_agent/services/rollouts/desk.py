"""What an operator does by hand: install, roll back, pin, look back.

An order of a person is never dropped. It is answered when it is written down, or says that the disk
does not take it yet; either way it holds, and the answer says which version is live.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.core.desired import EVERY, Pin
from edge_agent.core.errors import EdgeAgentError, Overloaded, Rejected
from edge_agent.core.rollout import Offered, RollBackWanted, Rollout, Wanted
from edge_agent.errands import Errand
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.drive import Drive
from edge_agent.services.rollouts.ports import Live, Package
from edge_agent.services.rollouts.rollouts import USB_TIMESTAMP, Rollouts
from edge_agent.services.rollouts.settling import FOLDERS

ADOPT_S: Final = 1800.0
WRITTEN_S: Final = 2.0  # that an answer waits for the disk
LIVE_S: Final = 2.0  # and for the version that is ordered to be live
POLL_S: Final = 0.02
FALLS: Final = 3  # of the service, during one word

Answer = dict[str, Any]


class Ways(NamedTuple):
    """current: sha that the store names; target: what comes back, "" for what the folders say."""

    is_known: bool = False
    current: str = ""
    version: str = ""
    target: str = ""
    target_version: str = ""
    has_target: bool = True


class Desk:
    """Over the service of the rollouts."""

    def __init__(self, rollouts: Rollouts, bench: Bench) -> None:
        self._rollouts = rollouts
        self._bench = bench

    def history(self, model: str) -> list[Any]:
        return self._rollouts.history(model)

    async def install(self, *, file: str = "", usb: str = "", model: str = "",
                      version: str = "") -> Answer:  # fmt: skip
        """One of: a package from a file, what a stick wants of this node, a version by its name.

        What was installed by hand is pinned: nothing else replaces it until the pin is taken off.
        Answers `models`: by name, the version and sha that are under way; empty: nothing to do.
        `live`: whether streams run it, by name, and what they run.
        Raises: EdgeAgentError, of the class that it was where it happened.
        """
        await self._rollouts.until_read()
        if usb:
            return await self._from_stick(usb, model)
        async with self._rollouts.installing():
            if file:
                facts = await self._adopted(file, model)
                found = Package(str(facts["model"]), str(facts["version"]), str(facts["sha"]))
                return await self._offered(found, is_unsigned=bool(facts["unsigned"]))
            return await self._by_name(model, version)

    async def _adopted(self, file: str, model: str) -> dict[str, Any]:
        config = self._bench.config
        errand = Errand(
            verb="adopt", place=self._bench.place, agent=self._bench.agent, model=model, file=file,
            allow_unsigned=config.allow_unsigned_local,
        )  # fmt: skip
        try:
            with anyio.fail_after(ADOPT_S):
                facts = await self._bench.crew.run(errand, lambda _what, _facts: None)
        except TimeoutError:
            raise Overloaded(f"install {file}: not read within {ADOPT_S:.0f} s") from None
        if facts["unsigned"]:
            logs.audit("installed a package without signatures", model=facts["model"],
                       version=facts["version"], sha=facts["sha"])  # fmt: skip
            words = f"{facts['model']} {facts['version']} {str(facts['sha'])[:16]}"
            self._bench.house.tell("unsigned-package", words)
        return facts

    async def _from_stick(self, usb: str, model: str) -> Answer:
        self._must_be_on("install from a stick")
        if not await anyio.to_thread.run_sync((Path(usb) / USB_TIMESTAMP).is_file):
            raise Rejected(
                f"install from {usb}: expected a copy of the repository, got no metadata/ there",
                hint="copy its folders metadata/ and targets/ there, and name their folder",
            )
        plan = await self._rollouts.wishes.look(source=usb, again=True)
        offers = {name: one for name, one in plan.offers.items() if model in ("", name)}
        held = {n: one.text for n, one in plan.notes.items() if model in ("", n) and one.text}
        if not offers and held:
            words = "; ".join(f"{name}: {text}" for name, text in held.items())
            hint = f"edge-agent models pin {next(iter(held))} --off"
            raise Rejected(f"install from the stick: {words}", hint=hint)
        return {
            "models": {name: {"version": w.version, "sha": w.sha} for name, w in offers.items()}
        }

    def _must_be_on(self, what: str) -> None:
        if not self._bench.config.enabled:
            raise Rejected(
                f"{what}: no repository is trusted here",
                hint="set rollouts.enabled = true and root_file",
            )

    async def _by_name(self, model: str, version: str) -> Answer:
        """Of what is installed, or what the wanted state names."""
        have = await anyio.to_thread.run_sync(self._bench.store.have)
        for one in have:
            if (one.name, one.version) == (model, version):
                return await self._offered(Package(one.name, one.version, one.sha))
        desired = self._rollouts.wishes.memory.desired
        wanted = desired.models.get(model) if desired else None
        if wanted is not None and wanted.version == version:
            return await self._offered(Package(model, version, wanted.sha256))
        there = ", ".join(sorted(one.version for one in have if one.name == model)) or "none"
        raise Rejected(
            f"install {model} {version}: it is neither installed (there is {there}) nor wanted "
            "by the repository",
            hint="edge-agent models install FILE.eam, or --usb DIR",
        )

    async def _offered(self, found: Package, *, is_unsigned: bool = False) -> Answer:
        self._must_not_be_held("install", found.name, found.version)
        wishes = self._rollouts.wishes
        self._rollouts.drive_of(found.name)  # or it is refused before anything is pinned
        await wishes.pin(found.name, Pin(version=found.version, by="install"))
        live, is_used = await self._live(found.name), wishes.standing_of(found.name).is_used
        is_live = is_used and live is not None and live.sha == found.sha
        if is_live and live and not self._is_busy(found.name) and await self._is_current(found):
            return {"models": {}, "live": live.version}
        wanted = Wanted(
            version=found.version, sha=found.sha, by="operator", unsigned=is_unsigned,
            mode="swap" if is_used else "stage",
        )  # fmt: skip
        drive = self._rollouts.drive_of(found.name)
        is_written = await drive.obey(Offered(wanted=wanted, again=True), WRITTEN_S)
        await self._until(lambda: self._is_named(found), LIVE_S)  # nobody collects it from then on
        return {
            "models": {found.name: {"version": found.version, "sha": found.sha}}, "used": is_used,
            "live": live.version if live else None, "written": is_written,
        }  # fmt: skip

    async def _is_current(self, found: Package) -> bool:
        """Whether a restart would run it, too: rotten pointers are made anew by a rollout."""
        try:
            live = await anyio.to_thread.run_sync(self._bench.house.resolve, found.name)
        except EdgeAgentError:
            return False
        return live.sha == found.sha

    def _is_busy(self, model: str) -> bool:
        drive = self._rollouts.drives.get(model)
        return drive is not None and not drive.newest.is_settled

    def _is_named(self, found: Package) -> bool:
        """Whether its rollout knows of it: from then on nobody collects it."""
        document = self._rollouts.drive_of(found.name).newest
        return found.sha in {one.sha for one in (document.wanted, document.next) if one}

    def _must_be_known(self, verb: str, model: str) -> None:
        """A name that nobody has is a mistake of typing. Raises: Rejected."""
        rollouts = self._rollouts
        memory, store = rollouts.wishes.memory, self._bench.store
        named = {*rollouts.drives, *memory.pins, *(memory.desired.models if memory.desired else ())}
        if rollouts.wishes.standing_of(model).is_used or model in named:
            return
        if not any(one.name == model for one in store.have()):
            raise Rejected(
                f"{verb} {model}: no stream runs such a model, and none is installed",
                hint="edge-agent models list",
            )

    def _must_not_be_held(self, verb: str, model: str, version: str) -> None:
        held = self._rollouts.wishes.standing_of(model).held
        if held not in ("", version):
            raise Rejected(
                f"{verb} {model} {version}: the configuration holds it to {held}",
                hint="remove `version` of that model from the stream",
            )

    async def _live(self, model: str) -> Live | None:
        """What its streams run at this moment, on trial or not; None: nothing."""
        house, now = self._bench.house, self._bench.side.live(model)
        try:
            live = await anyio.to_thread.run_sync(house.resolve, model)
        except EdgeAgentError:
            live = None
        if now is None:  # no side, or no stream: then what it would start on
            return live
        is_known = live is not None and live.sha == now.sha
        version = live.version if live is not None and is_known else now.version
        return Live(live.folder if live is not None else Path(), now.sha, version)

    @staticmethod
    async def _until(check: Callable[[], bool], timeout_s: float) -> None:
        with anyio.move_on_after(timeout_s):
            while not check():  # noqa: ASYNC110 - it has an end, and nothing tells us
                await anyio.sleep(POLL_S)

    # ── roll back ─────────────────────────────────────────────────────────────────────────────

    async def roll_back(self, model: str) -> Answer:
        """What is on trial, else what is committed, gives way to the one before.

        Answers `leaving` and `live`, the version that runs now. Raises: Rejected.
        """
        await self._rollouts.until_read()
        self._must_be_known("roll back", model)
        for _ in range(FALLS):
            event, drive = await self._event(model)
            is_written = await drive.obey(event, WRITTEN_S)
            if is_written or self._rollouts.drives.get(model) is drive:
                break  # else the service fell before it was heard, and it is said again
        await self._until(lambda: self._runs_other_than(model, event.live), LIVE_S)
        now = await self._live(model)
        await self._move_pin(model, event.live_version, now)
        return {
            "model": model, "leaving": event.live_version, "sha": event.live,
            "live": now.version if now else None, "written": is_written,
        }  # fmt: skip

    async def _event(self, model: str) -> tuple[RollBackWanted, Drive]:
        """For what is so now: until it is said, nothing else is heard. Raises: Rejected."""
        await self._rollouts.until_read()
        ways = await anyio.to_thread.run_sync(self._ways_back, model)
        drive = self._rollouts.drive_of(model)  # of the service that is up now
        if not ways.is_known and drive.newest.is_settled:
            self._rollouts.pointed(model)  # raises what is wrong with them
        return self._leaving(drive.newest, ways), drive

    def _ways_back(self, model: str) -> Ways:
        """What may come back; blocks. What can't be read is not known."""
        try:
            current, _ = self._rollouts.pointed(model)
            version, good = self._version_of(current), self._rollouts.last_good(model)
        except EdgeAgentError:
            return Ways()
        return Ways(True, current, version, *good, has_target=bool(good[0]) or self._is_free(model))

    def _is_free(self, model: str) -> bool:
        """The folders of the configuration have a version that may run. Blocks."""
        house = self._bench.house
        try:
            live = house.resolve_to(model, "")
        except EdgeAgentError:
            return False
        return not house.blocked(model, live.sha)

    def _version_of(self, sha: str) -> str:
        folder = self._bench.store.folder(sha) if sha else None
        return self._bench.manifest(folder).version if folder is not None else ""

    def _leaving(self, document: Rollout, ways: Ways) -> RollBackWanted:
        """For what is on trial, else for what is committed. Raises: Rejected."""
        model, wanted = document.model, document.wanted
        if not document.is_settled and wanted is not None:
            target = ways.current or FOLDERS
            if document.revert_to:  # it is going back already
                target = document.revert_to
            return RollBackWanted(
                sha=target, version="", live=wanted.sha, live_version=wanted.version
            )
        if ways.current and not ways.has_target:
            raise Rejected(
                f"roll back {model}: there is no version to go back to",
                hint="install one: edge-agent models install FILE.eam or NAME@VERSION",
            )
        if not ways.current:
            raise Rejected(
                f"roll back {model}: what runs is what the configuration says",
                hint="edge-agent models list",
            )
        return RollBackWanted(
            sha=ways.target or FOLDERS, version=ways.target_version, live=ways.current,
            live_version=ways.version,
        )  # fmt: skip

    async def _move_pin(self, model: str, left: str, now: Live | None) -> None:
        """A person who goes back from a version no longer holds the model to it."""
        pin = self._rollouts.wishes.memory.pins.get(model)
        if pin is not None and pin.version == left and now is not None and now.version != left:
            await self._rollouts.wishes.pin(model, Pin(version=now.version, by="rollback"))

    def _runs_other_than(self, model: str, sha: str) -> bool:
        now = self._bench.side.live(model)
        return now is None or now.sha != sha

    # ── pin ───────────────────────────────────────────────────────────────────────────────────

    async def pin(self, model: str, version: str, by: str) -> Answer:
        """Version "": what is live at this moment. Answers what is `live` once that holds.

        Raises: Rejected.
        """
        self._must_be_known("pin", model)
        if not version:
            live = await self._live(model)
            if live is None:
                raise Rejected(
                    f"pin {model}: no version of it runs", hint="name one: edge-agent models list"
                )
            version = live.version
        self._must_not_be_held("pin", model, version)
        is_written = await self._rollouts.wishes.pin(model, Pin(version=version, by=by))
        await self._until(lambda: self._runs(model, version) or not self._is_busy(model), LIVE_S)
        now = await self._live(model)
        return {
            "model": model, "pinned": version, "live": now.version if now else None,
            "written": is_written,
        }  # fmt: skip

    def _runs(self, model: str, version: str) -> bool:
        now = self._bench.side.live(model)
        return now is not None and now.version == version

    async def unpin(self, model: str) -> Answer:
        """`EVERY` ends the doubts about all models. Raises: Rejected when there is no pin."""
        wishes = self._rollouts.wishes
        await wishes.recall()
        if model == EVERY:
            return {"model": model, "pinned": None, "written": await wishes.release()}
        is_held = model in wishes.memory.pins or bool(wishes.memory.doubt(model))
        if wishes.is_recalled and not is_held:
            raise Rejected(f"unpin {model}: it is not pinned", hint="edge-agent models list")
        is_written = await wishes.pin(model, None)
        now = await self._live(model)
        return {
            "model": model, "pinned": None, "live": now.version if now else None,
            "written": is_written,
        }  # fmt: skip


class Handled:
    """The part of the console's views that is the desk's. desk None: there are no rollouts."""

    desk: Desk | None = None

    def models_history(self, model: str) -> list[Any]:
        return self.desk.history(model) if self.desk else []

    async def models_install(self, asked: Answer) -> Answer:
        return await self._desk("install").install(**asked)

    async def models_roll_back(self, model: str) -> Answer:
        return await self._desk("roll back").roll_back(model)

    async def models_pin(self, model: str, version: str | None, by: str) -> Answer:
        desk = self._desk("pin")
        return await (desk.unpin(model) if version is None else desk.pin(model, version, by))

    def _desk(self, verb: str) -> Desk:
        if self.desk is None:
            raise Rejected(f"{verb}: this agent has no rollouts", hint="edge-agent status says why")
        return self.desk
