"""The wiring: every object of the house by name, top to bottom; the nesting is the shutdown order.

ledger (audit) > house (vitals, console, spool) > road (uplink) > flow (pipeline) > hot (engine,
rollouts): the last result reaches the spool, and what is on its way the hot tier, before the window
goes dark; what the console counted is in the audit log before that is closed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from edge_agent import __version__
from edge_agent.agent import Agent, Hearing, Shown
from edge_agent.config.problems import shareable
from edge_agent.config.structs import Config
from edge_agent.core.frames import Record
from edge_agent.core.moulds import make_ready
from edge_agent.core.notes import Notes
from edge_agent.cores import cores
from edge_agent.downward import Downward
from edge_agent.ground import Ground, Orders
from edge_agent.host import SystemClock, SystemHost, watchdog_period_s
from edge_agent.keeping import Store, open_store
from edge_agent.metrics import Metrics
from edge_agent.orders import Begin
from edge_agent.ports import Clock, Host
from edge_agent.resolve import models_of
from edge_agent.services.audit import Auditor, stamper
from edge_agent.services.console import Console, followers_of
from edge_agent.services.engine import Engine, Launch, launch_child
from edge_agent.services.pipeline import Pipeline, Scribe
from edge_agent.services.status_watch import StatusWatch
from edge_agent.services.uplink import Uplink
from edge_agent.services.vitals import Vitals
from edge_agent.stores.audit import AuditLog
from edge_agent.stores.models import Models
from edge_agent.stores.spool import Courier
from edge_agent.supervise import Health, rooms
from edge_agent.upward import Upward, keys_of, uplink_of
from edge_agent.views import Events, Rooms

MOST_LANES = 64  # as `engine.lanes` may ask for


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
    make_ready()
    clock, host = clock or SystemClock(), host or SystemHost(disk=config.state_dir)
    threads = config.engine.isolation == "thread"
    launch = in_process if in_process is not None and threads else launch_child
    with Ground(config) as ground:
        store = await open_store(
            config, clock=clock, boot=host.boot_id(),
            unusable=ground.unusable, told=ground.problems,
        )  # fmt: skip
        try:
            house = build(ground, config, store, clock=clock, host=host, launch=launch)
            agent, views = house.agent, house.agent.views
            if degraded:
                views.degraded = True
                words = shareable(degraded)
                agent.rooms.notes.tell("", "config", words, "edge-agent config check")
            if on_record is not None:
                agent.pipeline.scribe.listen(on_record)
            async with inhabited(house, config, host):
                yield agent
        finally:
            await store.aclose()


@asynccontextmanager
async def inhabited(house: House, config: Config, host: Host) -> AsyncIterator[None]:
    """Every room in its place."""
    agent, policy = house.agent, config.supervise
    views, note = agent.views, agent.rooms.health.note
    agent.rooms.health.expect({"vitals", "console", "pipeline", "engine"})
    async with (
        rooms("ledger", config=policy, on_state=note) as ledger,
        rooms("house", config=policy, on_state=note) as ground_floor,
    ):
        await ledger.start("audit", house.auditor.run, vital=False)
        await ground_floor.start("vitals", house.vitals.run)
        await ground_floor.start("console", house.console.run)
        await ground_floor.start("status", house.status.run, vital=False)
        await ground_floor.start("state", house.store.watch, vital=False)
        if house.store.disk is not None:
            await ground_floor.start("spool", house.store.disk.run)
        async with rooms("road", config=policy, on_state=note) as road:
            if house.uplink is not None:
                road.begin("uplink", house.uplink.run, longest_s=config.uplink.reconnect_max_s)
            async with rooms("flow", config=policy, on_state=note) as flow:
                await flow.start("pipeline", agent.pipeline.run)
                await (
                    house.downward.rollouts.wishes.recall()
                )  # what may not run, before anything does
                await agent.configure(config)
                async with rooms("hot", config=policy, on_state=note) as hot:
                    await hot.start("engine", agent.engine.run)
                    await hot.start("models", agent.read_again, vital=False)
                    await hot.start("rollouts", house.downward.rollouts.run, vital=False)
                    agent.tell("started", f"{len(config.streams)} streams")
                    host.notify("READY=1")
                    try:
                        yield
                    finally:
                        views.stopping = True
                        host.notify("STOPPING=1")
                agent.pipeline.tally()
            agent.tell("stopped")
            if house.uplink is not None:
                await house.uplink.drained(config.uplink.drain_s)


class House(NamedTuple):
    """What `build` has built."""

    agent: Agent
    console: Console
    vitals: Vitals
    auditor: Auditor
    status: StatusWatch
    store: Store
    uplink: Uplink | None
    downward: Downward


def build(
    ground: Ground, config: Config, store: Store, *, clock: Clock, host: Host, launch: Launch
) -> House:
    """Every object, each given what it needs and no more."""
    health = Health(clock)
    notes, events = Notes(clock.boot_us), Events()
    metrics = Metrics(clock=clock, version=__version__)
    models = models_of(config, ground.state_dir if ground.is_readable else None)
    orders = Orders(models)
    begin = Begin(
        engine=config.engine, lanes=lanes_of(config), node=config.node, boot=host.boot_id(),
        exam_key=ground.exam_key, engines=str(ground.state_dir / "engines"),
    )  # fmt: skip
    hearing = Hearing(notes)
    engine = Engine(
        config=config.engine,
        begin=begin,
        launch=launch,
        on_record=hearing.on_record,
        heard=hearing.heard,
    )
    scribe = Scribe(node=config.node, boot=host.boot_id(), clock=clock, spool=store.spool)
    pipeline = Pipeline(
        clock=clock, scribe=scribe, books=engine.taps, engine=engine, is_stuck=notes.is_stuck,
        is_back=notes.is_back, observe=metrics.delivered,
        max_followers=followers_of(config.console.max_followers),
    )  # fmt: skip
    scribe.listen(events.hear)
    views = Shown(Rooms(clock, host, health, engine, pipeline, store.spool, notes, events), config)
    hearing.bind(pipeline, views)
    agent = views.agent = Agent(
        rooms=views.rooms, views=views, metrics=metrics, orders=orders, models=models
    )
    hearing.on_model = agent.on_model
    console = Console(config=config.console, views=views, runtime_dir=ground.runtime_dir)
    views.console = lambda: (console.port, console.problems())
    vitals = Vitals(
        host=host, clock=clock, engine_beats=engine.beats, watchdog_s=watchdog_period_s(),
        start_timeout_s=config.engine.start_timeout_s, on_lag=metrics.lagged,
    )  # fmt: skip
    views.sample = lambda: vitals.latest
    auditor = views.auditor = auditor_of(ground.state_dir, clock, host.boot_id())
    downward = agent.downward = lead_down(agent, models, config, engine)
    share_disk(store, auditor, downward)
    uplink = connect(agent, store, config, secret=ground.exam_key)
    status = StatusWatch(clock=clock, states=views.states, found=views.found, book=views.book)
    views.host_problems = status.problems
    return House(agent, console, vitals, auditor, status, store, uplink, downward)


def lead_down(agent: Agent, models: Models, config: Config, engine: Engine) -> Downward:
    """What comes down, with those who show it and may be asked for it."""
    views, clock = agent.views, agent.rooms.clock
    downward = Downward(
        config, side=engine, models=models, clock=clock, boot=agent.rooms.host.boot_id(),
        streams=lambda: views.config.streams, agent=agent,
    )  # fmt: skip
    agent.block(downward.blocked)
    views.desk, views.down = downward.desk, downward.rollouts
    return downward


def auditor_of(state_dir: Path, clock: Clock, boot: str) -> Auditor:
    stamp = stamper(clock, boot)
    return Auditor(AuditLog(state_dir, stamp=stamp), stamp=stamp)


def share_disk(store: Store, auditor: Auditor, downward: Downward) -> None:
    """Who writes on the disk of the state directory beside the spool: its problem is told once."""
    rollouts = downward.rollouts
    store.share("audit log", auditor.waits)
    store.share("rollouts and pins", rollouts.waits)
    auditor.is_told = rollouts.is_told = store.is_told


def connect(agent: Agent, store: Store, config: Config, *, secret: bytes) -> Uplink | None:
    """The store and the road up, with those who hear of them and show them."""
    views, notes, clock = agent.views, agent.rooms.notes, agent.rooms.clock
    store.listen(agent.tell)
    views.troubles = store.problems
    if store.disk is not None:
        views.durable = Courier(store.disk, node=config.node, secret=secret, keys=keys_of(config))
    upward = Upward(views, notes, agent.tell)
    upward.on_down = agent.downward.rollouts.came
    uplink = uplink_of(config, store.disk, clock=clock, upward=upward, notes=notes)
    if uplink is not None:
        agent.pipeline.scribe.listen(uplink.on_record)
        views.road = uplink.stats
    return uplink


def lanes_of(config: Config) -> int:
    """As configured, else one per core that we get but one, at least one."""
    return config.engine.lanes or min(MOST_LANES, max(1, cores() - 1))
