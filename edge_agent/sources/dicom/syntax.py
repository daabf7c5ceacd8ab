"""Which transfer syntaxes can be read here, and the way out for the others."""

from __future__ import annotations

from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder

from edge_agent.core.errors import Rejected

DECODE = "decode it first (DCMTK: {tool} in.dcm out.dcm), or set the scanner to JPEG baseline"
RAW = "decode it first (GDCM: gdcmconv --raw in.dcm out.dcm), or set the scanner to JPEG baseline"
VIDEO = 'export the clip with JPEG baseline frames, or as a video file for a source of kind "video"'
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


def check(syntax: str, where: str) -> None:
    """Raises: Rejected."""
    if syntax and syntax != DEFLATED and _has_decoder(syntax):
        return
    got = name(syntax) if syntax else "a file that names no transfer syntax"
    raise Rejected(
        f"open {where}: expected uncompressed, RLE, JPEG baseline or JPEG 2000, got {got}",
        hint=hint(syntax),
    )


def has_no_pixels(sop_class: str, *, sized: bool) -> bool:
    """Whether an object of that class is no picture: a report, a document, a directory.

    sized: its header says how large a picture it holds.
    """
    kind = uid.UID(sop_class).name
    if any(word in kind for word in PICTURELESS):
        return True
    return not sized and kind != sop_class and not any(word in kind for word in PICTURED)


def is_encapsulated(syntax: str) -> bool:
    return bool(uid.UID(syntax).is_encapsulated)


def _has_decoder(syntax: str) -> bool:
    try:
        return bool(get_decoder(syntax).is_available)
    except (NotImplementedError, ValueError):  # unknown to pydicom; no transfer syntax at all
        return False
