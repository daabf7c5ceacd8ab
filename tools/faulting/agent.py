"""The child that is killed: spool and uplink as the agent wires them, records without end.

What a commit has told of is written into a file before anybody else hears of it, a line in one
write: `next STREAM CLASS EPOCH NEXT`. That is the promise.
"""

from __future__ import annotations

import functools
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec

from edge_agent import logs
from edge_agent.config.structs import LogConfig, SuperviseConfig, UplinkConfig
from edge_agent.core.frames import Alarm, AnyRecord, Event, Record, Result, Tally
from edge_agent.core.logbook import Log
from edge_agent.host import SystemClock
from edge_agent.links.mqtt import MqttLink
from edge_agent.services.uplink import Uplink, Words
from edge_agent.stores.spool import Change, DiskSpool, SpoolLimits, open_spool
from edge_agent.supervise import Health, rooms
from tools.faulting.content import NODE, STREAMS, content_of

LIMITS: Final = SpoolLimits(limit_bytes=1 << 30, ballast_bytes=1 << 20)
BURST: Final = 8
PAUSE_S: Final = 0.012
LOOK_S: Final = 0.05


def main(order: dict[str, Any]) -> int:
    """folder: of the spool. told: the file of promises. port: of the broker, or of a road to it.

    drain: one record is produced, as by every life; it says when nothing is left to send or to
    tell, and ends well when it is stopped.
    """
    logs.setup(LogConfig(level="error"), sys.stderr)
    told = os.open(order["told"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    say = functools.partial(_say, told)
    clock, start_s = SystemClock(), time.monotonic()
    spool = open_spool(
        Path(order["folder"]) / "spool.db",
        node=NODE,
        clock=clock,
        random32=lambda: secrets.randbits(32),
        boot="0badcafe",
        limits=LIMITS,
    )
    took_ms = (time.monotonic() - start_s) * 1000
    spool.voices.on_change(functools.partial(_promise, say))  # in the spool's own thread
    say(f"open {spool.epoch} {took_ms:.1f}")
    for line in _lines("closed", spool.logs()):
        say(line)
    anyio.run(_live, spool, clock, order, say)
    for line in _lines("closed", spool.logs()):
        say(line)
    say(f"sheet {msgspec.json.encode(spool.stats()).decode()}")
    return 0


def _say(told: int, line: str) -> None:
    os.write(told, f"{line}\n".encode())


def _promise(say: functools.partial[None], change: Change) -> None:
    if change.why == "written":
        for line in _lines("next", change.logs):
            say(line)


def _lines(word: str, books: Iterable[Log]) -> list[str]:
    return [
        f"{word} {log.key.stream} {log.key.klass.value} {log.key.epoch} {log.next}" for log in books
    ]


async def _live(
    spool: DiskSpool, clock: SystemClock, order: dict[str, Any], say: functools.partial[None]
) -> None:
    config = UplinkConfig(port=order["port"], answer_s=2.0, keepalive_s=5)
    uplink = Uplink(
        node=NODE,
        config=config,
        link=MqttLink(config, node=NODE),
        shelf=spool,
        clock=clock,
        words=Words(
            document=lambda: {"node": NODE, "state": "ok"},
            twin=lambda: {"model_version": "1.0.0"},
            state=lambda: "online",
            on_event=lambda _: None,
            on_finding=lambda finding: say(f"finding {finding.code} {finding.what}"),
        ),
    )
    spool.voices.on_change(lambda _: uplink.on_change())
    note = Health(clock).note
    async with rooms("agent", config=SuperviseConfig(), on_state=note) as floor:
        await floor.start("spool", spool.run)
        async with anyio.create_task_group() as group:
            group.start_soon(functools.partial(floor.start, "uplink", uplink.run, vital=False))
            if order["drain"]:
                uplink.on_record(_first_word(spool, clock))
                await _drained(spool, say)
            else:
                await _produce(spool, uplink, clock)
            group.cancel_scope.cancel()
    await spool.aclose()


async def _produce(spool: DiskSpool, uplink: Uplink, clock: SystemClock) -> None:
    """Results without end, some of everything else; until it is killed."""
    dice = random.Random(spool.epoch)
    kinds = (Result, Result, Result, Result, Tally, Event, Alarm)
    seqs: dict[tuple[str, type[AnyRecord]], int] = {}
    while True:
        for _ in range(dice.randint(1, BURST)):
            stream, kind = dice.choice(STREAMS), dice.choice(kinds)
            seqs[stream, kind] = seq = seqs.get((stream, kind), 0) + 1
            record = spool.append(
                content_of(kind, stream, epoch=spool.epoch, seq=seq, at_us=clock.boot_us())
            )
            uplink.on_record(record)
        await anyio.sleep(dice.random() * PAUSE_S)


def _first_word(spool: DiskSpool, clock: SystemClock) -> Record:
    return spool.append(content_of(Event, "us", epoch=spool.epoch, seq=1, at_us=clock.boot_us()))


async def _drained(spool: DiskSpool, say: functools.partial[None]) -> None:
    def is_over() -> bool:
        """Nothing is held, and nothing is left to be told of an earlier life."""
        return not spool.stats().records and all(
            log.key.epoch == spool.epoch for log in spool.logs()
        )

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        while not is_over():  # noqa: ASYNC110 - of a thread
            await anyio.sleep(LOOK_S)
        say("drained")
        async for _ in signals:
            return
