"""How a place is spoken of outside this device, and in its log: never by path, user or query.

A folder or a recording may be named after a patient, an address may hold a password. The operator
knows both from the configuration; everybody else is told scheme and host at most. A source's own
messages, and so the log, have the scheme alone. Pure.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

UNTOLD: Final = "***"
PATH: Final = "(path)"
MAX_URL_CHARS = 8192  # of one word that is looked through

_NETWORK: Final = frozenset(
    ["rtsp", "rtsps", "rtspt", "rtspu", "rtmp", "rtmps", "http", "https", "udp", "tcp", "tls",
     "rtp", "srt", "mms", "mmsh", "mmst", "ftp", "sftp", "rist", "ws", "wss"]
)  # fmt: skip
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://(.*)", re.DOTALL)
_HOST: Final = re.compile(r"([\w.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}(?:%\w{1,16})?\])(:[0-9]{1,5})?")
_CAMERA: Final = re.compile(r"/dev/video[0-9]{1,3}")
_FILE_URL: Final = re.compile(r"\bfile:[^\s'\"]+", re.IGNORECASE)
_ANY_URL: Final = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,31})://([^\s'\"<>]{1,8192})")
_SYSTEM: Final = re.compile(r"(\[Errno -?[0-9]{1,5}\] [^:\n]{1,200}): [^\n]*")
_QUOTED: Final = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")
_LOCAL_FILE: Final = re.compile(r"file:(?://(?:localhost)?)?(/(?!/).*)", re.IGNORECASE | re.DOTALL)
_ABSOLUTE: Final = re.compile(r"(?<![\w:/.])(?:~?/[^\s/:'\",]+){1,64}/?")


def reduced(where: str, word: str) -> str:
    """A source's address: scheme and host, the number of a camera, or `word`.

    An address that can be read in two ways, as one whose password has a slash, keeps its host too.
    """
    if where.startswith("/dev/"):
        return where if _CAMERA.fullmatch(where) else "camera"
    found = _URL.fullmatch(where)
    if found is None or found[1].lower() not in _NETWORK:
        return word
    return f"{found[1].lower()}://{_host(found[2])[0]}"


def in_words(where: str, word: str) -> str:
    """A source's address in a message: `rtsp stream`, the number of a camera, or `word`."""
    told = reduced(where, word)
    scheme, slashes, _ = told.partition("://")
    return f"{scheme} stream" if slashes else told


def local_path(where: str) -> str:
    """The path that a `file:` address of this machine names, anything else as it is."""
    found = _LOCAL_FILE.fullmatch(where)
    return where if found is None else unquote(found[1], errors="surrogateescape")


def without_addresses(text: str) -> str:
    """Any text, its addresses cut down to scheme, host and port, and without the files that an
    error of the system names. Other paths stay.
    """
    text = _FILE_URL.sub(f"file:{PATH}", text)
    return _SYSTEM.sub(r"\1", _ANY_URL.sub(_short, text))


def without_places(text: str) -> str:
    """The same, and without a path: what has a slash in quotes, and what begins with one."""
    return _ABSOLUTE.sub(PATH, _QUOTED.sub(_unquoted, without_addresses(text)))


def _unquoted(found: re.Match[str]) -> str:
    return PATH if "/" in found[0] or "\\" in found[0] else found[0]


def _short(found: re.Match[str]) -> str:
    tail = found[2].rstrip(".,:;)!?")
    host, port = _host(tail)
    return f"{found[1]}://{host}{port}{found[2][len(tail) :]}"


def _host(tail: str) -> tuple[str, str]:
    """Host and `:port` of what stands behind `//`; UNTOLD where it could be something else."""
    authority = re.split(r"[/?#\\]", tail, maxsplit=1)[0]
    rest = tail[len(authority) :]
    found = _HOST.fullmatch(authority.rpartition("@")[2])
    if found is None or "@" in rest:
        return UNTOLD, ""
    return found[1], found[2] or ""
