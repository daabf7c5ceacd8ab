"""Records that were carried by hand: an export into the database, the receiver's word into a file.

    edge-agent spool export OUT.eax          at the edge
    python -m tools.hot_tier import OUT.eax --db FILE --acks ACKS.jsonl
    edge-agent spool import ACKS.jsonl       at the edge again: only now the records go there

A file that was cut off is refused before anything of it is taken. Taking the same file twice, or
beside what came over the road, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core import carriage
from edge_agent.core.carriage import MAX_ACK_FILE_BYTES, Line
from edge_agent.core.errors import Overloaded, Rejected
from edge_agent.core.wire.armour import MAX_BUNDLE_CHARS
from edge_agent.core.wire.outcome import WireError
from edge_agent.stores.files import write_atomic
from tools.hot_tier.answers import Answers
from tools.hot_tier.desk_thread import DeskThread, Standing, at_desk
from tools.hot_tier.gate import OPEN, Keys

GROUP: Final = 8  # bundles a transaction
LATER_US: Final = 60_000_000  # between two looks at what is to be said: nothing has to wait
N_BITS: Final = 32
UNTAKEN: Final = ("needs", "unsigned", "forged", "corrupt")

_AGAIN: Final = "edge-agent spool export"


async def take_in(path: Path, *, db: Path, acks: Path, keys: Keys = OPEN) -> dict[str, Any]:
    """`lines` read, `records` new here, `acks` written; `needs`, `unsigned`, `forged`: envelopes
    that were not taken for want of a key, or of a signature; `corrupt`: of which nothing could be
    read: they are in the quarantine, and stay at the edge.

    Raises: Rejected for a file that is no whole export; ConfigError, Overloaded, Damaged for the
    database.
    """
    lines = check(path)
    async with at_desk(db, files={}, gate=keys.gate) as desk:
        before = desk.opened
        said, after = await _take(path, desk, keys)
    content = b"".join(letter + b"\n" for letter in said)
    if len(content) > MAX_ACK_FILE_BYTES:
        raise Overloaded(f"write {acks.name}: {len(content)} B, expected <= {MAX_ACK_FILE_BYTES} B")
    write_atomic(acks, content)
    left = {name: after.counts.get(name, 0) - before.counts.get(name, 0) for name in UNTAKEN}
    records = after.total.held - before.total.held
    return {"lines": lines, "records": records, "acks": len(said), **left}


def untaken(found: Mapping[str, Any]) -> str:
    """What of a file was not taken, and the way out; "" when all of it was."""
    left = [f"{found[name]} {name}" for name in UNTAKEN if found[name]]
    if not left:
        return ""
    fix = "-> give the keys (--uplink-keys, --nodes); of `corrupt` ones the quarantine knows more"
    return f"envelopes that were not taken: {', '.join(left)}; they stay at the edge {fix}"


def check(path: Path) -> int:
    """The number of lines of a whole export. Raises: Rejected."""
    last, number = Line(0, is_seal=False), 0
    for number, line in enumerate(_lines(path), 1):
        try:
            last = carriage.look(line)
        except WireError as error:
            raise Rejected(f"read {path.name}: line {number}: {error.what}", hint=_AGAIN) from None
    if not last.is_seal:
        raise Rejected(
            f"read {path.name}: expected probes at its end, got a file that was cut off after "
            f"{number} lines",
            hint=_AGAIN,
        )
    return number


async def _take(path: Path, desk: DeskThread, keys: Keys) -> tuple[list[bytes], Standing]:
    """What is to be carried back, and how it is here then."""
    answers = Answers(desk.rx, n=desk.opens << N_BITS, dicts=desk.dicts, signer=keys.signer)
    said: list[bytes] = []
    standing, now_us, lines = desk.opened, 0, _lines(path)
    while group := list(islice(lines, GROUP)):
        outcome, standing = await desk.take(group)
        answers.took(outcome)
        now_us += LATER_US
        payloads = [letter.payload for letter in answers.due(now_us) if letter.what == "ack"]
        said += [one for one in payloads if msgspec.json.decode(one).get("echo")]
    return said, standing


def _lines(path: Path) -> Iterator[bytes]:
    """Raises: Rejected."""
    try:
        with path.open("rb") as file:
            while line := file.readline(MAX_BUNDLE_CHARS + 2):
                if len(line) > MAX_BUNDLE_CHARS + 1:
                    raise Rejected(f"read {path.name}: expected lines <= {MAX_BUNDLE_CHARS} B")
                yield line.rstrip(b"\n")
    except OSError as error:
        raise Rejected(f"read {path.name}: {error.strerror}", hint="is the stick in?") from error
