"""The wiring: every object of the house by name, top to bottom; the nesting is the shutdown order.

house (vitals, console) > flow (pipeline) > hot (engine): the last result reaches the spool, and
the last status the console, before the window goes dark.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from edge_agent import __version__
from edge_agent.agent import Agent, Hearing, Shown
from edge_agent.config.structs import Config
from edge_agent.core.frames import Record
from edge_agent.core.notes import Notes
from edge_agent.ground import Ground, Orders
from edge_agent.host import SystemClock, SystemHost, watchdog_period_s
from edge_agent.metrics import Metrics
from edge_agent.orders import Begin
from edge_agent.ports import Clock, Host
from edge_agent.services.console import Console
from edge_agent.services.engine import Engine, Launch, launch_child
from edge_agent.services.pipeline import Pipeline, Scribe
from edge_agent.services.vitals import Vitals
from edge_agent.stores.models import Models
from edge_agent.stores.volatile import VolatileSpool
from edge_agent.supervise import Health, rooms
from edge_agent.views import Events, Rooms


@asynccontextmanager
async def running(
    config: Config,
    *,
    in_process: Launch | None = None,
    on_record: Callable[[Record], None] | None = None,
    clock: Clock | None = None,
    host: Host | None = None,
    degraded: str = "",
) -> AsyncIterator[Agent]:
    """The whole house, ready when the body starts, drained and dark when it has ended.

    in_process: starts the inference side in threads, for `engine.isolation = "thread"`.
    degraded: what is wrong with the files, when the last good configuration runs instead.

    Raises: AlreadyRunning, ConfigError, GaveUp.
    """
    clock, host = clock or SystemClock(), host or SystemHost()
    threads = config.engine.isolation == "thread"
    launch = in_process if in_process is not None and threads else launch_child
    with Ground(config) as ground:
        agent, console, vitals = build(ground, config, clock=clock, host=host, launch=launch)
        views, policy = agent.views, config.supervise
        health = agent.rooms.health
        if degraded:
            views.degraded = True
            agent.rooms.notes.tell("", "config", degraded, "edge-agent config check")
        if on_record is not None:
            agent.pipeline.scribe.listen(on_record)
        async with rooms("house", config=policy, on_state=health.note) as house:
            await house.start("vitals", vitals.run)
            await house.start("console", console.run)
            async with rooms("flow", config=policy, on_state=health.note) as flow:
                await flow.start("pipeline", agent.pipeline.run)
                await agent.configure(config)
                async with rooms("hot", config=policy, on_state=health.note) as hot:
                    await hot.start("engine", agent.engine.run)
                    agent.tell("started", f"{len(config.streams)} streams")
                    host.notify("READY=1")
                    try:
                        yield agent
                    finally:
                        views.stopping = True
                        host.notify("STOPPING=1")
                agent.pipeline.tally()
            agent.tell("stopped")


def build(
    ground: Ground, config: Config, *, clock: Clock, host: Host, launch: Launch
) -> tuple[Agent, Console, Vitals]:
    """Every object, each given what it needs and no more."""
    health = Health(clock)
    notes, events = Notes(clock.boot_us), Events()
    spool = VolatileSpool(
        epoch=secrets.randbits(31) | 1, limit_bytes=config.spool.volatile_bytes, clock=clock
    )
    metrics = Metrics(clock=clock, version=__version__)
    orders = Orders(Models([Path(d) for d in config.models.dirs], shipped=config.models.shipped))
    begin = Begin(
        engine=config.engine, lanes=lanes_of(config), node=config.node, boot=host.boot_id(),
        exam_key=ground.exam_key,
    )  # fmt: skip
    hearing = Hearing(notes)
    engine = Engine(
        config=config.engine,
        begin=begin,
        launch=launch,
        on_record=hearing.on_record,
        heard=hearing.heard,
    )
    scribe = Scribe(node=config.node, boot=host.boot_id(), clock=clock, spool=spool)
    pipeline = Pipeline(
        clock=clock, scribe=scribe, books=engine.taps, engine=engine, is_stuck=notes.is_stuck,
        observe=metrics.delivered, max_followers=config.console.max_followers,
    )  # fmt: skip
    scribe.listen(events.hear)
    views = Shown(Rooms(clock, host, health, engine, pipeline, spool, notes, events), config)
    hearing.bind(pipeline, views)
    agent = views.agent = Agent(rooms=views.rooms, views=views, metrics=metrics, orders=orders)
    console = Console(config=config.console, views=views, runtime_dir=ground.runtime_dir)
    views.console = lambda: (console.port, console.problems())
    vitals = Vitals(
        host=host, clock=clock, engine_beats=engine.beats, watchdog_s=watchdog_period_s(),
        start_timeout_s=config.engine.start_timeout_s, on_lag=metrics.lagged,
    )  # fmt: skip
    views.sample = lambda: vitals.latest
    return agent, console, vitals


def lanes_of(config: Config) -> int:
    """As configured, else one per core but one, at least one."""
    if config.engine.lanes:
        return config.engine.lanes
    return max(1, (os.cpu_count() or 1) - 1)
