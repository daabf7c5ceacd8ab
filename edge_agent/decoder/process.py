"""The agent's end of a decoder process: starts it, gives it files, takes its pictures.

    with killed_on_failure(usable().start()) as decoder:
        order = Order(address=WHOLE, live=False, settings=FILE_SETTINGS, descriptor=fd)
        facts = decoder.open(order, timeout_s=20)
        while not isinstance(got := decoder.next(timeout_s=1), Ended):
            if isinstance(got, Shown):
                pixels = decoder.pixels(got, upright.turn(got.matrix))
                decoder.release(got)

A part of a file that is open (a video inside DICOM) is an address as well: `within(start, length)`
in place of WHOLE, and `settings` with `format` ("h264", "hevc", "mpegvideo", "mpegts", "mov") where
the kind is known. All calls come from one thread, but `kill`, which may come from any.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.core import fields, upright
from edge_agent.core.errors import EdgeAgentError, Rejected, SourceLost, of_system, raised_again
from edge_agent.decoder import messages
from edge_agent.decoder.reading import FILE_FORMATS

START_TIMEOUT_S: Final = 20.0
END_TIMEOUT_S: Final = 5.0
DEATH_S: Final = 1.0  # from the end of the line to that of the process
CRASHES: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
)
MAX_SLOTS: Final = 8
MAX_SIDE_PX: Final = 16_384
MAX_SLOT_BYTES: Final = 1 << 30
F_GET_SEALS: Final = 1034
MUST_SEAL: Final = 0x0002  # shrink: a short file under a mapping is SIGBUS
CLIP: Final = Path(__file__).with_name("interlaced.mp4")
WHEELS: Final = (
    "opencv_python_headless.libs", "opencv_contrib_python_headless.libs", "opencv_python.libs",
    "opencv_contrib_python.libs",
)  # fmt: skip
LIMITS: Final = "look at the limits that the agent runs under: LimitNOFILE, TasksMax, MemoryMax"

Pixels = NDArray[np.uint8]
Message = TypeVar("Message", bound=msgspec.Struct)


class Unusable(EdgeAgentError):
    """There is no FFmpeg here that may be used; nothing that is asked again mends it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to open. address: as FFmpeg has it; `{fd}` in it is `descriptor` as the child has it.

    settings: options of the container or protocol; `format` forces the former. as_coded: pixels
    that are not square stay as they are, where regions and measures count them.
    """

    address: str
    live: bool
    settings: Mapping[str, str]
    descriptor: int | None = None
    as_coded: bool = False


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What the container says. Ratios are numerator and denominator, 0 where unknown.

    stamps_us: of the first packets, in the order of decoding, from the start. whole: of all.
    """

    container: str
    codec: str
    width: int
    height: int
    aspect: tuple[int, int]
    average: tuple[int, int]
    base: tuple[int, int]
    frames: int
    duration_us: int | None
    stamps_us: list[int]
    whole: bool
    streams: int
    field_order: int
    matrix: list[int] | None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A frame in shared memory; `Decoder.pixels` copies it out, `Decoder.release` gives it back.

    came_us: when its packet had come, by CLOCK_BOOTTIME: it may have waited for us since. field:
    shown first; "" is progressive.
    aspect: of one of its samples, 0 where unknown.
    """

    ring: int
    slot: int
    came_us: int
    pts_us: int | None
    matrix: list[int] | None
    width: int
    height: int
    channels: Literal[1, 3]
    stride: int
    field: Literal["", "top", "bottom"]
    colours: str
    source: tuple[int, int]
    aspect: tuple[int, int] = (0, 0)


class Bad(msgspec.Struct, frozen=True, kw_only=True):
    """A coded frame that is damaged, or built on damage. why: what the decoder said of it."""

    pts_us: int | None
    why: str


class Ended(msgspec.Struct, frozen=True):
    """There is nothing more to come of what was opened."""


def library_folder() -> Path | None:
    """The libraries of the wheel that cv2 was installed from; None: it did not come as a wheel."""
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec("cv2")
        if found is not None and found.origin:
            beside = Path(found.origin).parent.parent
            return next((beside / name for name in WHEELS if (beside / name).is_dir()), None)
    return None


def within(start: int, length: int) -> str:
    """The address of a part of the file whose descriptor comes along, in bytes."""
    return f"subfile,,start,{start},end,{start + length},,:/proc/self/fd/{{fd}}"


WHOLE: Final = "file:/proc/self/fd/{fd}"
# Of any file: it may name no other file and no address, as playlists do.
FILE_SETTINGS: Final[Mapping[str, str]] = {
    "protocol_whitelist": "file,subfile",
    "format_whitelist": FILE_FORMATS,
}


class Decoder:
    """One child. Whatever it is fed, and whatever becomes of it, `kill` ends it."""

    def __init__(self, folder: Path) -> None:
        """Raises: Overloaded, Damaged when this machine does not let a process begin."""
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._maps: dict[int, tuple[mmap.mmap, int, int]] = {}
        self._is_ready = False
        self.version = ""
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "edge_agent.decoder", str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                )
        except OSError as error:
            self._line.close()
            raise of_system("start a video decoder", error, LIMITS) from error
        self._tell({"kind": "begin", "folder": str(folder), "clip": str(CLIP)})

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, order: Order, timeout_s: float) -> Opened:
        """May be called again once what was open has ended.

        Raises: Unusable; SourceLost when nothing came in time; Rejected when it is no video.
        """
        words = {"kind": "open", "address": order.address, "live": order.live}
        words["as_coded"] = order.as_coded
        self._tell({**words, "settings": dict(order.settings)}, order.descriptor)
        if not self._is_ready:
            self._greet()
        message = self._receive(timeout_s)
        if message is None:
            raise SourceLost(f"silent for {timeout_s:g} s")
        if message.get("kind") == "failed":
            raise _again(message)
        return _converted(message, Opened)

    def _greet(self) -> None:
        """Raises: Unusable."""
        try:
            message = self._receive(START_TIMEOUT_S)
        except SourceLost as died:
            if -(self._process.returncode or 0) not in CRASHES:
                raise  # somebody ended it, or the kernel was short of memory
            raise Unusable(f"FFmpeg of OpenCV: it was tried, and {died.what}") from None
        if message is None:
            raise SourceLost(f"the video decoder did not start within {START_TIMEOUT_S:g} s")
        if message.get("kind") != "ready":
            raise Unusable(str(message.get("why"))[: messages.MAX_WORDS_CHARS])
        self._is_ready, self.version = True, str(message.get("version"))

    def next(self, timeout_s: float) -> Shown | Bad | Ended | None:
        """What comes next; None when that is not within `timeout_s`.

        Raises: SourceLost, Rejected.
        """
        while (message := self._receive(timeout_s)) is not None:
            kind = message.get("kind")
            if kind == "frame":
                return _converted(message, Shown)
            if kind == "bad":
                return _converted(message, Bad)
            if kind == "end":
                return Ended()
            if kind == "failed":
                raise _again(message)
            if kind != "ring":
                raise SourceLost("the video decoder spoke out of turn")
        return None

    def pixels(self, frame: Shown, turn: upright.Turn) -> Pixels:
        """uint8 HxW or HxWx3 BGR, C-contiguous and of its own memory: deinterlaced and turned.

        Raises: SourceLost when the child describes what can't be.
        """
        mapped, slot_bytes, slots = self._maps.get(frame.ring, (None, 0, 0))
        width = frame.width * frame.channels
        fits = 0 < frame.width <= MAX_SIDE_PX and 0 < frame.height <= MAX_SIDE_PX
        fits = fits and width <= frame.stride and frame.stride * frame.height <= slot_bytes
        if mapped is None or not fits or not 0 <= frame.slot < slots:
            raise SourceLost("the video decoder gave a frame that is not in its memory")
        rows = np.frombuffer(
            mapped, np.uint8, frame.stride * frame.height, frame.slot * slot_bytes
        ).reshape(frame.height, frame.stride)[:, :width]
        if frame.channels == 3:
            rows = rows.reshape(frame.height, frame.width, 3)
        if frame.field:
            rows = fields.deinterlaced(rows, frame.field)
            return rows if turn.is_none else np.ascontiguousarray(upright.turned(rows, turn))
        return np.array(upright.turned(rows, turn), order="C")

    def release(self, frame: Shown) -> None:
        """Its place in the memory is free again."""
        self._tell({"kind": "free", "ring": frame.ring, "slot": frame.slot})

    def kill(self) -> None:
        """Again is harmless; never raises."""
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_S)

    def close(self) -> None:
        """`kill`, and everything is let go of. Not while another thread is in `next`."""
        self.kill()
        self._line.close()
        self._maps.clear()

    # ── the line ──────────────────────────────────────────────────────────────────────────────

    def _tell(self, message: dict[str, Any], descriptor: int | None = None) -> None:
        with contextlib.suppress(OSError):  # it is gone: said by who reads
            messages.send(self._line, message, descriptor)

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Raises: SourceLost when the child is gone."""
        waiting = select.poll()  # select itself takes no descriptor above 1023
        waiting.register(self._line, select.POLLIN)
        if not waiting.poll(max(0.0, timeout_s) * 1000):
            return None
        try:
            got = messages.receive(self._line)
        except (OSError, ValueError):
            got = None
        if got is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DEATH_S)
            code = self._process.returncode
            self.kill()
            raise SourceLost(f"the video decoder died ({_ending(code)})")
        message, descriptor = got
        if descriptor is not None:
            self._map(message, descriptor)
        return message

    def _map(self, message: dict[str, Any], descriptor: int) -> None:
        """New memory for larger frames; the old one goes once its frames were copied.

        Raises: SourceLost.
        """
        try:
            number, slots = int(message["id"]), int(message["slots"])
            slot_bytes = int(message["bytes"])
            total = slots * slot_bytes
            sealed = fcntl.fcntl(descriptor, F_GET_SEALS) & MUST_SEAL
            if not sealed or not 0 < slots <= MAX_SLOTS or not 0 < slot_bytes <= MAX_SLOT_BYTES:
                raise ValueError("a memory that is not sealed, or too large")
            if os.fstat(descriptor).st_size != total:
                raise ValueError("a memory of another size")
            self._maps[number] = (
                mmap.mmap(descriptor, total, prot=mmap.PROT_READ),
                slot_bytes,
                slots,
            )
        except (KeyError, TypeError, ValueError, OSError):
            raise SourceLost("the video decoder gave a memory that can not be used") from None
        finally:
            os.close(descriptor)
        for old in sorted(self._maps)[:-2]:  # a frame of the last but one may still be held
            del self._maps[old]  # not closed: another thread may be copying out of it


class Usable:
    """Whether there is an FFmpeg that may be used here, as far as it was tried."""

    def __init__(self) -> None:
        self.why = ""
        self._folder = library_folder()
        if self._folder is None:
            self.why = "OpenCV did not come as a wheel, with FFmpeg beside it"

    def start(self) -> Decoder:
        """Raises: Overloaded, Damaged."""
        assert self._folder is not None
        return Decoder(self._folder)


@functools.cache
def usable() -> Usable:
    """Found once per process."""
    return Usable()


@contextlib.contextmanager
def killed_on_failure(decoder: Decoder) -> Iterator[Decoder]:
    try:
        yield decoder
    except BaseException:
        decoder.close()
        raise


def _converted(message: dict[str, Any], kind: type[Message]) -> Message:
    """Raises: SourceLost."""
    message.pop("kind", None)
    try:
        return msgspec.convert(message, kind)
    except msgspec.ValidationError:
        raise SourceLost("the video decoder spoke out of turn") from None


def _again(message: dict[str, Any]) -> EdgeAgentError:
    what = str(message.get("what"))[: messages.MAX_WORDS_CHARS]
    if message.get("fault") == "source-lost":
        return SourceLost(what)
    if message.get("fault") == "rejected":
        return Rejected(what)
    return raised_again(str(message.get("fault")), what)


def _ending(code: int | None) -> str:
    if code is None:
        return "it does not end"
    return f"signal {-code}" if code < 0 else f"exit {code}"
