"""The vocabulary of the house: frames in, records out.

What is shown, spooled, sent and rebuilt is equal: numbers are quantised when a record is made
(`quantise` rules beside each field). Fields only get added; decoders ignore unknown ones; a removal
is a new schema. Non-finite numbers never enter: such a frame is dropped as `error`.

Pixels are of the whole captured frame: origin at the top-left corner, x right, y down, boxes
half-open. Empty lists mean: looked, found nothing. Not looked means no record; the `Tally` explains
the silence.
"""

from __future__ import annotations

import enum
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core.shrunk import grown, is_shrunk

SCHEMA = 1
MAX_OBJECTS = 100
MAX_MEASURES = 64
MAX_LABELS_PER_HEAD = 20
RING_UNITS_PER_PX = 8  # contour points are in 1/8 px

Pixels = NDArray[np.uint8]  # HxW (gray) or HxWx3 (BGR, as OpenCV has it)


class RecordClass(str, enum.Enum):
    """The classes of records, in the order in which they are kept when space runs out."""

    ALARM = "alarm"
    EVENT = "event"
    RESULT = "result"
    TELEMETRY = "telemetry"


KEEP_ORDER = tuple(RecordClass)


class Drop(str, enum.Enum):
    """Why a captured frame has no result. The names are the same in status, metrics and tallies."""

    OVERWRITTEN = "overwritten"  # a newer frame took its slot
    LATE = "late"  # it could no longer meet its deadline
    SHED = "shed"  # a level shed it
    THERMAL = "thermal"
    PAUSED = "paused"
    ERROR = "error"  # decode failed, non-finite output
    CRASH = "crash"  # lost with a child
    OVERRUN = "overrun"  # the result ring was full: the agent read too late
    SHUTDOWN = "shutdown"


DROPS = tuple(Drop)


class Signal(str, enum.Enum):
    """What a source delivers right now."""

    STARTING = "starting"
    OK = "ok"
    NO_SIGNAL = "no_signal"
    FROZEN = "frozen"
    BLACK = "black"
    REOPENING = "reopening"
    PAUSED = "paused"
    FAILED = "failed"


SIGNALS = tuple(Signal)


class ScaleRegion(msgspec.Struct, frozen=True, kw_only=True):
    """A region of the picture that its file describes.

    area: [x, y, w, h] px, what it covers of the frame; None: its header does not say where it is.
    spacing_mm: [dx, dy] mm per px inside it; None, with the reason, where there is none.
    what: its kind, in words.
    """

    area: tuple[int, int, int, int] | None
    spacing_mm: tuple[float, float] | None = None
    what: str = ""
    reason: str = ""


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Where the anatomy is in the frame and how large a pixel is.

    roi: [x, y, w, h] px of the captured frame that a model gets; None is the whole frame.
    spacing_mm: [dx, dy] mm per px that holds all over roi; None when there is none that does.
    reason: why there is none, in words for `streams probe`.
    regions: all that the file describes. Where there are some, a spacing that is not from the
    config holds only inside one of them: `core.calibration.spacing_at` says which.
    """

    roi: tuple[int, int, int, int] | None = None
    spacing_mm: tuple[float, float] | None = None
    spacing_from: Literal["dicom", "config", ""] = ""
    reason: str = ""
    regions: tuple[ScaleRegion, ...] = ()


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One captured frame. Not serialised; `pixels` is owned by the frame and never written again.

    pixels: uint8, HxW gray or HxWx3 BGR, C-contiguous.
    captured_us: CLOCK_BOOTTIME when the frame left its device, in microseconds.
    pts_us: the source's own clock, if it has one.
    media_us: of a recording, since its first frame; over clips and loops it only rises.
    """

    number: int
    captured_us: int
    pixels: Pixels
    pts_us: int | None = None
    media_us: int = 0
    calibration: Calibration = Calibration()
    exam: str = ""  # hex16 keyed pseudonym of the study, never the UID
    replay: bool = False  # recorded, not live

    @property
    def size(self) -> tuple[int, int]:
        """[width, height] in px."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """A classification: `score` in [0, 1], quantised to 1e-4."""

    head: str
    label: str
    score: float


class Mask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A segmented area: `rings` (1/8 px, outer first, holes after) or `runs` (row-major in box).

    exact: the shape reproduces the mask pixel by pixel (runs always do; rings may be simplified).
    """

    area_px: int
    box: tuple[int, int, int, int]
    rings: tuple[tuple[int, ...], ...] = ()
    runs: tuple[int, ...] = ()
    exact: bool = False


class Object(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finding. box: [x0, y0, x1, y1] px, half-open, quantised to 0.1; score to 1e-4.

    keypoints: [x, y, score] each, px. `track` is 0 when the object belongs to no track.
    """

    id: int
    track: int
    head: str
    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: Mask | None = None
    keypoints: tuple[tuple[float, float, float], ...] = ()


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. `unit` is UCUM; `px` and `px2` are our own. `object` is an `Object.id`.

    points: [x, y, ...] px that the value was taken between; sd in `unit`.
    """

    name: str
    value: float
    unit: str
    object: int | None = None
    points: tuple[float, ...] = ()
    sd: float | None = None
    method: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What the spool holds. `epoch` and `seq` are 0 until the spool has given the record its id."""

    klass: ClassVar[RecordClass]
    node: str
    stream: str
    epoch: int = 0
    seq: int = 0
    boot: str = ""  # hex8 of the boot id
    at_us: int = 0  # CLOCK_BOOTTIME when the record was made


class Result(Record, frozen=True, kw_only=True, tag="result"):
    """What one model saw in one frame, with its full provenance."""

    klass: ClassVar[RecordClass] = RecordClass.RESULT
    schema: int = SCHEMA
    frame: int = 0
    term: int = 0
    captured_us: int = 0
    utc_offset_us: int | None = None  # add to captured_us for UTC; None: clock never set
    utc_error_us: int | None = None
    pts_us: int | None = None
    wait_us: int = 0  # capture to start
    infer_us: int = 0  # the run itself
    latency_us: int = 0  # capture to result
    size: tuple[int, int] = (0, 0)
    roi: tuple[int, int, int, int] = (0, 0, 0, 0)
    spacing_mm: tuple[float, float] | None = None  # of each object; of all the roi, if none
    spacing_from: str = ""
    input_hash: str = ""  # hex8, xxh3 of the pixels given to the model
    model: str = ""
    version: str = ""
    sha: str = ""  # hex16 of the package id
    variant: str = ""
    backend: str = ""
    settings: str = ""  # hex8 of effective thresholds and options
    every: int = 1
    level: int = 0
    flags: tuple[
        str, ...
    ] = ()  # replay uncalibrated degraded trial state_reset truncated low_quality unscaled
    exam: str = ""
    labels: tuple[Label, ...] = ()
    objects: tuple[Object, ...] = ()
    measures: tuple[Measure, ...] = ()


class Tally(Record, frozen=True, kw_only=True, tag="tally"):
    """Once a second per stream: explains silence. Counts are since the agent's start."""

    klass: ClassVar[RecordClass] = RecordClass.TELEMETRY
    state: str = ""
    captured: int = 0
    inferred: int = 0
    dropped: dict[str, int] = {}
    frozen: int = 0


class ModelStats(Record, frozen=True, kw_only=True, tag="model_stats"):
    """Each minute per model and stream. scores: histogram of the best score in ten equal bins."""

    klass: ClassVar[RecordClass] = RecordClass.TELEMETRY
    model: str = ""
    version: str = ""
    frames: int = 0
    findings: int = 0
    scores: tuple[int, ...] = (0,) * 10
    input_mean: float = 0.0
    input_sd: float = 0.0


class ClockMap(Record, frozen=True, kw_only=True, tag="clock"):
    """Maps boot time to UTC, afterwards too."""

    klass: ClassVar[RecordClass] = RecordClass.EVENT
    utc_offset_us: int | None = None
    utc_error_us: int | None = None
    synchronised: bool = False


class Alarm(Record, frozen=True, kw_only=True, tag="alarm"):
    """Technical, never clinical. since_us: CLOCK_BOOTTIME."""

    klass: ClassVar[RecordClass] = RecordClass.ALARM
    code: str = ""
    state: Literal["raised", "cleared"] = "raised"
    severity: Literal["warning", "critical"] = "warning"
    since_us: int = 0
    what: str = ""
    fix: str = ""


class Event(Record, frozen=True, kw_only=True, tag="event"):
    """Something that happened once: started, reloaded, model swapped."""

    klass: ClassVar[RecordClass] = RecordClass.EVENT
    name: str = ""
    what: str = ""


AnyRecord = Result | Tally | ModelStats | ClockMap | Alarm | Event

_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(AnyRecord)
_jsoner = msgspec.json.Encoder()


def pack(record: Record) -> bytes:
    """MessagePack, self-contained."""
    return _packer.encode(record)


def unpack(data: bytes | bytearray | memoryview) -> AnyRecord:
    """The inverse of `pack`, also of what was made smaller for the spool (`core.shrunk`).

    Raises: msgspec.ValidationError, msgspec.DecodeError.
    """
    data = plain(data)
    try:
        record: AnyRecord = _unpacker.decode(data)
    except UnicodeDecodeError as error:  # no error of msgspec's
        raise msgspec.DecodeError(f"text that is no UTF-8: {error}") from error
    return record


def plain(data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    """The MessagePack of a record, as `pack` made it.

    Raises: msgspec.DecodeError.
    """
    if not is_shrunk(data):
        return data
    try:
        return grown(data)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error


def to_json(record: Record) -> bytes:
    """Compact JSON of the same content, and its `class`."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    fields["class"] = record.klass.value
    return _jsoner.encode(fields)


class Arrays(msgspec.Struct, frozen=True, kw_only=True):
    """Raw outputs beside a Result, for in-lane listeners only: valid during the call, never kept.

    outputs: by ONNX output name, as the model gave them. frame: the whole captured frame.
    """

    frame: Frame
    outputs: dict[str, NDArray[Any]]
