"""Track ids for objects: greedy overlap between frames, nothing else. Pure; time is an argument.

    born --hit--> confirmed (gets its id) --no hit for max_age_us--> gone
    born --miss--> gone

An id is given at the second hit, from 1 on, and never again in the same run: not after `reset`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edge_agent.core.vision import overlap, overlaps

Box = tuple[float, float, float, float]

MAX_TRACKS = 256
CONFIRM_HITS = 2
FEW_PAIRS = 64  # up to so many are compared one by one: arrays would take longer


class Track:
    """One object over time. identity 0: not confirmed yet."""

    __slots__ = ("box", "hits", "identity", "key", "misses", "seen_us")

    def __init__(self, key: str, box: Box, now_us: int) -> None:
        self.key = key
        self.box = box
        self.seen_us = now_us
        self.hits = 1
        self.misses = 0
        self.identity = 0

    def hit(self, box: Box, now_us: int) -> None:
        self.box = box
        self.seen_us = now_us
        self.hits += 1
        self.misses = 0


class Tracker:
    """Follows boxes of equal `key` (head and label). One per stream and model; not thread-safe."""

    def __init__(
        self, *, iou: float = 0.3, max_age_us: int = 1_000_000, max_tracks: int = MAX_TRACKS
    ) -> None:
        self._iou = iou
        self._max_age_us = max_age_us
        self._max_tracks = max_tracks
        self._tracks: list[Track] = []
        self._next = 1

    def __len__(self) -> int:
        return len(self._tracks)

    def update(self, keys: Sequence[str], boxes: Sequence[Box], now_us: int) -> list[int]:
        """The track id of each object of a frame, 0 while unconfirmed. now_us: when captured."""
        self._tracks = [t for t in self._tracks if now_us - t.seen_us <= self._max_age_us]
        owners: list[Track | None] = [None] * len(boxes)
        free = set(range(len(self._tracks)))
        for row, column in self._pairs(keys, boxes):
            if owners[row] is None and column in free:
                free.discard(column)
                owners[row] = track = self._tracks[column]
                track.hit(boxes[row], now_us)
        for column in free:
            self._tracks[column].misses += 1
        self._tracks = [track for track in self._tracks if track.identity or not track.misses]
        return [
            self._name(track or self._born(keys[row], boxes[row], now_us))
            for row, track in enumerate(owners)
        ]

    def reset(self) -> None:
        """Forgets every object; ids go on from where they were."""
        self._tracks.clear()

    def _pairs(self, keys: Sequence[str], boxes: Sequence[Box]) -> list[tuple[int, int]]:
        """(object, track) that may belong together, closest first."""
        if not boxes or not self._tracks:
            return []
        pairs = [
            (-shared, row, column)
            for shared, row, column in self._overlapping(boxes)
            if shared >= self._iou and self._tracks[column].key == keys[row]
        ]
        return [(row, column) for _, row, column in sorted(pairs)]

    def _overlapping(self, boxes: Sequence[Box]) -> Iterator[tuple[float, int, int]]:
        """(overlap, object, track) of at least all that overlap enough."""
        if len(boxes) * len(self._tracks) <= FEW_PAIRS:
            for row, box in enumerate(boxes):
                for column, track in enumerate(self._tracks):
                    yield overlap(box, track.box), row, column
            return
        known = np.asarray([track.box for track in self._tracks], np.float64)
        shared = overlaps(np.asarray(boxes, np.float64)[:, None, :], known)
        for row, column in np.argwhere(shared >= self._iou).tolist():
            yield float(shared[row, column]), row, column

    def _born(self, key: str, box: Box, now_us: int) -> Track | None:
        if len(self._tracks) >= self._max_tracks:
            return None  # stays without a track until one is free
        track = Track(key, box, now_us)
        self._tracks.append(track)
        return track

    def _name(self, track: Track | None) -> int:
        if track is None:
            return 0
        if not track.identity and track.hits >= CONFIRM_HITS:
            track.identity = self._next
            self._next += 1
        return track.identity
