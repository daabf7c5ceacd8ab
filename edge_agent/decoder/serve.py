"""The child's end: opens what it is told to, decodes, and puts pictures into shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import queue
import socket
import threading
import time
from pathlib import Path
from typing import Any, Final

from edge_agent.core.errors import EdgeAgentError, Rejected, SourceLost, fault_of
from edge_agent.decoder import messages
from edge_agent.decoder.library import Library
from edge_agent.decoder.picture import Painter, Shape
from edge_agent.decoder.reading import MAX_DARK_FRAMES, Facts, Picture, Reading, Spoilt

SLOTS: Final = 4  # one is written, one waits, one is copied, and one to spare
F_ADD_SEALS: Final = 1033
SEALS: Final = 0x0001 | 0x0002 | 0x0004  # seal, shrink, grow
TRIED: Final = "self-test"
PULSE_S: Final = 0.1
HELD_US: Final = 1_000_000  # nobody knows how old what came meanwhile is


class Pulse:
    """Whether this process was held up: stopped, frozen, or without a processor. Meanwhile the
    network went on filling the kernel's memory with pictures, which would look as if they were new.
    """

    def __init__(self) -> None:
        self._beat_us = messages.now_us()
        self._held_us = 0
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def check(self) -> None:
        """Raises: SourceLost."""
        held_us = max(self._held_us, messages.now_us() - self._beat_us)
        if held_us > HELD_US:
            raise SourceLost(f"its decoder was held up for {held_us / 1e6:.1f} s")

    def _run(self) -> None:
        while True:
            now_us = messages.now_us()
            self._held_us = max(self._held_us, now_us - self._beat_us)  # before the beat: no gap
            self._beat_us = now_us
            time.sleep(PULSE_S)


class Ring:
    """Slots of pictures in a memfd. The reader gives slots back; each is whole or not there."""

    def __init__(self, number: int, slot_bytes: int) -> None:
        page = mmap.PAGESIZE
        self.number = number
        self.slot_bytes = (slot_bytes + page - 1) // page * page
        self.fd = os.memfd_create("edge-agent-video", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, self.slot_bytes * SLOTS)
        fcntl.fcntl(self.fd, F_ADD_SEALS, SEALS)
        self._map = mmap.mmap(self.fd, self.slot_bytes * SLOTS)
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self.free = set(range(SLOTS))

    def at(self, slot: int) -> int:
        return self._start + slot * self.slot_bytes


class Child:
    """Serves one parent until its end of the line is closed, whatever goes on here."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._orders: queue.SimpleQueue[tuple[dict[str, Any], int | None]] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._ring: Ring | None = None
        self._rings = 0
        self._skipped = 0
        self._as_coded = False

    def run(self) -> None:
        begun = messages.receive(self._line)
        if begun is None:
            return
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        try:
            ffmpeg = Library(Path(str(begun[0]["folder"])))
            tried = try_out(ffmpeg, str(begun[0]["clip"]))
        except EdgeAgentError as wrong:
            self._say({"kind": "unusable", "why": wrong.what})
            threading.Event().wait()  # until the parent hangs up: what it has said must be read
            return
        self._say({"kind": "ready", "version": ffmpeg.version, "tried": tried})
        while True:
            order, descriptor = self._orders.get()
            self._serve(ffmpeg, order, descriptor)

    def _listen(self) -> None:
        """A decoder that hangs in its library still ends with its parent."""
        try:
            while (got := messages.receive(self._line)) is not None:
                message, descriptor = got
                if message.get("kind") == "free":
                    self._release(message)
                else:
                    self._orders.put((message, descriptor))
        finally:
            os._exit(0)

    def _release(self, message: dict[str, Any]) -> None:
        with self._changed:
            if self._ring is not None and message["ring"] == self._ring.number:
                self._ring.free.add(int(message["slot"]))
                self._changed.notify_all()

    def _say(self, message: dict[str, Any], descriptor: int | None = None) -> None:
        try:
            messages.send(self._line, message, descriptor)
        except OSError:
            os._exit(0)

    # ── one file or address ───────────────────────────────────────────────────────────────────

    def _serve(self, ffmpeg: Library, order: dict[str, Any], descriptor: int | None) -> None:
        address = str(order["address"]).replace("{fd}", str(descriptor))
        live = bool(order["live"])
        self._as_coded = bool(order.get("as_coded"))
        try:
            with contextlib.closing(
                Reading(ffmpeg, address, live=live, settings=dict(order["settings"]))
            ) as reading:
                facts = reading.facts()
                self._say({"kind": "opened", **facts._asdict(), "matrix": reading.matrix()})
                self._play(ffmpeg, reading, facts, live=live)
            self._say({"kind": "end"})
        except (EdgeAgentError, OSError, MemoryError) as wrong:
            self._say(_failed(wrong))
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _play(self, ffmpeg: Library, reading: Reading, facts: Facts, *, live: bool) -> None:
        painter = Painter(
            ffmpeg, codec=facts.codec, field_order=facts.field_order, as_coded=self._as_coded
        )
        # Who tunes in between two key frames has nothing to lean on: that is no damage yet.
        untold = MAX_DARK_FRAMES if live else 0
        pulse = Pulse() if live else None
        while True:
            found = reading.next()
            came_us = messages.now_us()
            if found is None:
                return
            if isinstance(found, Spoilt) or not found.shown:
                untold -= 1
                if untold < 0:
                    self._say({"kind": "bad", "pts_us": found.pts_us, "why": found.why})
                continue
            untold = 0
            if pulse is not None:
                pulse.check()
            shape = painter.shape(found.at, facts.aspect)
            place = self._place(shape, live=live)
            if place is None:
                self._skipped += 1
                continue
            ring, slot = place
            painter.paint(found.at, shape, ring.at(slot))
            self._say(self._frame(reading, found, shape, (ring.number, slot, came_us)))

    def _frame(
        self, reading: Reading, found: Picture, shape: Shape, place: tuple[int, int, int]
    ) -> dict[str, Any]:
        return {
            "kind": "frame",
            "ring": place[0],
            "slot": place[1],
            "came_us": place[2],
            "pts_us": found.pts_us,
            "matrix": reading.matrix(),
            **shape._asdict(),
        }

    def _place(self, shape: Shape, *, live: bool) -> tuple[Ring, int] | None:
        """A free slot. What is live does not wait for one: its reader gets the next frame."""
        if self._ring is None or self._ring.slot_bytes < shape.bytes:
            self._rings += 1
            ring = Ring(self._rings, shape.bytes)
            with self._changed:
                self._ring = ring
            told = {"kind": "ring", "id": ring.number, "slots": SLOTS, "bytes": ring.slot_bytes}
            self._say(told, ring.fd)
            os.close(ring.fd)
        with self._changed:
            if not self._ring.free and live:
                return None
            self._changed.wait_for(lambda: self._ring is not None and self._ring.free)
            return self._ring, self._ring.free.pop()


def _failed(wrong: Exception) -> dict[str, Any]:
    if isinstance(wrong, SourceLost):
        fault, what = "source-lost", wrong.what
    elif isinstance(wrong, EdgeAgentError):
        fault, what = fault_of(wrong), wrong.what
    else:
        fault, what = "overloaded", getattr(wrong, "strerror", None) or "no memory for its pictures"
    return {"kind": "failed", "fault": fault, "what": what[: messages.MAX_WORDS_CHARS]}


# ── before anything is shown ──────────────────────────────────────────────────────────────────

CLIP_SIZE: Final = (64, 48)
CLIP_FRAMES: Final = 4
CLIP_BGR: Final = (30, 60, 200)
CLIP_TOLERANCE: Final = 5


def try_out(ffmpeg: Library, clip: str) -> str:
    """Decodes the interlaced clip of one colour that comes with the agent: a struct that is read at
    the wrong place, or a decoder that shows memory, is found before a patient is.

    Raises: Rejected.
    """
    seen = 0
    with contextlib.closing(Reading(ffmpeg, f"file:{clip}", live=False, settings={})) as reading:
        facts = reading.facts()
        painter = Painter(ffmpeg, codec=facts.codec, field_order=facts.field_order)
        while (found := reading.next()) is not None:
            if isinstance(found, Spoilt) or not found.shown:
                raise Rejected(f"{TRIED}: a sound clip came out damaged: {found.why}")
            shape = painter.shape(found.at, facts.aspect)
            room = ctypes.create_string_buffer(shape.bytes)
            painter.paint(found.at, shape, ctypes.addressof(room))
            _check(shape, room.raw)
            seen += 1
    if seen != CLIP_FRAMES:
        raise Rejected(f"{TRIED}: expected {CLIP_FRAMES} frames of a clip, got {seen}")
    return f"{seen} frames"


def _check(shape: Shape, content: bytes) -> None:
    """Raises: Rejected."""
    if (shape.width, shape.height, shape.channels) != (*CLIP_SIZE, 3) or not shape.field:
        raise Rejected(
            f"{TRIED}: expected an interlaced frame of 64 x 48 px, "
            f"got {shape.width} x {shape.height}, field {shape.field or 'none'}"
        )
    rows = [content[y * shape.stride :][: shape.width * 3] for y in range(shape.height)]
    for channel, wanted in enumerate(CLIP_BGR):
        values = b"".join(row[channel::3] for row in rows)
        off = max(abs(min(values) - wanted), abs(max(values) - wanted))
        if off > CLIP_TOLERANCE:
            raise Rejected(f"{TRIED}: a clip of one colour came out {off} levels off")
