"""Asking an RTSP server who it is: requests, answers, and what an answer means. Pure.

As much of RFC 2326 as it takes to tell why no video came; the decoder speaks the rest.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

PORTS: Final = {"rtsp": 554, "rtsps": 322}
MAX_REPLY_BYTES: Final = 64 << 10
AGENT: Final = "edge-agent"

Method = Literal["OPTIONS", "DESCRIBE"]

_ADDRESS: Final = re.compile(r"(rtsps?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_STATUS: Final = re.compile(rb"RTSP/[0-9]\.[0-9] ([0-9]{3})(?: |\r|\n|$)")
_PAIRS: Final = re.compile(r'([A-Za-z-]+)\s*=\s*(?:"([^"]*)"|([^\s,]+))')
_HASHES: Final = {"md5": "md5", "sha-256": "sha256"}


class Address(NamedTuple):
    """of: what is asked for, without user and password; those never go into a message."""

    host: str
    port: int
    of: str
    user: str
    password: str
    is_tls: bool

    @property
    def has_login(self) -> bool:
        return bool(self.user or self.password)


class Reply(NamedTuple):
    """challenge: WWW-Authenticate headers, with and without quality, in their order."""

    status: int
    challenges: tuple[str, ...]
    body: bytes


_PORT = re.compile(r"rtsps?://(?:[^/@]*@)?[^/@:]+:(\d{1,9})(?:/|$)", re.IGNORECASE)


def address(url: str) -> Address | None:
    """None for what is no address of RTSP, or none that a host can be read from."""
    found = _ADDRESS.fullmatch(url)
    if found is None:
        return None
    scheme, (login, _, authority) = found[1].lower(), found[2].rpartition("@")
    place = _AUTHORITY.fullmatch(authority)
    port = int(place[2]) if place and place[2] else PORTS[scheme]
    if place is None or not 0 < port < 1 << 16 or not url.isprintable():
        return None
    user, _, password = login.partition(":")
    return Address(
        host=place[1].strip("[]"),
        port=port,
        of=f"{found[1]}://{authority}{found[3]}".replace(" ", "%20"),
        user=unquote(user),
        password=unquote(password),
        is_tls=scheme == "rtsps",
    )


def has_wrong_port(url: str) -> bool:
    """Whether it names a port that none can be."""
    found = _PORT.match(url)
    return found is not None and not 0 < int(found[1]) < 1 << 16


def request(method: Method, of: str, sequence: int, authorization: str = "") -> bytes:
    """authorization: the value of an Authorization header."""
    lines = [f"{method} {of} RTSP/1.0", f"CSeq: {sequence}", f"User-Agent: {AGENT}"]
    if method == "DESCRIBE":
        lines.append("Accept: application/sdp")
    if authorization:
        lines.append(f"Authorization: {authorization}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")


def is_whole(got: bytes) -> bool:
    """Whether nothing more has to come before an answer can be judged."""
    if len(got) >= MAX_REPLY_BYTES or not b"RTSP/".startswith(got[:5]):
        return True
    head, end, body = got.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _headers(head).get("content-length", ["0"])[0]
    return not length.isdecimal() or len(body) >= min(int(length), MAX_REPLY_BYTES)


def reply(got: bytes) -> Reply | None:
    """None for what is no answer of RTSP."""
    found = _STATUS.match(got)
    if found is None:
        return None
    head, _, body = got.partition(b"\r\n\r\n")
    return Reply(int(found[1]), tuple(_headers(head).get("www-authenticate", ())), body)


def _headers(head: bytes) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    return found


def not_rtsp(got: bytes) -> str:
    """Of an answer that is none, in words."""
    if got.startswith(b"HTTP/"):
        return "a web server answers there, not RTSP"
    return "what answers there is no RTSP" if got else "it hangs up without an answer"


def login(challenges: tuple[str, ...], where: Address, nonce: str) -> str:
    """The Authorization header for a DESCRIBE, the strongest that is asked for and known here; ""
    for none. By Basic where a decoder does the same: it has sent it just before. nonce: 16 hex
    digits of our own.
    """
    for challenge in sorted(challenges, key=lambda one: "sha-256" not in one.lower()):
        kind, _, rest = challenge.partition(" ")
        said = {name.lower(): quoted or bare for name, quoted, bare in _PAIRS.findall(rest)}
        name = _HASHES.get(said.get("algorithm", "MD5").lower())
        if kind.lower() == "digest" and name is not None and "nonce" in said:
            return _digest(said, where, nonce, name)
    if any(challenge.partition(" ")[0].lower() == "basic" for challenge in challenges):
        pair = f"{where.user}:{where.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"
    return ""


def _digest(said: Mapping[str, str], where: Address, ours: str, name: str) -> str:
    def summed(text: str) -> str:
        return hashlib.new(name, text.encode(), usedforsecurity=False).hexdigest()

    realm, theirs = said.get("realm", ""), said["nonce"]
    secret = summed(f"{where.user}:{realm}:{where.password}")
    what = summed(f"DESCRIBE:{where.of}")
    parts = {"username": where.user, "realm": realm, "nonce": theirs, "uri": where.of}
    bare = {key: said[key] for key in ("algorithm",) if key in said}
    if "auth" in [word.strip() for word in said.get("qop", "").lower().split(",")]:
        parts |= {"response": summed(f"{secret}:{theirs}:00000001:{ours}:auth:{what}")}
        parts |= {"cnonce": ours}
        bare |= {"qop": "auth", "nc": "00000001"}
    else:
        parts |= {"response": summed(f"{secret}:{theirs}:{what}")}
    if "opaque" in said:
        parts["opaque"] = said["opaque"]
    quoted = [f'{key}="{_escaped(value)}"' for key, value in parts.items()]
    return "Digest " + ", ".join([*quoted, *(f"{key}={value}" for key, value in bare.items())])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "")


LOGIN_HINT: Final = "correct the user in source.where, or the password in its password_file"
PATH_HINT: Final = "correct the path in source.where (the camera's page tells its RTSP address)"
VIDEO_HINT: Final = (
    "restart the camera; set it to H.264 or MJPEG; source.transport = the other of tcp and udp"
)
BUSY_HINT: Final = "look who else watches it, or allow more viewers in the camera"
_STATUSES: Final = {
    403: ("it refuses us (403)", "allow this device in the camera"),
    404: ("it knows no stream of this path (404)", PATH_HINT),
    453: ("it has no bandwidth left for one more viewer (453)", BUSY_HINT),
    454: ("it knows no stream of this path (454)", PATH_HINT),
    461: ("it can't do this transport (461)", "source.transport = the other of tcp and udp"),
    503: ("it is busy (503)", BUSY_HINT),
}


def described(answer: Reply, *, tried: bool, has_login: bool) -> tuple[str, str]:
    """What a DESCRIBE's answer says of a stream that gave no video: words, and what to do. tried:
    our login went with it.
    """
    status = answer.status
    if status in _STATUSES:
        return _STATUSES[status]
    if status == 401:
        return _of_login(tried=tried, has_login=has_login), LOGIN_HINT
    if status >= 400:
        return f"it answers with an error ({status})", PATH_HINT
    if 300 <= status < 400:
        return f"it sends us to another address ({status})", PATH_HINT
    if answer.body and b"m=video" not in answer.body:
        return "it describes a stream without video", PATH_HINT
    return "it describes its video, and none came that can be decoded", VIDEO_HINT


def _of_login(*, tried: bool, has_login: bool) -> str:
    if tried:
        return "the user or the password is wrong (401)"
    if has_login:
        return "it asks for a password, and the one that is configured was not taken (401)"
    return "it asks for a user and a password (401), and none is configured"
