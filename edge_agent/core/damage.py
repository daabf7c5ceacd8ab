"""Which frames of a coded video are built on damage.

A packet that is damaged or missing spoils its own frame, and every frame that is predicted from it,
which no decoder marks: it conceals. So from the damage on nothing is shown until a sound key frame.
Frames leave a decoder in the order of display; those that lead a key frame and lean on what was
before it come out before it, and stay untold.
"""

from __future__ import annotations

MAX_DAMAGES = 256


class Chain:
    """Packets are numbered as they are fed; each frame carries the number of its packet.

    intra: every frame stands by itself (MJPEG, DV): damage costs one frame.
    """

    def __init__(self, *, intra: bool) -> None:
        self._intra = intra
        self._damaged: list[int] = []

    @property
    def is_sound(self) -> bool:
        return not self._damaged

    def damage(self, packet: int) -> None:
        """Packet number `packet`, or one just before it, is damaged or missing."""
        if packet not in self._damaged:
            self._damaged.append(packet)
        del self._damaged[:-MAX_DAMAGES]

    def shows(self, packet: int, *, key: bool) -> bool:
        """Whether the frame of this packet, next in the order of display, may be shown."""
        if self._intra:
            sound = packet not in self._damaged
            self._damaged = [number for number in self._damaged if number > packet]
            return sound
        if key and packet not in self._damaged:
            self._damaged = [number for number in self._damaged if number > packet]
        return not any(number <= packet for number in self._damaged)

    def forget(self) -> None:
        """The decoder was emptied: from here on it waits for a key frame itself."""
        self._damaged.clear()
