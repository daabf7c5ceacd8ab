"""What an operator does by hand: install, roll back, pin, look back. Each answers what it began;
how it ends, the status says.
"""

from __future__ import annotations

from typing import Any, Final

import anyio
import anyio.to_thread

from edge_agent import logs
from edge_agent.core.desired import Pin
from edge_agent.core.errors import EdgeAgentError, Rejected
from edge_agent.core.rollout import Wanted
from edge_agent.errands import Errand
from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.ports import Live, Package
from edge_agent.services.rollouts.rollouts import Rollouts

ADOPT_S: Final = 1800.0

Answer = dict[str, Any]


class Desk:
    """Over the room of the rollouts."""

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
        Raises: Rejected, Trouble.
        """
        if usb:
            return await self._from_stick(usb, model)
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
        with anyio.fail_after(ADOPT_S):
            facts = await self._bench.crew.run(errand, lambda _what, _facts: None)
        if facts["unsigned"]:
            logs.audit("installed a package without signatures", model=facts["model"],
                       version=facts["version"], sha=facts["sha"])  # fmt: skip
            words = f"{facts['model']} {facts['version']} {str(facts['sha'])[:16]}"
            self._bench.house.tell("unsigned-package", words)
        return facts

    async def _from_stick(self, usb: str, model: str) -> Answer:
        self._must_be_on("install from a stick")
        plan = await self._rollouts.wishes.look(source=usb, again=True)
        offers = {name: one for name, one in plan.offers.items() if model in ("", name)}
        if not offers and (note := plan.notes.get(model)):
            raise Rejected(f"install {model}: {note}", hint=f"edge-agent models pin {model} --off")
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
        held = {
            model.version
            for stream in self._bench.house.streams().values()
            for model in stream.models
            if model.name == found.name and model.version
        }
        if held - {found.version}:
            raise Rejected(
                f"install {found.name} {found.version}: the configuration holds it to "
                f"{', '.join(sorted(held))}",
                hint="remove `version` of that model from the stream",
            )
        wishes = self._rollouts.wishes
        await wishes.pin(found.name, Pin(version=found.version, by="install"))
        live = await self._live(found.name)
        if live is not None and live.sha == found.sha:
            return {"models": {}}
        wanted = Wanted(
            version=found.version, sha=found.sha, by="operator", unsigned=is_unsigned,
            mode="swap" if live is not None else "stage",
        )  # fmt: skip
        self._rollouts.offer(found.name, wanted, again=True)
        return {"models": {found.name: {"version": found.version, "sha": found.sha}}}

    async def _live(self, model: str) -> Live | None:
        """None: no stream runs it."""
        used = {m.name for s in self._bench.house.streams().values() for m in s.models}
        if model not in used:
            return None
        try:
            return await anyio.to_thread.run_sync(self._bench.house.resolve, model)
        except EdgeAgentError:
            return None

    async def roll_back(self, model: str) -> Answer:
        """Raises: Rejected."""
        return await self._rollouts.roll_back(model)

    async def pin(self, model: str, version: str, by: str) -> Answer:
        """Version "": what is live. Raises: Rejected, Trouble."""
        if not version:
            version = (await anyio.to_thread.run_sync(self._bench.house.resolve, model)).version
        await self._rollouts.wishes.pin(model, Pin(version=version, by=by))
        return {"model": model, "pinned": version}

    async def unpin(self, model: str) -> Answer:
        """Raises: Rejected when there is no pin; Trouble."""
        if model not in self._rollouts.wishes.memory.pins:
            raise Rejected(f"unpin {model}: it is not pinned", hint="edge-agent models list")
        await self._rollouts.wishes.pin(model, None)
        return {"model": model, "pinned": None}


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
