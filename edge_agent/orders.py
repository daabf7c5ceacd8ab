"""What the agent orders from its inference side: the messages of the control socket.

Frames are `length u32 little-endian | MessagePack map`, at most 1 MiB. A request is answered by
{"re": id, "ok": {…}} or {"re": id, "error", "hint", "fault"} (`core.errors.Fault`);
words nobody asked for are {"event": …}.
Descriptors of new streams ride beside `configure`, in the order of its `fresh`.
"""

from __future__ import annotations

import struct

import msgspec

from edge_agent.config.structs import EngineConfig, StreamConfig, StreamModel

LENGTH = struct.Struct("<I")
MAX_MESSAGE_BYTES = 1 << 20
MAX_FDS = 64
BOARD_BYTES = 4096  # one word of 8 bytes per lane counts its turns


class ModelRef(msgspec.Struct, frozen=True, kw_only=True):
    """A resolved model: where its package lies and which content it is.

    pinned: the configuration names this version, so no candidate takes its place. trial: the first
    version of the model, live on trial. known: somebody said before what its content has to be.
    """

    name: str
    folder: str
    sha: str  # sha256 hex of the canonical package
    options: StreamModel
    pinned: bool = False
    trial: bool = False
    known: bool = True


class StreamOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of a `configure` message."""

    name: str
    config: StreamConfig
    models: tuple[ModelRef, ...]


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """The first request of a side: who it works for, and how. lanes: threads that run models.

    engines: folder of prepared models, "" for none.
    """

    engine: EngineConfig
    lanes: int
    node: str
    boot: str
    exam_key: bytes
    engines: str = ""


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that starts on new memory. captured: frames before it; their numbers go on."""

    name: str
    captured: int = 0


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One verb, whole; unused fields keep their defaults."""

    id: int
    verb: str
    begin: Begin | None = None
    streams: tuple[StreamOrder, ...] = ()
    fresh: tuple[Fresh, ...] = ()
    model: str = ""
    folder: str = ""
    sha: str = ""
    every: int = 1
    trial: bool = False
    level: int = 0
    thermal: bool = False
