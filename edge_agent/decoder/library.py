"""Finds, judges and binds the FFmpeg libraries of an OpenCV wheel. Used in the child alone."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from edge_agent.core.errors import Rejected
from edge_agent.decoder.layouts import BY_AVCODEC

MAX_LIBRARIES: Final = 64
PARTS: Final = ("avutil", "swresample", "swscale", "avcodec", "avformat")
NOT_OURS: Final = ("openblas", "gfortran", "quadmath", "Qt")  # large, and nothing here needs them
LOG_ERROR, LOG_WARNING = 16, 24
GAP: Final = b"Frame num gap"  # H.264 says so in a whisper when a picture is missing
AGAIN: Final = -11
END: Final = -541478725  # AVERROR_EOF
ERROR_BYTES: Final = 256

_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_BOXED = ctypes.POINTER(ctypes.c_void_p)
_LOG: Final = ctypes.CFUNCTYPE(None, _POINTER, _INT, _TEXT, _POINTER)
_SIGNATURES: Final[dict[str, dict[str, tuple[Any, tuple[Any, ...]]]]] = {
    "avutil": {
        "av_dict_set": (_INT, (_BOXED, _TEXT, _TEXT, _INT)),
        "av_dict_free": (None, (_BOXED,)),
        "av_strerror": (_INT, (_INT, _TEXT, ctypes.c_size_t)),
        "av_frame_alloc": (_POINTER, ()),
        "av_frame_unref": (None, (_POINTER,)),
        "av_frame_get_side_data": (_POINTER, (_POINTER, _INT)),
        "av_pix_fmt_desc_get": (_POINTER, (_INT,)),
        "av_get_pix_fmt": (_INT, (_TEXT,)),
        "av_log_set_callback": (None, (_LOG,)),
        "av_log_set_level": (None, (_INT,)),
    },
    "avcodec": {
        "av_packet_alloc": (_POINTER, ()),
        "av_packet_clone": (_POINTER, (_POINTER,)),
        "av_packet_free": (None, (_BOXED,)),
        "av_packet_unref": (None, (_POINTER,)),
        "avcodec_find_decoder": (_POINTER, (_INT,)),
        "avcodec_alloc_context3": (_POINTER, (_POINTER,)),
        "avcodec_parameters_to_context": (_INT, (_POINTER, _POINTER)),
        "avcodec_open2": (_INT, (_POINTER, _POINTER, _BOXED)),
        "avcodec_free_context": (None, (_BOXED,)),
        "avcodec_flush_buffers": (None, (_POINTER,)),
        "avcodec_send_packet": (_INT, (_POINTER, _POINTER)),
        "avcodec_receive_frame": (_INT, (_POINTER, _POINTER)),
    },
    "avformat": {
        "avformat_network_init": (_INT, ()),
        "avformat_open_input": (_INT, (_BOXED, _TEXT, _POINTER, _BOXED)),
        "avformat_find_stream_info": (_INT, (_POINTER, _POINTER)),
        "avformat_close_input": (None, (_BOXED,)),
        "av_find_input_format": (_POINTER, (_TEXT,)),
        "av_find_best_stream": (_INT, (_POINTER, _INT, _INT, _INT, _BOXED, _INT)),
        "av_read_frame": (_INT, (_POINTER, _POINTER)),
        "av_stream_get_side_data": (_POINTER, (_POINTER, _INT, ctypes.POINTER(ctypes.c_size_t))),
    },
    "swscale": {
        "sws_getCachedContext": (_POINTER, (_POINTER, *(_INT,) * 7, *(_POINTER,) * 3)),
        "sws_scale": (_INT, (_POINTER, _POINTER, _POINTER, _INT, _INT, _POINTER, _POINTER)),
        "sws_getCoefficients": (_POINTER, (_INT,)),
        "sws_setColorspaceDetails": (_INT, (_POINTER, _POINTER, _INT, _POINTER, *(_INT,) * 4)),
    },
}


class Library:
    """FFmpeg, bound. Each function of `_SIGNATURES` is an attribute; a struct is read by name."""

    def __init__(self, folder: Path) -> None:
        """Raises: Rejected with why these libraries are not used."""
        parts = _loaded(folder)
        self.version = _judged(parts)
        self.fields = BY_AVCODEC[int(self.version.split(".")[0])].of
        for part, functions in _SIGNATURES.items():
            for name, (result, arguments) in functions.items():
                setattr(self, name, _bound(parts[part], name, result, arguments))
        self._log: Any = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)  # only of what was never bound

    def listen(self, heard: Callable[[int, bytes], None]) -> None:
        """FFmpeg writes nothing itself; `heard` gets the level and the words before their numbers
        are put in. An address is among the numbers, never in the words.
        """

        def callback(_: int, level: int, words: bytes, __: int) -> None:
            if level <= LOG_WARNING or words.startswith(GAP):
                heard(level, words)

        self._log = _LOG(callback)  # kept: C holds it without a reference
        self.av_log_set_level(LOG_WARNING)
        self.av_log_set_callback(self._log)

    def int32(self, struct: str, at: int, field: str) -> int:
        return ctypes.c_int32.from_address(at + self.fields[struct][field]).value

    def int64(self, struct: str, at: int, field: str) -> int:
        return ctypes.c_int64.from_address(at + self.fields[struct][field]).value

    def byte(self, struct: str, at: int, field: str) -> int:
        return ctypes.c_uint8.from_address(at + self.fields[struct][field]).value

    def pointer(self, struct: str, at: int, field: str) -> int:
        """0 for NULL."""
        return ctypes.c_void_p.from_address(at + self.fields[struct][field]).value or 0

    def ratio(self, struct: str, at: int, field: str) -> tuple[int, int]:
        where = at + self.fields[struct][field]
        return ctypes.c_int32.from_address(where).value, ctypes.c_int32.from_address(
            where + 4
        ).value

    def text(self, struct: str, at: int, field: str) -> str:
        found = ctypes.c_char_p.from_address(at + self.fields[struct][field]).value
        return (found or b"").decode("ascii", "replace")[:64]

    def words(self, code: int) -> str:
        """What an error code means; it names no file and no address."""
        buffer = ctypes.create_string_buffer(ERROR_BYTES)
        self.av_strerror(code, buffer, ERROR_BYTES)
        return buffer.value.decode("utf-8", "replace")

    def options(self, settings: dict[str, str]) -> ctypes.c_void_p:
        """An AVDictionary, which the caller frees."""
        made = ctypes.c_void_p()
        for name, value in settings.items():
            self.av_dict_set(ctypes.byref(made), name.encode(), value.encode(), 0)
        return made


def _bound(part: ctypes.CDLL, name: str, result: Any, arguments: tuple[Any, ...]) -> Any:
    """Raises: Rejected."""
    try:
        function = getattr(part, name)
    except AttributeError:
        raise Rejected(f"FFmpeg of OpenCV: expected the function {name}, it has none") from None
    function.restype, function.argtypes = result, arguments
    return function


def _loaded(folder: Path) -> dict[str, ctypes.CDLL]:
    """The wheel renames its libraries, so that the loader finds each only once it is loaded: those
    whose own needs are met first, and so on.

    Raises: Rejected.
    """
    left = [
        path for path in sorted(folder.glob("*.so*")) if not any(w in path.name for w in NOT_OURS)
    ]
    found: dict[str, ctypes.CDLL] = {}
    for _ in range(MAX_LIBRARIES):
        before = len(left)
        for path in list(left)[:MAX_LIBRARIES]:
            with contextlib.suppress(OSError):
                found[path.name.split("-")[0].split(".")[0].removeprefix("lib")] = ctypes.CDLL(
                    str(path)
                )
                left.remove(path)
        if len(left) in (0, before):
            break
    missing = [part for part in PARTS if part not in found]
    if missing:
        raise Rejected(f"FFmpeg of OpenCV: it came without lib{missing[0]}, or that does not load")
    return found


def _judged(parts: dict[str, ctypes.CDLL]) -> str:
    """Its version. Raises: Rejected when the licence or a version is not one that is known."""
    for part in PARTS:
        licence = _bound(parts[part], f"{part}_license", _TEXT, ())() or b""
        if not licence.startswith(b"LGPL"):
            raise Rejected(
                f"FFmpeg of OpenCV: expected lib{part} under the LGPL, "
                f"got {licence[:40].decode('ascii', 'replace')!r}"
            )
    numbers = {part: _bound(parts[part], f"{part}_version", ctypes.c_uint, ())() for part in PARTS}
    majors = {part: number >> 16 for part, number in numbers.items()}
    known = BY_AVCODEC.get(majors["avcodec"])
    if known is None:
        raise Rejected(
            f"FFmpeg of OpenCV: expected libavcodec {', '.join(map(str, BY_AVCODEC))}, "
            f"got {majors['avcodec']}, whose structs are not known here"
        )
    for part in ("avformat", "avutil", "swscale"):
        if majors[part] != getattr(known, part):
            raise Rejected(
                f"FFmpeg of OpenCV: expected lib{part} {getattr(known, part)}, got {majors[part]}"
            )
    number = numbers["avcodec"]
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
