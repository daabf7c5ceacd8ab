"""What the hot tier wants of this node, what an operator holds against it, and what follows.

One document per node or cohort, signed: the whole wanted state, with a serial that only rises. An
operator's pin wins, then the highest serial. It does not matter by which road it came: a message, a
watched file, a request on loopback and a stick are hints that something new exists; what counts are
the bytes that the repository's signatures speak of. Pure.

A key that we do not know refuses the whole document: it may be a condition, and a model must not be
installed because we could not read when not to.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from edge_agent.core.edgecore import Counter, Name, Schema, Sha, Version
from edge_agent.core.errors import Rejected
from edge_agent.core.moment import check_window
from edge_agent.core.rollout.document import Mode, Wanted

MAX_BYTES: Final = 32_000
MAX_MEMORY_BYTES: Final = 128 << 10
MAX_MODELS: Final = 64
MAX_SHOWN: Final = 200
MAX_HALTED: Final = 64  # models of which something is halted
MAX_HALTS: Final = 16  # versions of one
MAX_HALT_CHARS: Final = 200
EVERY: Final = "*"  # every model, among doubts
Text = Annotated[str, Meta(max_length=64)]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the signed document."""


class WantedModel(Strict, frozen=True, kw_only=True):
    version: Version
    sha256: Sha
    mode: Mode = "swap"
    window: Text = ""


class WantedConfig(Strict, frozen=True, kw_only=True):
    version: Text
    sha256: Sha


class Halt(Strict, frozen=True, kw_only=True):
    """A version that must not run any more, whoever wanted it. reason: shown where it stops."""

    sha256: Sha
    version: Version
    reason: Annotated[str, Meta(max_length=MAX_HALT_CHARS)] = ""


Halts = Annotated[tuple[Halt, ...], Meta(max_length=MAX_HALTS)]


class Desired(Strict, frozen=True, kw_only=True, omit_defaults=True):
    """The one schema: what the hot tier writes, and what a device and its trust read.

    halted: by model, the oldest first. What is left at its default isn't written, so that an agent
    from before a field still reads every document that doesn't need it.
    """

    schema: Schema
    serial: Counter
    models: Annotated[dict[Name, WantedModel], Meta(max_length=MAX_MODELS)] = {}
    config: WantedConfig | None = None
    expires: Annotated[str, Meta(max_length=40)] = ""
    halted: Annotated[dict[Name, Halts], Meta(max_length=MAX_HALTED)] = {}


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """version: held to. by: whose word it is."""

    version: str
    by: str = ""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What outlives a restart. target: which document it was. config_*: what became of its own.

    doubts: by model, or `EVERY`: why it is held until a person says so, because what was known of
    it is lost. released: models of which a person has said so.
    """

    schema: Schema = 1
    target: str = ""
    desired: Desired | None = None
    why: str = ""  # the last document that was not taken
    pins: dict[str, Pin] = {}
    config_sha: str = ""
    config_state: Literal["", "pending", "applied", "refused"] = ""
    config_reason: str = ""
    doubts: dict[str, str] = {}
    released: tuple[str, ...] = ()

    @property
    def serial(self) -> int:
        return self.desired.serial if self.desired else 0

    def doubt(self, name: str) -> str:
        """Why nothing new starts of this model; "" when it may."""
        if name in self.doubts:
            return self.doubts[name]
        return "" if name in self.released else self.doubts.get(EVERY, "")

    def halt(self, name: str, sha: str) -> Halt | None:
        """The word of the hot tier that this version may not run."""
        halts = self.desired.halted.get(name, ()) if self.desired else ()
        return next((one for one in halts if one.sha256 == sha), None)


class Standing(NamedTuple):
    """A model on this node. is_used: some stream runs it. held: to what version, by the config.

    current: sha of what is live, "" for none. trouble: why nobody can say that just now.
    """

    current: str = ""
    version: str = ""
    is_used: bool = True
    held: str = ""
    trouble: str = ""


class Became(str, enum.Enum):
    """What became of what is wanted of a model, in the word that the hot tier reads."""

    APPLIED = "applied"
    PENDING = "pending"
    REFUSED = "refused"  # the package is bad
    REFUSED_BEFORE = "refused-before"
    PINNED = "pinned"  # a person holds it to another version
    HELD = "held"  # the configuration does
    UNUSED = "unused"  # no stream runs it
    HALTED = "halted"
    NO_ROOM = "no-room"
    UNSIGNED = "unsigned"
    WAITING = "waiting"  # it did not work out, and is tried again by itself
    MEMORY_LOST = "memory-lost"


class Note(NamedTuple):
    """text: why, for a person; "" when there is nothing to say."""

    word: Became
    text: str = ""


class Plan(NamedTuple):
    """offers: to start, unless refused before. notes: why others stay as they are."""

    offers: dict[str, Wanted]
    notes: dict[str, Note]


def read(raw: bytes, what: str) -> Desired:
    """Raises: Rejected, and nothing else, whatever the bytes are."""
    if len(raw) > MAX_BYTES:
        raise Rejected(f"read {what}: expected at most {MAX_BYTES} bytes, got {len(raw)}")
    try:
        desired = msgspec.json.decode(raw, type=Desired)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        hint = "python -m tools.hot_tier desired writes one that fits this agent"
        raise Rejected(f"read {what}: {str(error)[:MAX_SHOWN]}", hint=hint) from None
    for name, model in desired.models.items():
        check_window(model.window, f"read {what}: models.{name}.window")
    _expiry(desired, what)
    return desired


def _expiry(desired: Desired, what: str) -> dt.datetime | None:
    if not desired.expires:
        return None
    try:
        when = dt.datetime.fromisoformat(desired.expires.replace("Z", "+00:00"))
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise Rejected(
            f"read {what}: expires: expected a time as 2027-01-31T00:00:00Z, "
            f"got {desired.expires!r}"
        )
    return when


def is_expired(desired: Desired, now: dt.datetime | None) -> bool:
    """Now None: nobody has set the clock; then the repository's own expiry has to do."""
    when = _expiry(desired, "desired")
    return when is not None and now is not None and now >= when


def newest(found: Mapping[str, Desired], node_target: str) -> str:
    """The target that counts: the highest serial; of two equal ones, the node's own."""
    return max(found, key=lambda target: (found[target].serial, target == node_target), default="")


def hear(
    memory: Memory, target: str, desired: Desired, now: dt.datetime | None
) -> tuple[Memory, str]:
    """The memory with it, and why it is not taken. Equal is nothing to do, gaps are normal."""
    why = ""
    if desired.serial < memory.serial:
        why = f"{target}: serial {desired.serial} is older than {memory.serial}, which we have"
    elif desired.serial == memory.serial and memory.desired not in (None, desired):
        why = f"{target}: serial {desired.serial} came twice with different content"
    elif is_expired(desired, now):
        why = f"{target}: serial {desired.serial} expired at {desired.expires}"
    if why:
        return msgspec.structs.replace(memory, why=why), why
    return msgspec.structs.replace(memory, target=target, desired=desired, why=""), ""


def objection(memory: Memory, name: str, standing: Standing, wanted: Wanted) -> Note | None:
    """Why `wanted` may not be on its way on this node, by whoever's word; None when it may.

    The one rule, for what is offered and for what is under way. A person's pin wins, then a halt,
    then the configuration, then the document of the highest serial.
    """
    pin, doubt = memory.pins.get(name), memory.doubt(name)
    halt = memory.halt(name, wanted.sha)
    note = None
    if not standing.is_used and wanted.mode != "stage":
        note = Note(Became.UNUSED, "no stream runs it")
    elif pin is not None and pin.version != wanted.version:
        note = Note(Became.PINNED, f"an operator holds it to {pin.version}")
    elif pin is not None:
        note = None
    elif doubt:
        note = Note(Became.MEMORY_LOST, doubt)
    elif halt is not None:
        note = Note(Became.HALTED, halted(halt))
    elif standing.held not in ("", wanted.version):
        note = Note(Became.HELD, f"the configuration holds it to {standing.held}")
    else:
        note = _other(memory, name, wanted)
    return note


def _other(memory: Memory, name: str, wanted: Wanted) -> Note | None:
    """What the document says instead."""
    model = memory.desired.models.get(name) if memory.desired else None
    if model is None:
        if wanted.by == "operator":
            return None
        return Note(Became.UNUSED, f"serial {memory.serial} wants nothing of it any more")
    if (model.sha256, model.mode) != (wanted.sha, wanted.mode):
        return Note(Became.PENDING, f"serial {memory.serial} wants {model.version}")
    return None


def halted(halt: Halt) -> str:
    """In words."""
    return f"{halt.version} is halted by the hot tier" + (f": {halt.reason}" if halt.reason else "")


def must_leave(memory: Memory, name: str, standing: Standing) -> Halt | None:
    """The halt of what is live, unless a person holds on to it."""
    halt = memory.halt(name, standing.current) if standing.current else None
    pin = memory.pins.get(name)
    held_on = halt is not None and pin is not None and pin.version == halt.version
    return None if held_on else halt


def blocked(memory: Memory) -> frozenset[tuple[str, str]]:
    """(model, sha) of all that is halted and that no person holds on to."""
    halts = memory.desired.halted if memory.desired else {}
    return frozenset(
        (name, halt.sha256)
        for name, ones in halts.items()
        for halt in ones
        if must_leave(memory, name, Standing(current=halt.sha256)) is not None
    )


def must_be_let_go(memory: Memory, name: str, held: str) -> bool:
    """The configuration holds streams to a version of which one is halted, and no person does."""
    halts = memory.desired.halted.get(name, ()) if memory.desired else ()
    pin = memory.pins.get(name)
    is_halted = bool(held) and any(halt.version == held for halt in halts)
    return is_halted and not (pin is not None and pin.version == held)


def plan(memory: Memory, standings: Mapping[str, Standing]) -> Plan:
    """What to offer. The same again changes nothing: who drives it compares."""
    offers: dict[str, Wanted] = {}
    notes: dict[str, Note] = {}
    models = memory.desired.models if memory.desired else {}
    for name, model in models.items():
        standing = standings.get(name, Standing(is_used=False))
        wanted = Wanted(
            version=model.version, sha=model.sha256, mode=model.mode, window=model.window,
            serial=memory.serial,
        )  # fmt: skip
        note = objection(memory, name, standing, wanted)
        if note is not None:
            notes[name] = note
        elif standing.trouble:
            notes[name] = Note(Became.PENDING, standing.trouble)
        elif model.sha256 == standing.current and model.mode == "swap":
            notes[name] = Note(Became.APPLIED)
        else:
            offers[name] = wanted
    return Plan(offers, notes)


def encode(memory: Memory) -> bytes:
    return msgspec.json.encode(memory)


def decode(content: bytes) -> Memory:
    """Raises: msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError."""
    return msgspec.json.decode(content, type=Memory)
