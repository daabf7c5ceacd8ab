"""The shared memory of one stream: counters, results and the last frames, between child and agent.

    0      header      512 B   64 little words of 8 bytes (`Word`)
    4096   result ring 256 x (32 B slot header + 16 KiB MessagePack)
           slot header: stamp u64 | primary u64 | digest u64 | length u64
    …      frame ring  4 x (64 B slot header + FRAME_BYTES)
           slot header: stamp | number | captured_us | width | height | channels | length | digest

One writer (the child), one reader (the agent). Neither ever waits for the other: a full ring drops
the oldest, and the reader learns how many it lost. `stamp` is 2n+1 while entry n is written and
2n+2 once it is whole; the digest covers the body, and as its seed the word beside it, so that a
machine which reorders stores (ARM) can't show half an entry. Nothing here allocates a shared
segment: the caller brings the buffer. Every counter has one writer at a time; the child sees to it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from edge_agent.core.frames import DROPS, Drop

MAGIC = 0x3145_4741_4547_4445  # "EDGEAGE1"
HEADER_BYTES = 4096
SLOTS = 256
BODY_BYTES = 16 << 10
SLOT_BYTES = 32 + BODY_BYTES
FRAME_SLOTS = 4
FRAME_BYTES = 1920 * 1088 * 3  # larger frames are thinned out by whole pixels for the preview
FRAME_SLOT_BYTES = 64 + FRAME_BYTES
FRAMES_AT = HEADER_BYTES + SLOTS * SLOT_BYTES
TOTAL_BYTES = FRAMES_AT + FRAME_SLOTS * FRAME_SLOT_BYTES


class Word(enum.IntEnum):
    """The header, word by word."""

    MAGIC = 0
    HEAD = 1  # results written, of all models
    PUBLISHED = 2  # results written, of the first model
    CAPTURED = 3
    FROZEN = 4
    SIGNAL = 5  # index into SIGNALS
    REOPENED = 6
    EXPECTED_MILLIFPS = 7
    FIRST_FRAME_US = 8
    LAST_FRAME_US = 9
    LAST_RESULT_US = 10
    FRAMES_HEAD = 11
    FRAMES_WANTED_US = 12  # written by the agent: copy every frame until then
    EXTRA_RUNS = 13
    EXTRA_SHED = 14
    MISSED = 15  # results that came after their deadline
    ENDED = 16  # 1: a recording came to its end
    OVERSIZE = 17  # results that had to lose detail to fit
    DROPS = 32  # and following, in the order of `DROPS`


class FrameView(NamedTuple):
    """A copy of a stored frame. pixels: uint8, HxW or HxWx3 BGR."""

    number: int
    captured_us: int
    pixels: NDArray[np.uint8]


class Header:
    """The counters, for either side."""

    def __init__(self, buffer: memoryview) -> None:
        self.words = buffer[: 64 * 8].cast("Q")

    def __getitem__(self, word: Word) -> int:
        return int(self.words[word])

    def __setitem__(self, word: Word, value: int) -> None:
        self.words[word] = value

    def add(self, word: Word, n: int = 1) -> None:
        self.words[word] += n

    def drop(self, why: Drop, n: int = 1) -> None:
        self.words[Word.DROPS + DROPS.index(why)] += n

    def dropped(self) -> dict[Drop, int]:
        return {why: int(self.words[Word.DROPS + i]) for i, why in enumerate(DROPS)}

    def in_flight(self) -> int:
        """Captured frames that are neither published nor dropped yet: what dies with a child."""
        return self[Word.CAPTURED] - self[Word.PUBLISHED] - sum(self.dropped().values())

    def still(self) -> Header:
        """A copy that no writer moves any more: books are closed on one set of numbers."""
        return Header(memoryview(bytes(self.words)))


class ResultWriter:
    """The child's end of the result ring."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._header = Header(buffer)

    def put(self, body: bytes, *, primary: bool) -> None:
        """Writes one entry; the oldest of 256 is overwritten.

        Raises: ValueError when the body is larger than a slot.
        """
        if len(body) > BODY_BYTES:
            raise ValueError(f"result of {len(body)} B does not fit a slot of {BODY_BYTES} B")
        header, n = self._header, self._header[Word.HEAD]
        published = header[Word.PUBLISHED] + int(primary)
        at = HEADER_BYTES + (n % SLOTS) * SLOT_BYTES
        slot = self._buffer[at : at + 32].cast("Q")
        slot[0] = 2 * n + 1
        self._buffer[at + 32 : at + 32 + len(body)] = body
        slot[1] = mark = published << 1 | int(primary)
        slot[2] = xxhash.xxh3_64_intdigest(body, seed=mark)
        slot[3] = len(body)
        slot[0] = 2 * n + 2
        header[Word.PUBLISHED] = published
        header[Word.HEAD] = n + 1


class ResultReader:
    """The agent's end. `lost` counts results of the first model that were overwritten unread."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._header = Header(buffer)
        self._next = 0
        self._primaries = 0
        self.lost = 0

    def drain(self) -> Iterator[tuple[bytes, bool]]:
        """(body, is of the first model) of every entry not seen yet, oldest first."""
        head = self._header[Word.HEAD]
        while self._next < head:
            oldest = self._header[Word.HEAD] - SLOTS
            self._next = max(self._next, oldest)
            entry = self._read(self._next)
            self._next += 1
            if entry is not None:
                yield entry

    def settle(self, published: int) -> None:
        """After a last `drain`: books what was published and is not read as lost."""
        self.lost += max(0, published - self._primaries)
        self._primaries = max(self._primaries, published)

    def _read(self, n: int) -> tuple[bytes, bool] | None:
        at = HEADER_BYTES + (n % SLOTS) * SLOT_BYTES
        slot = self._buffer[at : at + 32].cast("Q")
        if slot[0] != 2 * n + 2:
            return None  # overwritten meanwhile; a later entry tells how many were lost
        mark, digest, length = slot[1], slot[2], slot[3]
        if length > BODY_BYTES:
            return None  # the header itself is torn
        body = bytes(self._buffer[at + 32 : at + 32 + length])
        if slot[0] != 2 * n + 2 or xxhash.xxh3_64_intdigest(body, seed=mark) != digest:
            return None
        primary, published = bool(mark & 1), mark >> 1
        self.lost += max(0, published - int(primary) - self._primaries)
        self._primaries = published
        return body, primary


class FrameWriter:
    """The child's end of the frame ring."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._header = Header(buffer)

    def put(self, number: int, captured_us: int, pixels: NDArray[np.uint8]) -> None:
        """Copies a frame; one that is too large is thinned out by whole pixels."""
        step = 1
        while pixels[::step, ::step].size > FRAME_BYTES:
            step += 1
        preview = pixels[::step, ::step]
        n = self._header[Word.FRAMES_HEAD]
        at = FRAMES_AT + (n % FRAME_SLOTS) * FRAME_SLOT_BYTES
        slot = self._buffer[at : at + 64].cast("Q")
        slot[0] = 2 * n + 1
        body = self._buffer[at + 64 : at + 64 + preview.size]
        target = np.frombuffer(body, np.uint8).reshape(preview.shape)
        np.copyto(target, preview)
        slot[1], slot[2] = number, captured_us
        slot[3], slot[4] = preview.shape[1], preview.shape[0]
        slot[5] = 1 if preview.ndim == 2 else int(preview.shape[2])
        slot[6], slot[7] = preview.size, xxhash.xxh3_64_intdigest(body)
        slot[0] = 2 * n + 2
        self._header[Word.FRAMES_HEAD] = n + 1


class FrameReader:
    """The agent's end of the frame ring."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._header = Header(buffer)

    def newest(self) -> FrameView | None:
        """A whole copy of the newest frame, or None when there is none yet."""
        for _ in range(FRAME_SLOTS):
            n = self._header[Word.FRAMES_HEAD] - 1
            if n < 0:
                return None
            view = self._read(n)
            if view is not None:
                return view
        return None

    def _read(self, n: int) -> FrameView | None:
        at = FRAMES_AT + (n % FRAME_SLOTS) * FRAME_SLOT_BYTES
        slot = self._buffer[at : at + 64].cast("Q")
        stamp, number, captured, width, height, channels, length, digest = slot.tolist()
        if stamp != 2 * n + 2 or length > FRAME_BYTES or width * height * channels != length:
            return None
        body = bytes(self._buffer[at + 64 : at + 64 + length])
        if slot[0] != stamp or xxhash.xxh3_64_intdigest(body) != digest:
            return None
        shape = (height, width) if channels == 1 else (height, width, channels)
        return FrameView(number, captured, np.frombuffer(body, np.uint8).reshape(shape))


def format_header(buffer: memoryview) -> None:
    """Marks a fresh, zeroed buffer as a stream's memory."""
    if len(buffer) < TOTAL_BYTES:
        raise ValueError(f"stream memory of {len(buffer)} B, expected {TOTAL_BYTES} B")
    Header(buffer)[Word.MAGIC] = MAGIC


def check_header(buffer: memoryview) -> None:
    """Raises: ValueError when the buffer is not a stream's memory of this version."""
    if len(buffer) < TOTAL_BYTES or Header(buffer)[Word.MAGIC] != MAGIC:
        raise ValueError("stream memory: wrong size or magic; agent and child differ in version")
