"""A file of public keys: what the other side is known by. Pure.

    # anything
    sign <base64 of an Ed25519 key>
    seal <base64 of an X25519 key>

The newest first. A key is named by the first 8 bytes of the SHA-256 of its 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final, Literal, NamedTuple

from edge_agent.core.errors import Rejected

MAX_FILE_BYTES: Final = 16_384
MAX_KEYS: Final = 16  # of each use
KEY_BYTES: Final = 32
ID_BYTES: Final = 8
Use = Literal["sign", "seal"]
_USES: Final[tuple[Use, ...]] = ("sign", "seal")


class PublicKeys(NamedTuple):
    """Raw, 32 B each, newest first."""

    sign: tuple[bytes, ...] = ()
    seal: tuple[bytes, ...] = ()


def key_id(public: bytes) -> bytes:
    """The 8 bytes that name a key on the wire."""
    return hashlib.sha256(public).digest()[:ID_BYTES]


def fingerprint(public: bytes) -> str:
    """To be read aloud: all of its SHA-256, in fours."""
    digest = hashlib.sha256(public).hexdigest()
    return " ".join(digest[at : at + 4] for at in range(0, len(digest), 4))


def line(use: Use, public: bytes) -> str:
    return f"{use} {base64.b64encode(public).decode()}"


def write(keys: PublicKeys, title: str) -> bytes:
    lines = [f"# {title}; newest first"]
    lines += [line(use, public) for use in _USES for public in getattr(keys, use)]
    return "".join(f"{one}\n" for one in lines).encode()


def read(content: bytes, what: str) -> PublicKeys:
    """what: the file as the operator knows it, for messages.

    Raises: Rejected.
    """
    found: dict[Use, list[bytes]] = {"sign": [], "seal": []}
    for number, given in enumerate(_lines(content, what), 1):
        text = given.strip()
        if not text or text.startswith("#"):
            continue
        use, public = _key(text, f"{what}, line {number}")
        if public not in found[use]:
            found[use].append(public)
    if any(len(keys) > MAX_KEYS for keys in found.values()):
        raise Rejected(f"read {what}: expected at most {MAX_KEYS} keys of each use, got more",
                       hint="take the old ones out")  # fmt: skip
    if not any(found.values()):
        raise Rejected(f"read {what}: expected public keys, got none", hint=_WRITTEN_BY)
    return PublicKeys(tuple(found["sign"]), tuple(found["seal"]))


_WRITTEN_BY: Final = "expected lines `sign <base64>` and `seal <base64>`, copied whole"


def _lines(content: bytes, what: str) -> list[str]:
    if len(content) > MAX_FILE_BYTES:
        raise Rejected(f"read {what}: expected at most {MAX_FILE_BYTES} bytes, got more",
                       hint=_WRITTEN_BY)  # fmt: skip
    if b"PRIVATE KEY" in content:
        hint = "name the .pub file; and replace that key, if it left its machine"
        raise Rejected(f"read {what}: expected public keys, got a private one", hint=hint)
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        raise Rejected(f"read {what}: expected text, got bytes", hint=_WRITTEN_BY) from None


def _key(text: str, where: str) -> tuple[Use, bytes]:
    words = text.split()
    use = next((one for one in _USES if words[0] == one), None)
    if use is None or len(words) != 2:
        raise Rejected(f"read {where}: expected `sign` or `seal` and a key, got {len(words)} words",
                       hint=_WRITTEN_BY)  # fmt: skip
    try:
        public = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        public = b""
    if len(public) != KEY_BYTES:
        raise Rejected(f"read {where}: expected {KEY_BYTES} bytes of base64, got something else",
                       hint=_WRITTEN_BY)  # fmt: skip
    return use, public
