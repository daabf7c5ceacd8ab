"""Appends without end, prints the ids that are promised, acknowledges some, until it is killed."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
import time
from pathlib import Path

from edge_agent.core.frames import RecordClass
from edge_agent.core.logbook import Ack
from edge_agent.host import SystemClock
from edge_agent.stores.spool import Change, SpoolLimits, open_spool
from tests.stores.spooling import BOOT, NODE, a_record

BURST = 7
ACK_EVERY = 5


def main(path: Path) -> None:
    spool = open_spool(
        path,
        node=NODE,
        clock=SystemClock(),
        random32=lambda: secrets.randbits(32),
        boot=BOOT,
        limits=SpoolLimits(limit_bytes=1 << 30, ballast_bytes=1 << 16, commit_ms=1),
    )

    def promise(change: Change) -> None:
        """One write per line, so that a line is whole or not there."""
        for log in change.logs:
            key = f"{log.key.stream} {log.key.klass.value} {log.key.epoch}"
            word = {"written": f"next {key} {log.next}", "acked": f"upto {key} {log.upto}"}
            os.write(1, f"{word[change.why]}\n".encode())

    spool.voices.on_change(promise)
    os.write(1, b"ready\n")
    for n in itertools.count():
        for klass in (RecordClass.RESULT, RecordClass.TELEMETRY):
            for _ in range(BURST):
                spool.append(a_record(klass, f"us{n % 2}", size=n % 900))
        if n % ACK_EVERY == 0:
            logs = spool.logs()
            spool.acknowledge([Ack(log.key, (log.next - 1) // 2) for log in logs])
        if spool.health().waiting > 3000:
            while spool.health().waiting > 500:
                spool.hurry()
                time.sleep(0.001)  # a spin would hold the lock and starve the writer


if __name__ == "__main__":
    main(Path(sys.argv[1]))
