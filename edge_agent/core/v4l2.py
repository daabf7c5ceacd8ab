"""What a V4L2 device node answers, and what is said of one that is no camera. Pure.

The numbers and layouts are those of the kernel's `videodev2.h`, on machines of 64 bits.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MAJOR: Final = 81  # of every node of video4linux, and of nothing else
QUERYCAP: Final = 0x80685600
G_FMT: Final = 0xC0D05604
REQBUFS: Final = 0xC0145608
CAPABILITY_BYTES: Final = 104
FORMAT_BYTES: Final = 208

CAPTURE, CAPTURE_MPLANE = 0x1, 0x1000
CODEC: Final = 0x8000 | 0x4000  # memory to memory, single plane and multi-plane
OUTPUT: Final = 0x2 | 0x2000
METADATA: Final = 0x00800000 | 0x08000000
SOUND_AND_TEXT: Final = 0x10 | 0x40 | 0x10000  # VBI, sliced VBI, tuner without video
HAS_DEVICE_CAPS: Final = 0x80000000
BUFFER_CAPTURE, BUFFER_CAPTURE_MPLANE = 1, 9
MEMORY_MMAP: Final = 1

FIELDS: Final = {
    2: "top fields alone",
    3: "bottom fields alone",
    4: "interlaced",
    5: "interlaced, the fields one above the other",
    6: "interlaced, the fields one above the other",
    7: "interlaced, one field at a time",
    8: "interlaced, top field first",
    9: "interlaced, bottom field first",
}
MAX_NAMES: Final = 8
MAX_NAME_CHARS: Final = 96
# What udev makes of a device's own words; whatever else lies there, somebody else has named.
_NAME: Final = re.compile(r"(?:usb|pci|platform)-[\w.:+#-]{1,200}-video-index[0-9]{1,3}")
_NODE: Final = re.compile(r"/dev/video[0-9]{1,3}")
_HEAD: Final = struct.Struct("=16s32s32sIII")
_FORMAT: Final = struct.Struct("=I4xIIII")


class Capability(NamedTuple):
    """driver, card: words of the driver. caps: bits of this very node, not of the whole device."""

    driver: str
    card: str
    caps: int

    @property
    def is_camera(self) -> bool:
        """Whether pictures come out of it: a codec takes pictures too, and is none."""
        return bool(self.caps & (CAPTURE | CAPTURE_MPLANE)) and not self.caps & CODEC

    @property
    def kind(self) -> str:
        """What it is, where it is no camera."""
        for bits, words in _KINDS:
            if self.caps & bits:
                return words
        return "a video device that captures nothing"


_KINDS: Final = (
    (CODEC, "a video codec"),
    (METADATA, "the metadata of a camera, not its pictures"),
    (OUTPUT, "a video output"),
    (SOUND_AND_TEXT, "teletext or a tuner"),
)


def capability(answer: bytes) -> Capability:
    """Of VIDIOC_QUERYCAP. Raises: ValueError when it is too short."""
    if len(answer) < _HEAD.size:
        raise ValueError(f"a capability of {len(answer)} bytes")
    driver, card, _bus, _version, whole, own = _HEAD.unpack_from(answer)
    return Capability(_text(driver), _text(card), own if whole & HAS_DEVICE_CAPS else whole)


def format_question(caps: int) -> bytes:
    """For VIDIOC_G_FMT."""
    return _kind_of(caps).to_bytes(4, "little").ljust(FORMAT_BYTES, b"\0")


def release_question(caps: int) -> bytes:
    """For VIDIOC_REQBUFS with no buffers: changes nothing; refused while somebody streams."""
    return struct.pack("=III", 0, _kind_of(caps), MEMORY_MMAP).ljust(20, b"\0")


def fields(answer: bytes) -> str:
    """The order of fields of VIDIOC_G_FMT's answer; "" for whole pictures, or when it says none."""
    if len(answer) < _FORMAT.size:
        return ""
    kind, _width, _height, _fourcc, order = _FORMAT.unpack_from(answer)
    return FIELDS.get(order, "") if kind in (BUFFER_CAPTURE, BUFFER_CAPTURE_MPLANE) else ""


def _kind_of(caps: int) -> int:
    return BUFFER_CAPTURE if caps & CAPTURE else BUFFER_CAPTURE_MPLANE


def _text(raw: bytes) -> str:
    text = raw.split(b"\0", 1)[0].decode("ascii", "replace")
    return "".join(sign if sign.isprintable() else "?" for sign in text).strip()


def is_numbered(path: str) -> bool:
    """`/dev/video0`: which camera that is depends on the order in which they were found."""
    return _NODE.fullmatch(path) is not None


def names(found: Iterable[str]) -> list[str]:
    """Of /dev/v4l/by-id or by-path, those of pictures that udev made itself, sorted."""
    return sorted(name for name in found if _NAME.fullmatch(name) and name.endswith("-index0"))


def listed(there: Sequence[str], cameras: Sequence[str]) -> str:
    """What there is instead of a camera that is not. there: by-id names; cameras: /dev/videoN."""
    if there:
        shown = [name[:MAX_NAME_CHARS] for name in there[:MAX_NAMES]]
        more = f" and {len(there) - MAX_NAMES} more" if len(there) > MAX_NAMES else ""
        return f"in /dev/v4l/by-id there are: {', '.join(shown)}{more}"
    if cameras:
        return f"there are: {', '.join(cameras[:MAX_NAMES])}"
    return "no camera is plugged in"


def permission(group: str, mode: int, user: str) -> str:
    """How a user gets at a node that belongs to `group` (a name or a number)."""
    if mode & 0o060 == 0o060 and group not in ("root", "0"):
        return f"add the service's user to group {group} (usermod -aG {group} {user}), restart it"
    return f"its group {group} may not use it either: a udev rule that makes it group video, 0660"
