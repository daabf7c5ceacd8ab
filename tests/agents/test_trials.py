"""Candidates in a whole agent: they come, prove themselves or not, and no live stream minds."""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.agent import Agent
from edge_agent.app import running
from edge_agent.cli.daemon import in_threads
from edge_agent.config.structs import Config
from edge_agent.core.drift import Limits
from edge_agent.core.errors import EdgeAgentError, Rejected, SideDied
from edge_agent.core.frames import Record, Result
from edge_agent.core.manifest import Manifest
from edge_agent.core.trial import Verdict, judge_probations, judge_shadows
from edge_agent.services.engine import Launch
from edge_agent.stores.models import Models
from tests.agents.crashing import Deadly
from tests.agents.living import config_of, inferred, is_balanced, kill_child, stream, sums, until
from tests.tiny import write_package

pytestmark = pytest.mark.anyio

STORE = Models((), shipped=False)
LIMITS = Limits(
    frames=15, probation_frames=15, probation_s=0.0, settle_frames=5,
    max_slowdown=50.0, max_missed_share=1.0,  # this machine may be busy
)  # fmt: skip
PATIENT: dict[str, Any] = {"deadline_ms": 5000.0, "max_age_ms": 5000.0}


class House:
    """A running agent and all that it recorded."""

    def __init__(self, agent: Agent, seen: list[Record], models: Path) -> None:
        self.agent = agent
        self.engine = agent.engine
        self.seen = seen
        self.models = models

    def package(self, version: str) -> tuple[str, str]:
        folder = self.models / "tiny" / version
        return str(folder), STORE.identity(folder)

    def manifest(self, version: str) -> Manifest:
        return STORE.manifest(self.models / "tiny" / version)

    async def load(self, version: str) -> str:
        folder, sha = self.package(version)
        await self.engine.load("tiny", folder, sha)
        return sha

    def results(self, name: str = "a") -> list[Result]:
        return [r for r in self.seen if isinstance(r, Result) and r.stream == name]

    async def more(self, count: int = 5) -> None:
        floor = inferred(self.agent, "a") + count
        await until(lambda: inferred(self.agent, "a") >= floor, "results")


@asynccontextmanager
async def house(
    folder: Path, versions: dict[str, str], launch: Launch | None = None
) -> AsyncIterator[House]:
    """Two streams on tiny 1.0.0. versions: with their faults (`tests.tiny`)."""
    seen: list[Record] = []
    free = {"name": "tiny"}  # a stream that the configuration holds to a version has no trial
    config = config_of(folder, {name: stream(model=free, **PATIENT) for name in "ab"})
    (folder / "models" / "tiny" / "current").write_text("1.0.0\n")
    for version, fault in versions.items():
        write_package(folder / "models", version=version, fault=fault)
    config = with_launch(config, launch)
    async with running(config, in_process=launch or in_threads, on_record=seen.append) as agent:
        one = House(agent, seen, folder / "models")
        await one.more()
        yield one
    for name in "ab":
        shown = sums(agent, name)
        assert is_balanced(shown), shown
        numbers = [r.frame for r in one.results(name)]
        assert numbers == sorted(set(numbers)), "no frame twice, none out of order"


def with_launch(config: Config, launch: Launch | None) -> Config:
    """`running` starts the side by our launcher where it would have started threads."""
    isolation = "process" if launch is None else "thread"
    engine = msgspec.structs.replace(config.engine, isolation=isolation)
    return msgspec.structs.replace(config, engine=engine)


async def test_a_candidate_proves_itself_is_swapped_committed_and_survives_a_restart(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, {"1.1.0": ""}) as one:
        engine, spec = one.engine, one.manifest("1.1.0")
        sha = await one.load("1.1.0")
        await engine.shadow("tiny", sha)
        while True:
            await one.more(3)
            told = judge_shadows(await engine.shadow("tiny", sha), spec, LIMITS, 0.0)
            if told.word != "wait":
                break
        assert told == Verdict("pass")
        assert await engine.swap("tiny", sha) == 2
        assert engine.is_on_trial("tiny")
        while True:
            await one.more(3)
            figures = await engine.figures("tiny")
            stay = judge_probations(figures, spec, LIMITS, 1.0)
            if stay.word != "wait":
                break
        assert stay.word == "ok", stay
        assert {p.before.version for p in figures.values()} == {"1.0.0"}
        await engine.commit("tiny")
        assert not engine.is_on_trial("tiny")
        await one.more()
        assert "trial" not in one.results()[-1].flags
        rest = engine.rest("tiny", one.agent.rooms.clock.boot_us())
        assert set(rest) == {"a", "b"}
        assert rest["a"] == ("", "ok", 0.0, 0.0)
        kill_child(signal.SIGKILL)
        await until(lambda: engine.starts == 2 and engine.is_up, "a new child")
        await one.more()
        assert one.results()[-1].version == "1.1.0", "what is committed stays"


async def test_a_candidate_on_trial_is_gone_with_its_side(tmp_path: Path) -> None:
    """Whatever killed it: the next side starts on what was before, and commit says so."""
    async with house(tmp_path, {"1.1.0": ""}) as one:
        engine = one.engine
        await engine.swap("tiny", await one.load("1.1.0"))
        await one.more()
        assert one.results()[-1].version == "1.1.0"
        kill_child(signal.SIGKILL)
        await until(lambda: engine.starts == 2 and engine.is_up, "a new child")
        assert not engine.is_on_trial("tiny")
        with pytest.raises(Rejected, match="nothing is on trial"):
            await engine.commit("tiny")
        await one.more()
        assert one.results()[-1].version == "1.0.0"


async def test_nan_on_trial_is_found_and_rolled_back_within_a_second(tmp_path: Path) -> None:
    async with house(tmp_path, {"1.1.0": "nan-live"}) as one:
        engine, spec = one.engine, one.manifest("1.1.0")
        await engine.swap("tiny", await one.load("1.1.0"))
        since = time.monotonic()
        while True:
            stay = judge_probations(await engine.figures("tiny"), spec, LIMITS, 0.0)
            if stay.word == "roll_back":
                break
            assert time.monotonic() - since < 20
            await one.more(0)
        assert stay.code == "nan"
        asked = time.monotonic()
        assert await engine.roll_back("tiny") == 2
        assert time.monotonic() - asked < 1.0
        assert not engine.is_on_trial("tiny")
        await one.more()
        assert one.results()[-1].version == "1.0.0"
        assert sums(one.agent, "a")["dropped"]["error"] > 0
    assert engine.starts == 1


async def test_a_candidate_that_crashes_its_process_in_shadow_does_not_come_back(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, {"1.1.0": ""}, Deadly("1.1.0")) as one:
        engine = one.engine
        sha = await one.load("1.1.0")
        with pytest.raises(EdgeAgentError):
            while engine.starts == 1:
                await engine.shadow("tiny", sha)
                await one.more(1)
            await engine.shadow("tiny", sha)
        await until(lambda: engine.starts == 2 and engine.is_up, "a new child")
        with pytest.raises(Rejected, match="is not loaded"):
            await engine.shadow("tiny", sha)
        await one.more(20)
        assert engine.starts == 2, "no crash loop"
        assert {r.version for r in one.results()} == {"1.0.0"}


async def test_a_side_that_does_not_answer_a_roll_back_is_ended(tmp_path: Path) -> None:
    async with house(tmp_path, {"1.1.0": ""}) as one:
        engine = one.engine
        await engine.swap("tiny", await one.load("1.1.0"))
        await one.more()
        kill_child(signal.SIGSTOP)  # alive, and silent
        asked = time.monotonic()
        assert await engine.roll_back("tiny") == 0
        assert time.monotonic() - asked < 3.0
        await until(lambda: not engine.is_up, "it is down")
        with pytest.raises(SideDied):
            await engine.load("tiny", *one.package("1.1.0"))
        await until(lambda: engine.starts == 2 and engine.is_up, "a new child")
        await one.more()
        assert one.results()[-1].version == "1.0.0"
