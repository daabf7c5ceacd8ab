"""Which transfer syntaxes can be read here, and the way out for the others."""

from __future__ import annotations

from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

from edge_agent.core.errors import Rejected

DECODE = "decode it first (DCMTK: {tool} in.dcm out.dcm), or set the scanner to JPEG baseline"
RAW = "decode it first (GDCM: gdcmconv --raw in.dcm out.dcm), or set the scanner to JPEG baseline"
VIDEO = (
    'export the clip as a video file (MP4, MPEG-TS) for a source of kind "video", or with JPEG '
    "baseline frames"
)
MPEG2 = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("100", "100.1", "101", "101.1"))
H264 = tuple(f"1.2.840.10008.1.2.4.{end}{part}" for end in range(102, 107) for part in ("", ".1"))
HEVC = tuple(f"1.2.840.10008.1.2.4.{end}" for end in ("107", "108"))
CODECS = {  # by the decoder of their bit stream
    **dict.fromkeys(MPEG2, "mpeg2video"),
    **dict.fromkeys(H264, "h264"),
    **dict.fromkeys(HEVC, "hevc"),
}
HINTS = (
    ("1.2.840.10008.1.2.1.99", DECODE.format(tool="dcmconv +te")),
    ("1.2.840.10008.1.2.4.5", DECODE.format(tool="dcmdjpeg")),
    ("1.2.840.10008.1.2.4.6", DECODE.format(tool="dcmdjpeg")),
    ("1.2.840.10008.1.2.4.70", DECODE.format(tool="dcmdjpeg")),
    ("1.2.840.10008.1.2.4.8", DECODE.format(tool="dcmdjpls")),
    ("1.2.840.10008.1.2.4.10", VIDEO),
)
PICTURELESS = (
    "Encapsulated",
    "SR Storage",
    "Directory",
    "Document",
    "Presentation State",
    "Waveform",
)
PICTURED = ("Image", "Volume", "Segmentation", "Map", "Dose")
JPEG, JPEG_2000, RLE = "JPEG", "JPEG 2000", "RLE"
JPEG_SYNTAXES = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit)
JPEG_2000_SYNTAXES = (uid.JPEG2000Lossless, uid.JPEG2000)
DEFLATED = str(uid.DeflatedExplicitVRLittleEndian)  # its size says nothing of what it inflates to


def name(syntax: str) -> str:
    """Name and UID as registered; an unregistered text is never repeated, it may be anything."""
    registered = uid.UID(syntax).name
    if registered == syntax:
        return "an unregistered transfer syntax"
    return f"{registered} ({syntax})"


def hint(syntax: str) -> str:
    return next((words for start, words in HINTS if syntax.startswith(start)), RAW)


def hint_for_damaged(syntax: str) -> str:
    """Pixels that don't decode though their syntax is known: JPEG of 12 bits, or broken ones."""
    again = "copy the file again from where it came from"
    return f"{again}; if that does not help, {hint(syntax)}" if is_encapsulated(syntax) else again


def is_video(syntax: str) -> bool:
    """Whether all frames are one bit stream of MPEG-2, H.264 or HEVC."""
    return syntax in CODECS


def check(syntax: str, where: str, *, is_video: bool = False) -> None:
    """is_video: where a bit stream is read, else images are. Raises: Rejected."""
    if syntax in CODECS if is_video else syntax and syntax != DEFLATED and _has_decoder(syntax):
        return
    got = name(syntax) if syntax else "a file that names no transfer syntax"
    raise Rejected(
        f"open {where}: expected uncompressed, RLE, JPEG baseline, JPEG 2000, MPEG-2, H.264 or "
        f"HEVC, got {got}",
        hint=hint(syntax) if syntax else "copy the file again from where it came from",
    )


def has_no_pixels(sop_class: str, *, sized: bool) -> bool:
    """Whether an object of that class is no picture: a report, a document, a directory.

    sized: its header says how large a picture it holds.
    """
    kind = uid.UID(sop_class).name
    if any(word in kind for word in PICTURELESS):
        return True
    return not sized and kind != sop_class and not any(word in kind for word in PICTURED)


def coding(syntax: str) -> str:
    """JPEG, JPEG_2000 or RLE, of those that can be read; "" for uncompressed pixels."""
    if syntax in JPEG_SYNTAXES:
        return JPEG
    if syntax in JPEG_2000_SYNTAXES:
        return JPEG_2000
    return RLE if syntax == uid.RLELossless else ""


def is_encapsulated(syntax: str) -> bool:
    return bool(uid.UID(syntax).is_encapsulated)


def _has_decoder(syntax: str) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except (NotImplementedError, ValueError):  # unknown to pydicom; no transfer syntax at all
        return False
