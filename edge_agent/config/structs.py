"""Every section of the configuration: frozen, unknown keys refused, each bound with its unit.

Defaults run on any laptop. No section has behaviour; `load` merges and checks them.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.core.kubeedge import OptionalNode
from edge_agent.core.manifest import NAME_PATTERN, VERSION_PATTERN

NODE_PATTERN = f"^({NAME_PATTERN[1:-1]})?$"
HOST_PATTERN = r"^[0-9A-Za-z]([0-9A-Za-z._-]*[0-9A-Za-z.])?$|^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$"
PIN_PATTERN = f"^({VERSION_PATTERN[1:-1]})?$"

Name = Annotated[str, Meta(pattern=NAME_PATTERN)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
Count = Annotated[int, Meta(ge=1, le=1 << 40)]
Side = Annotated[int, Meta(ge=1, le=8192)]  # px
Fps = Annotated[float, Meta(gt=0, le=1000)]
Text = Annotated[str, Meta(max_length=4096)]  # a path, a URL, a pipeline
Host = Annotated[str, Meta(pattern=HOST_PATTERN, max_length=253)]
Title = Annotated[str, Meta(max_length=120)]  # for people, any script


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the config file."""


# ── sources ───────────────────────────────────────────────────────────────────────────────────


class SourceBase(Section, frozen=True, kw_only=True, tag_field="kind"):
    """fps: pace (recorded) or expectation (live); None takes what the source says.

    pace: `real` keeps the source's rate, `fast` delivers as fast as asked for.
    spacing_mm: [dx, dy] mm per px, when the operator knows it. roi: [x, y, w, h] px.
    """

    fps: Fps | None = None
    pace: Literal["real", "fast"] = "real"
    spacing_mm: tuple[Positive, Positive] | None = None
    roi: tuple[int, int, int, int] | None = None
    reopen_max_s: Positive = 30.0  # the longest back-off between two tries to open
    no_signal_after_s: Positive = 2.0
    frozen_after_s: Positive = 0.5  # identical frames for so long are a frozen picture
    black_below: Annotated[float, Meta(ge=0, le=255)] = 4.0  # mean level; 0 turns the check off


class DicomSource(SourceBase, frozen=True, kw_only=True, tag="dicom"):
    """path: a file, or a directory watched for new ones. `sample:ultrasound` is pydicom's clip.

    expect_every_s: of a watched directory, the longest time without a new picture; a longer one is
    a problem. None: an empty one is idle, for as long as it likes.
    """

    path: Text
    loop: bool = False
    pattern: Text = "*"
    expect_every_s: Positive | None = None
    exam_key_file: Text | None = None  # key of the pseudonym; default: minted in state_dir
    max_file_bytes: Count = 2 << 30


class VideoSource(SourceBase, frozen=True, kw_only=True, tag="video"):
    """where: /dev/videoN, rtsp://…, a file, or a GStreamer pipeline (`pipeline = true`)."""

    where: Text
    pipeline: bool = False
    loop: bool = False
    width: Side | None = None
    height: Side | None = None
    password_file: Text | None = None  # replaces `{password}` in `where`
    transport: Literal["tcp", "udp"] = "tcp"  # of RTSP


class ImagesSource(SourceBase, frozen=True, kw_only=True, tag="images"):
    """A directory of images in name order."""

    path: Text
    loop: bool = False
    pattern: Text = "*"
    max_file_bytes: Count = 64 << 20


class PhantomSource(SourceBase, frozen=True, kw_only=True, tag="phantom"):
    """Synthetic and seeded. `fault` makes it misbehave for tests and drills."""

    scene: Literal["ultrasound", "endoscope"] = "ultrasound"
    seed: Annotated[int, Meta(ge=0)] = 1
    size: tuple[Side, Side] = (640, 480)
    fault: Literal["", "freeze", "black", "vanish", "end"] = ""
    fault_after_frames: Annotated[int, Meta(ge=0)] = 0
    fault_frames: Annotated[int, Meta(ge=0)] = 0  # 0: for ever


Source = DicomSource | VideoSource | ImagesSource | PhantomSource

# ── streams ───────────────────────────────────────────────────────────────────────────────────


class StreamModel(Section, frozen=True, kw_only=True):
    """One model on a stream. The first of a stream owns the frame accounting.

    version "": the store's `current`. every: run on each N-th captured frame.
    threshold: overrides that of every head of the manifest.
    """

    name: Name
    version: Annotated[str, Meta(pattern=PIN_PATTERN, max_length=64)] = ""
    every: Count = 1
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    min_area_px: Annotated[int, Meta(ge=0)] | None = None


class StreamConfig(Section, frozen=True, kw_only=True):
    """deadline_ms: from capture to result; None: one frame period of the source, at least 20 ms.

    max_age_ms: a result older than this is never shown as fresh.
    """

    source: Source
    models: Annotated[tuple[StreamModel, ...], Meta(min_length=1, max_length=4)]
    title: Title = ""
    room: Title = ""
    priority: Literal["high", "normal", "low"] = "normal"
    deadline_ms: Positive | None = None
    max_age_ms: Positive = 500.0
    queue: Literal["latest", "wait"] = "latest"  # `wait`: a recorded source waits for its result
    tracking: bool = True
    contours: bool = True
    swap: Literal["between_exams", "window", "now"] = "between_exams"  # of a model that came down


# ── rooms ─────────────────────────────────────────────────────────────────────────────────────


class EngineConfig(Section, frozen=True, kw_only=True):
    """The inference side. lanes 0: one per core but one, at least one."""

    isolation: Literal["process", "thread"] = "process"
    backend: Literal["auto", "onnx", "tensorrt"] = "auto"
    lanes: Annotated[int, Meta(ge=0, le=64)] = 0
    threads_per_run: Annotated[int, Meta(ge=1, le=64)] = 1  # intra-op threads of one inference
    realtime: bool = True  # SCHED_RR on capture and lane threads where permitted
    hang_s: Positive = 10.0  # a lane that has not moved for so long is killed with its child
    start_timeout_s: Positive = 60.0
    start_together: bool = False  # hold every stream until each has captured its first frame
    stop_grace_s: Positive = 2.0
    listeners: Annotated[
        tuple[Text, ...], Meta(max_length=16)
    ] = ()  # in-lane listeners, "package.module:factory"


class ModelsConfig(Section, frozen=True, kw_only=True):
    """dirs: folders of <name>/<version>/ packages, searched in order; shipped ones come last."""

    dirs: Annotated[tuple[Text, ...], Meta(max_length=32)] = ()
    shipped: bool = True


class SpoolConfig(Section, frozen=True, kw_only=True):
    """limit_bytes: of the file; two streams of 30 results/s fill 2 (boxes) to 6 GB (contours)
    a day.

    ballast_bytes: kept on the disk, given back when the file system is full. volatile_bytes: bound
    of the store in memory that stands in where the disk cannot be used.
    """

    limit_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 43)] = 16 << 30
    ballast_bytes: Annotated[int, Meta(ge=0, le=1 << 30)] = 8 << 20
    volatile_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 40)] = 32 << 20


class UplinkConfig(Section, frozen=True, kw_only=True):
    """The road to EdgeCore: an MQTT broker, on this machine or behind TLS.

    port None: 8883 with TLS, 1883 without. device "": the twin is that of the node's own name.
    kubeedge_node "": KubeEdge calls the machine as the agent does.
    """

    enabled: bool = False
    host: Host = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    tls: bool = False
    ca_file: Text | None = None  # None: what the system trusts
    cert_file: Text | None = None  # client certificate, together with key_file
    key_file: Text | None = None
    username: Annotated[str, Meta(max_length=256)] = ""
    password_file: Text | None = None
    hot_tier_keys: Text | None = None  # public keys; with them, only signed answers count
    seal: bool = False  # bodies, for the hot tier alone
    sign: bool = False  # envelopes, with the key of this node
    insecure: bool = False  # plain TCP to another machine
    ns: Name = "default"
    device: Annotated[str, Meta(pattern=NODE_PATTERN)] = ""
    kubeedge_node: OptionalNode = ""
    client_id: Annotated[str, Meta(max_length=256)] = ""  # "": edge-agent-<node>
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 20
    answer_s: Annotated[float, Meta(ge=0.5, le=120)] = 10.0  # connect, handshake, confirmation
    reconnect_max_s: Positive = 30.0
    publishes_per_s: Annotated[float, Meta(ge=1, le=1000)] = 20.0  # of EdgeCore's 30 for the node
    backfill_bytes_per_s: Annotated[int, Meta(ge=1000, le=1 << 30)] = 256_000
    drain_s: Annotated[float, Meta(ge=0, le=60)] = 1.0  # at stop, for what is on its way
    twin: bool = True
    twin_every_s: Annotated[float, Meta(ge=10, le=86_400)] = 10.0  # EdgeCore and its API server


class RolloutsConfig(Section, frozen=True, kw_only=True):
    """Models and configuration that come down. Off: what is installed runs, nothing else comes.

    root_file: the repository's root as it was when this device was enrolled.
    """

    enabled: bool = False
    repositories: Annotated[tuple[Text, ...], Meta(max_length=8)] = ()  # base URLs, asked in order
    ca_file: Text | None = None  # None: what the system trusts
    root_file: Text | None = None
    usb_dir: Text | None = None  # where a stick with a repository is mounted
    desired_file: Text | None = None  # a mounted ConfigMap; a change of it is a hint
    cohort: Annotated[str, Meta(pattern=NODE_PATTERN)] = ""
    check_every_s: Annotated[float, Meta(ge=10, le=86_400)] = 3600.0
    store_bytes: Annotated[int, Meta(ge=1 << 20, le=1 << 42)] = 8 << 30
    pace_bytes_per_s: Annotated[int, Meta(ge=0, le=1 << 40)] = 0  # 0: as fast as it comes
    shadow_frames: Annotated[int, Meta(ge=1, le=1_000_000)] = 120  # with a finding in either
    shadow_s: Positive = 600.0  # then a shadow without a verdict is inconclusive
    shadow_every: Annotated[int, Meta(ge=1, le=1000)] = 1
    hold_s: Positive = 28_800.0  # an inconclusive one, before it is given up
    observe_s: Positive = 28_800.0  # mode `shadow`
    probation_frames: Annotated[int, Meta(ge=1, le=1_000_000)] = 600
    probation_s: Annotated[float, Meta(ge=0, le=86_400)] = 900.0
    inconclusive: Literal["hold", "commit"] = "hold"
    max_trials: Annotated[int, Meta(ge=1, le=10)] = 3
    window: Annotated[str, Meta(max_length=16)] = ""  # of streams with swap = "window"
    wait_s: Positive = 604_800.0  # for a moment to swap
    proof_s: Annotated[float, Meta(ge=1, le=7200)] = 900.0  # to build and run golden samples
    proof_memory_bytes: Annotated[int, Meta(ge=0, le=1 << 42)] = 0  # 0: by the model's size
    allow_unsigned_local: bool = False


class ConsoleConfig(Section, frozen=True, kw_only=True):
    """port 0 picks a free one; enabled = false leaves only the UNIX socket."""

    http: bool = True
    port: Annotated[int, Meta(ge=0, le=65535)] = 9810
    pixels: bool = False  # pixels over loopback HTTP
    max_followers: Annotated[int, Meta(ge=1, le=1024)] = 32


class SuperviseConfig(Section, frozen=True, kw_only=True):
    """A room may crash `crashes` times in `window_s`; then it is given up, a vital one ends us."""

    crashes: Annotated[int, Meta(ge=1, le=1000)] = 5
    window_s: Positive = 60.0
    grace_s: Positive = 5.0  # for each floor of the house to drain at stop


class LogConfig(Section, frozen=True, kw_only=True):
    format: Literal["auto", "json", "human"] = "auto"  # auto: human on a terminal
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section, frozen=True, kw_only=True):
    """node "": the host name in lower case. runtime_dir "": $RUNTIME_DIRECTORY, or in state_dir."""

    node: Annotated[str, Meta(pattern=NODE_PATTERN)] = ""
    state_dir: Text = "/var/lib/edge-agent"
    runtime_dir: Text = ""
    streams: Annotated[dict[Name, StreamConfig], Meta(max_length=64)] = {}
    engine: EngineConfig = EngineConfig()
    models: ModelsConfig = ModelsConfig()
    spool: SpoolConfig = SpoolConfig()
    uplink: UplinkConfig = UplinkConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    console: ConsoleConfig = ConsoleConfig()
    supervise: SuperviseConfig = SuperviseConfig()
    log: LogConfig = LogConfig()
