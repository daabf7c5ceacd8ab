"""The contract with EdgeCore: which topic means what, and what comes down on each.

Pure. EdgeCore delivers at most once, unordered, from memory, text only; whatever comes down is
bounded here before it is parsed, and is a frozen event or is `Rejected`. Nothing is judged that
needs memory: whether an ack is forged, a serial old or a twin answer late, others decide.

    up        <ns>/user/edge-agent/<node>/up           armoured bundles; EdgeCore forwards them
    down      edge-agent/<node>/down/ack|need|desired  JSON
              edge-agent/<node>/down/tuf               metadata, armoured
    twin      $hw/events/device/<ns>/<device>/…        KubeEdge's JSON, see `twin`
    presence  edge-agent/<node>/status                 retained, on the broker of this node only
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from edge_agent.core.errors import Rejected
from edge_agent.core.frames import RecordClass
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN
from edge_agent.core.wire import armour

MAX_DOWN_BYTES: Final = 32_000
MAX_TUF_CHARS: Final = 256_000  # a bundle's bound, for the same road
MAX_ANSWER_BYTES: Final = 256_000  # a whole twin of 128 properties, with EdgeCore's metadata
MAX_LOGS: Final = 64
MAX_RANGES: Final = 32
MAX_EPOCHS: Final = 8  # in an ack: agents that share a name
MAX_SEQ: Final = (1 << 40) - 1
MAX_INT: Final = (1 << 63) - 1
MAX_SHOWN: Final = 120  # characters of what came, in a message

_END: Final = r"(?!\n)"  # `$` alone would let a line end pass
Name = Annotated[str, Meta(pattern=NAME_PATTERN + _END)]
StreamName = Annotated[str, Meta(pattern=f"^({NAME_PATTERN[1:-1]})?${_END}")]  # "": the node's own
Token = Annotated[str, Meta(pattern="^[0-9A-Za-z_-]{1,64}$" + _END)]
Echo = Annotated[str, Meta(pattern="^[0-9A-Za-z_-]{0,64}$" + _END)]
Id = Annotated[str, Meta(pattern="^[0-9a-f]{16}$" + _END)]
Sha = Annotated[str, Meta(pattern="^[0-9a-f]{64}$" + _END)]
Version = Annotated[str, Meta(pattern=VERSION_PATTERN + _END, max_length=64)]
Seq = Annotated[int, Meta(ge=0, le=MAX_SEQ)]
Counter = Annotated[int, Meta(ge=0, le=MAX_INT)]
Schema = Annotated[int, Meta(ge=1, le=1)]
Ranges = Annotated[tuple[tuple[Seq, Seq], ...], Meta(max_length=MAX_RANGES)]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a payload says. Fields only get added; unknown ones are ignored."""


# ── what comes down ───────────────────────────────────────────────────────────────────────────


class LogAck(Said, frozen=True, kw_only=True, rename={"klass": "class"}):
    """upto: everything up to it is durable at the receiver, or void. have: [a, b] held above it.

    lost: so many were acknowledged once, and are not there: a database was restored or replaced.
    """

    node: Name
    stream: StreamName
    klass: RecordClass
    epoch: Counter
    upto: Seq
    have: Ranges = ()
    lost: Seq = 0


_CAN: Final = {"versions": "version", "dicts": "dict", "codings": "coding"}


class Can(Said, frozen=True, kw_only=True, rename=_CAN):
    """What the receiver can read: versions of the envelope, dictionaries (hex16), and codings of
    columns that version 1 did not have at first.
    """

    versions: Annotated[tuple[Counter, ...], Meta(max_length=16)] = (1,)
    dicts: Annotated[tuple[Id, ...], Meta(max_length=16)] = ()
    codings: Annotated[tuple[Counter, ...], Meta(max_length=16)] = ()


class Ack(Said, frozen=True, kw_only=True):
    """rx: identity of the receiver's database. echo: the nonce of a probe, "" when unasked.

    docs: ids (hex16) of the documents that the receiver holds, by name. epochs: none, or two and
    more: of the agents that use this node's name at the same time.
    """

    schema: Schema
    node: Name
    rx: Token
    n: Counter
    echo: Echo = ""
    acks: Annotated[tuple[LogAck, ...], Meta(max_length=MAX_LOGS)] = ()
    docs: Annotated[
        dict[Name, Annotated[tuple[Id, ...], Meta(max_length=8)]], Meta(max_length=16)
    ] = {}
    can: Can = Can()
    epochs: Annotated[tuple[Counter, ...], Meta(max_length=MAX_EPOCHS)] = ()


class NeedSaid(Said, frozen=True, kw_only=True):
    """The receiver could not read seqs a … b: it lacks a base, a dictionary, a version or a key.

    kind: "" when even that is newer than the receiver.
    """

    schema: Schema
    node: Name
    kind: Annotated[str, Meta(pattern="^[a-z]{0,16}$" + _END)]
    name: Annotated[str, Meta(pattern="^[a-z0-9/-]{0,127}$" + _END)]
    epoch: Counter
    a: Seq
    b: Seq
    why: Literal["base", "dict", "version", "key"]
    have: Annotated[tuple[Id, ...], Meta(max_length=8)] = ()


class DesiredHint(Said, frozen=True, kw_only=True):
    """All that a message is believed for. serial 0: it names none.

    The state itself is `core.desired.Desired`; only what the repository has signed is read as one.
    """

    serial: Counter = 0


class Desired(Said, frozen=True, kw_only=True):
    """Something new may be wanted. raw: the exact bytes, of which a signature speaks."""

    state: DesiredHint
    raw: bytes


class Tuf(Said, frozen=True, kw_only=True):
    """metadata: exact bytes, without the armour. Nothing is verified yet."""

    metadata: bytes


class TwinProperty(Said, frozen=True, kw_only=True):
    """None: the twin has no such side."""

    actual: str | None = None
    expected: str | None = None


class TwinAnswer(Said, frozen=True, kw_only=True):
    """code 0: done. EdgeCore answers what it cannot parse with an empty `event_id`."""

    verb: Literal["get", "update"]
    event_id: str = ""
    code: int = 0
    reason: str = ""
    twin: dict[str, TwinProperty] = {}


class StateAnswer(Said, frozen=True, kw_only=True):
    """The state of the device as EdgeCore has it now."""

    state: str


Event = Ack | NeedSaid | Desired | Tuf | TwinAnswer | StateAnswer

# ── topics ────────────────────────────────────────────────────────────────────────────────────


class Topics(msgspec.Struct, frozen=True, kw_only=True):
    """Every topic of one node. All three are names; `of` checks them."""

    ns: str
    node: str
    device: str

    @classmethod
    def of(cls, ns: str, node: str, device: str = "") -> Topics:
        """For `device` "": that of the node's own name. Raises ValueError for what is no name."""
        for word in (ns, node, device or node):
            if not re.fullmatch(NAME_PATTERN, word):
                raise ValueError(f"topics of {node!r}: expected a name, got {word!r}")
        return cls(ns=ns, node=node, device=device or node)

    @property
    def up(self) -> str:
        """EdgeCore forwards `+/user/#` without a rule; the cloud's Rule names this topic."""
        return f"{self.ns}/user/edge-agent/{self.node}/up"

    def down(self, what: Literal["ack", "need", "desired", "tuf"]) -> str:
        return f"edge-agent/{self.node}/down/{what}"

    @property
    def presence(self) -> str:
        return f"edge-agent/{self.node}/status"

    def of_device(self, tail: str) -> str:
        """`twin/update`, `twin/get`, `state/update` and, with `/result`, the answers."""
        return f"$hw/events/device/{self.ns}/{self.device}/{tail}"

    def subscriptions(self, *, twin: bool = True) -> tuple[str, ...]:
        """What to subscribe to, on each new connection; without the twin, nothing of EdgeCore's: a
        broker with an access list need not let us.

        EdgeCore answers a twin update that it cannot parse one level shorter, with no device.
        """
        if not twin:
            return (f"edge-agent/{self.node}/down/+",)
        answers = ("twin/update/result", "twin/get/result", "state/update/result")
        return (
            f"edge-agent/{self.node}/down/+",
            *(self.of_device(tail) for tail in answers),
            "$hw/events/device/+/twin/update/result",
        )


def presence(node: str, *, online: bool) -> bytes:
    """For the topic of that name; the last will is that of `online=False`."""
    state = "online" if online else "offline"
    return msgspec.json.encode({"schema": 1, "node": node, "state": state})


# ── reading ───────────────────────────────────────────────────────────────────────────────────


def read(topics: Topics, topic: str, payload: bytes) -> Event:
    """What came, typed. `payload` is whatever the road made of it.

    Raises: Rejected, and nothing else, whatever the bytes are.
    """
    head, _, what = topic.rpartition("/")
    if head == f"edge-agent/{topics.node}/down":
        return _down(topics, what, payload)
    if topic == topics.of_device("twin/get/result"):
        return _twin("get", topic, payload)
    if topic == topics.of_device("twin/update/result") or _SHORT.fullmatch(topic):
        return _twin("update", topic, payload)
    if topic == topics.of_device("state/update/result"):
        said = _decode(_StateSaid, topic, payload, MAX_ANSWER_BYTES)
        return StateAnswer(state=said.device.state if said.device else "unknown")
    raise Rejected(f"read message: expected a topic of {topics.node}, got {topic[:MAX_SHOWN]!r}")


_SHORT: Final = re.compile(r"\$hw/events/device/[^/]*/twin/update/result")


def _down(topics: Topics, what: str, payload: bytes) -> Event:
    topic = f"down/{what}"
    if what == "ack":
        return _checked(_addressed(topics, _decode(Ack, topic, payload)))
    if what == "need":
        need = _addressed(topics, _decode(NeedSaid, topic, payload))
        if need.a > need.b:
            raise Rejected(f"read {topic}: expected a <= b, got {need.a} … {need.b}")
        return need
    if what == "desired":
        return Desired(state=_decode(DesiredHint, topic, payload), raw=bytes(payload))
    if what == "tuf":
        if not 0 < len(payload) <= MAX_TUF_CHARS:
            expected = f"1 to {MAX_TUF_CHARS} characters"
            raise Rejected(f"read {topic}: expected {expected}, got {len(payload)}")
        return Tuf(metadata=armour.disarm(bytes(payload)))
    raise Rejected(f"read {topic[:MAX_SHOWN]}: expected ack, need, desired or tuf")


T = TypeVar("T", bound=Said)
A = TypeVar("A", Ack, NeedSaid)


def _decode(kind: type[T], topic: str, payload: bytes, max_bytes: int = MAX_DOWN_BYTES) -> T:
    if len(payload) > max_bytes:
        raise Rejected(f"read {topic}: expected at most {max_bytes} bytes, got {len(payload)}")
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise Rejected(f"read {topic}: {str(error)[:MAX_SHOWN]}") from None


def _addressed(topics: Topics, said: A) -> A:
    if said.node != topics.node:
        raise Rejected(f"read down: expected it addressed to {topics.node}, got {said.node}")
    return said


def _checked(ack: Ack) -> Ack:
    for log in ack.acks:
        last = log.upto
        for a, b in log.have:
            if not last < a <= b:
                where = f"{log.node}/{log.stream}/{log.klass.value}"
                raise Rejected(
                    f"read down/ack: {where}: expected ranges that rise above {last}, got {a} … {b}"
                )
            last = b
    return ack


# ── what EdgeCore's own answers look like ─────────────────────────────────────────────────────


class _Side(Said, frozen=True, kw_only=True):
    value: str | None = None


class _PropertySaid(Said, frozen=True, kw_only=True):
    actual: _Side | None = None
    expected: _Side | None = None


class _TwinSaid(Said, frozen=True, kw_only=True):
    event_id: Annotated[str, Meta(max_length=256)] = ""
    code: int | None = 0
    reason: str | None = ""
    twin: dict[str, _PropertySaid | None] | None = None


class _DeviceSaid(Said, frozen=True, kw_only=True):
    state: Annotated[str, Meta(max_length=64)] = "unknown"


class _StateSaid(Said, frozen=True, kw_only=True):
    device: _DeviceSaid | None = None


def _twin(verb: Literal["get", "update"], topic: str, payload: bytes) -> TwinAnswer:
    said = _decode(_TwinSaid, topic[:MAX_SHOWN], payload, MAX_ANSWER_BYTES)
    twin = {
        name: TwinProperty(
            actual=side.actual.value if side.actual else None,
            expected=side.expected.value if side.expected else None,
        )
        for name, side in (said.twin or {}).items()
        if side is not None
    }
    reason = (said.reason or "")[:MAX_SHOWN]
    return TwinAnswer(
        verb=verb, event_id=said.event_id, code=said.code or 0, reason=reason, twin=twin
    )


def encode(said: Ack | NeedSaid | DesiredHint | dict[str, Any]) -> bytes:
    """The JSON of what comes down; for receivers and tests. `epochs` only where there are any."""
    if isinstance(said, Ack) and not said.epochs:
        fields = msgspec.structs.asdict(said)
        del fields["epochs"]
        return msgspec.json.encode(fields)
    return msgspec.json.encode(said)
