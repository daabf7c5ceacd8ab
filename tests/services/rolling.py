"""A small house around the rollouts: a real store, real packages, a side and a crew to script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

from edge_agent.config.structs import (
    EngineConfig,
    PhantomSource,
    RolloutsConfig,
    StreamConfig,
    StreamModel,
)
from edge_agent.core.errors import Rejected, SideDied
from edge_agent.core.sight import Sight
from edge_agent.core.trial import LiveCounts, Probation, ShadowCounts
from edge_agent.errands import Errand, Place
from edge_agent.host import SystemClock
from edge_agent.services.rollouts import Bench, Desk, House, Keep, Live, Rollouts
from edge_agent.stores.installed import Installed
from edge_agent.stores.package import read_manifest
from edge_agent.stores.papers import Papers
from edge_agent.stores.shelf import changed
from tests.installer import rascals

NAME = "tiny"
OLD = "0" * 64  # the version in the folders, as the side knows it
MAX_BYTES = 128 << 10
CONFIG = RolloutsConfig(
    enabled=True, repositories=("http://127.0.0.1:9/",), root_file="/nowhere", check_every_s=3600,
    shadow_frames=10, shadow_s=60, probation_frames=10, probation_s=0,
)  # fmt: skip


class Rest(NamedTuple):
    exam: str = ""
    no_signal_s: float = 100.0
    since_exam_s: float = 0.0


SEEN = Sight(frames=100, findings=100, scores=(0,) * 9 + (100,), area_sum=10.0, pairs=99)
GOOD = ShadowCounts(
    frames=100, evidence_frames=100, agreement_sum=90.0, findings_live=100, findings_shadow=100,
    infer_us_p50=900, infer_us_p99=990, live_us_p50=900, live_us_p99=990, live=SEEN, shadow=SEEN,
)  # fmt: skip
WELL = Probation(
    before=LiveCounts(results=100, sight=SEEN), now=LiveCounts(results=100, sight=SEEN)
)


class Ran(NamedTuple):
    """What the streams run."""

    sha: str
    version: str


class FakeSide:
    """`ports.Side` in memory: what is live, what was asked, what to answer."""

    def __init__(self) -> None:
        self.starts = 1
        self.is_up = True
        self.crashed = True
        self.versions: dict[str, str] = {OLD: "1.0.0"}  # by sha
        self.first = ""
        self.runs = OLD
        self.trial = ""
        self.asked: list[str] = []
        self.words: list[tuple[object, ...]] = []
        self.counts: Mapping[str, ShadowCounts] = {"us-1": GOOD}
        self.trials: Mapping[str, Probation] = {"us-1": WELL}
        self.rests: dict[str, Rest] = {"us-1": Rest()}
        self.wrong: dict[str, Exception] = {}

    def _ask(self, verb: str, *words: object) -> None:
        self.asked.append(verb)
        self.words.append(words)
        if verb in self.wrong:
            wrong = self.wrong[verb]
            if isinstance(wrong, SideDied):
                self.die()
            raise wrong

    async def load(self, model: str, folder: str, sha: str) -> int:
        assert Path(folder).name in (sha, "1.0.0")
        self._ask("load", model, folder, sha)
        return 1

    async def shadow(self, model: str, sha: str, every: int = 1) -> Mapping[str, ShadowCounts]:
        self._ask("shadow", model, sha, every)
        return self.counts

    async def swap(self, model: str, sha: str, *, trial: bool = True) -> int:
        self._ask("swap", model, sha, trial)
        self.trial, self.runs = (sha, self.runs) if trial else ("", sha)
        return 1

    async def figures(self, model: str) -> Mapping[str, Probation]:
        self._ask("figures", model)
        return self.trials

    async def commit(self, model: str) -> None:
        self._ask("commit", model)
        self.runs, self.trial, self.first = self.trial or self.runs, "", ""

    async def roll_back(self, model: str) -> int:
        self._ask("roll_back", model)
        self.trial = ""
        return 1

    async def unload(self, model: str, sha: str) -> None:
        self._ask("unload", model, sha)

    def end_side(self) -> None:
        self._ask("end_side")
        self.die()

    def die(self) -> None:
        self.starts += 1
        self.trial = ""
        if self.first:
            self.runs = self.first = ""

    def is_on_trial(self, model: str) -> bool:
        return bool(self.trial) and model == NAME

    def live(self, model: str) -> Ran | None:
        assert model
        sha = self.trial or self.runs
        return Ran(sha, self.versions.get(sha, "")) if sha else None

    def rest(self, model: str, now_us: int) -> Mapping[str, Rest]:
        assert now_us
        return self.rests if model == NAME else {}


class FakeCrew:
    """`ports.Crew`: a download is a file at hand; what fails is scripted by verb."""

    def __init__(self, store: Installed) -> None:
        self._store = store
        self.tars: dict[str, Path] = {}
        self.desired: dict[str, Any] = {}
        self.configs: dict[str, str] = {}
        self.wrong: dict[str, Exception] = {}
        self.asked: list[Errand] = []
        self.hold: dict[str, anyio.Event] = {}
        self.adopts = ""  # sha of what a file holds

    def verbs(self) -> list[str]:
        return [errand.verb for errand in self.asked]

    async def run(
        self, errand: Errand, told: Callable[[str, Mapping[str, object]], None]
    ) -> dict[str, Any]:
        self.asked.append(errand)
        if errand.verb in self.hold:
            told("bytes", {"done": 1, "of": 2})
            await self.hold[errand.verb].wait()
        if errand.verb in self.wrong:
            raise self.wrong[errand.verb]
        answer: Callable[[Errand], dict[str, Any]] = getattr(self, f"_{errand.verb}")
        facts = answer(errand)
        if errand.verb == "adopt" and "adopted" in self.hold:
            await self.hold["adopted"].wait()
        return facts

    def _wanted(self, _: Errand) -> dict[str, Any]:
        return {"desired": {name: json.dumps(one) for name, one in self.desired.items()}}

    def _fetch(self, errand: Errand) -> dict[str, Any]:
        size = self.tars[errand.sha].stat().st_size
        self._admit(errand)
        return {"via": "full", "fetched_bytes": size, "length_bytes": size}

    def _admit(self, errand: Errand) -> dict[str, Any]:
        tar = self.tars[errand.sha]
        self._store.reserve(errand.sha, tar.stat().st_size)
        self._store.admit(tar, errand.sha)
        return {}

    def _adopt(self, errand: Errand) -> dict[str, Any]:
        self._admit(msgspec.structs.replace(errand, sha=self.adopts))
        folder = self._store.folder(self.adopts)
        assert folder is not None
        version = read_manifest(folder).version
        return {"model": NAME, "version": version, "sha": self.adopts, "unsigned": False}

    def _prove(self, _: Errand) -> dict[str, Any]:
        return {"golden_difference": 0.0, "golden_tolerance": 0.1, "golden_samples": 1}

    def _config(self, errand: Errand) -> dict[str, Any]:
        return {"text": self.configs[errand.sha]}

    def _collect(self, errand: Errand) -> dict[str, Any]:
        return {"freed_bytes": self._store.collect(errand.keep)}


class World:
    """What outlives a process: the store, the documents; and what the tests look at."""

    def __init__(self, tmp_path: Path, config: RolloutsConfig = CONFIG) -> None:
        self.config = config
        self.path = tmp_path
        self.store = Installed(tmp_path / "models", limit_bytes=64 << 20, keep_free_bytes=0)
        rollouts = Papers(tmp_path / "rollouts", max_bytes=MAX_BYTES)
        self.keep = Keep(rollouts, Papers(tmp_path / "wishes", max_bytes=MAX_BYTES))
        self.side = FakeSide()
        self.crew = FakeCrew(self.store)
        self.shipped = rascals.write(tmp_path / "shipped" / NAME / "1.0.0", name=NAME)
        self.told: list[tuple[str, str]] = []
        self.reordered = 0
        self.halted: dict[str, str] = {}  # by sha
        self.applied: list[str] = []
        self.refuse_config = ""
        model = StreamModel(name=NAME)
        self.streams = {"us-1": StreamConfig(source=PhantomSource(), models=(model,))}

    def package(self, version: str, **more: Any) -> str:
        """A package that can be fetched; its id."""
        folder = rascals.write(self.path / "made" / version, name=NAME, version=version, **more)
        tar, sha = rascals.packed(folder)
        self.crew.tars[sha] = tar
        self.side.versions[sha] = version
        return sha

    def want(self, serial: int, version: str, sha: str, **more: Any) -> None:
        """The repository has this for the node."""
        models = {NAME: {"version": version, "sha256": sha, **more}}
        self.crew.desired["desired/cart-3.json"] = {
            "schema": 1, "serial": serial, "models": models,
        }  # fmt: skip

    def resolve(self, name: str) -> Live:
        if name != NAME:
            raise Rejected(f"find model {name}: expected one of: {NAME}")
        current = self.store.pointers(NAME).current
        folder = self.store.folder(current) if current else self.shipped
        assert folder is not None
        if current and not self.store.has(current):
            raise changed(folder, "another")
        return Live(folder, current or OLD, read_manifest(folder).version)

    def resolve_to(self, name: str, sha: str) -> Live:
        folder = self.store.folder(sha) if sha else self.shipped
        if name != NAME or folder is None:
            raise Rejected(f"find package {sha} of {name}: it is not installed")
        return Live(folder, sha or OLD, read_manifest(folder).version)

    async def reorder(self) -> None:
        self.reordered += 1
        self.side.trial = self.side.first = ""
        live = self.resolve(NAME)
        self.side.runs = "" if live.sha in self.halted else live.sha

    async def first(self, model: str, folder: Path | None, sha: str) -> None:
        assert model
        if folder is not None:
            self.side.first = self.side.runs = self.side.trial = sha
        elif self.side.first:
            self.side.first = self.side.trial = self.side.runs = ""

    async def apply(self, text: str, version: str) -> str:
        self.applied.append(text)
        assert version
        return self.refuse_config

    def bench(self) -> Bench:
        house = House(
            streams=lambda: self.streams, resolve=self.resolve, resolve_to=self.resolve_to,
            blocked=lambda _name, sha: self.halted.get(sha, ""), first=self.first,
            keep_first=lambda _name: None, reorder=self.reorder,
            tell=lambda name, what: self.told.append((name, what)), apply=self.apply,
        )  # fmt: skip
        return Bench(
            config=self.config, engine=EngineConfig(), agent="0.1.0",
            place=Place(models=str(self.store.root), tuf=""), side=self.side,
            store=self.store, crew=self.crew, house=house,
            clock=SystemClock(), manifest=read_manifest, progress=lambda _model, _progress: None,
        )  # fmt: skip

    @asynccontextmanager
    async def running(self) -> AsyncIterator[tuple[Rollouts, Desk]]:
        """One process of the agent, as far as the rollouts are concerned."""
        bench = self.bench()
        rollouts = Rollouts(
            bench, self.keep, node="cart-3", versions={"agent": "0.1.0"}, boot="ab",
            hand_over=lambda _metadata: "timestamp.json",
        )  # fmt: skip
        async with anyio.create_task_group() as group:
            up = anyio.Event()
            group.start_soon(rollouts.run, up.set)
            await up.wait()
            yield rollouts, Desk(rollouts, bench)
            group.cancel_scope.cancel()

    @property
    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(what) for name, what in self.told if name == "rollout"]


async def until(check: Callable[[], Any], timeout_s: float = 20.0) -> None:
    with anyio.fail_after(timeout_s):
        while not check():
            await anyio.sleep(0.01)


def bad(**fields: Any) -> dict[str, ShadowCounts]:
    return {"us-1": msgspec.structs.replace(GOOD, **fields)}


async def on_trial(world: World, sha: str) -> None:
    """The candidate is live, and nothing is said of it yet."""
    await until(lambda: world.side.trial == sha and "figures" in world.side.asked)
