"""What the hot tier says, signed: JSON that stays JSON, and stays the same for who checks nothing.

    {...,"heard":"<nonce>","key":"<hex16>","sig":"<86 letters of base64url>"}

The signature speaks of the exact bytes in front of `,"sig"`, and of what they are (`ack`, `need`):
nothing is parsed or written anew before it is checked, and an ack is never taken for anything else.
`heard` is the newest question of that node which the receiver knew: it makes an old answer old.
"""

from __future__ import annotations

import base64
import re
from typing import Final

from edge_agent.core.errors import Untrusted
from edge_agent.core.wire.sealing import Signer, Verifier

MAX_COST_BYTES: Final = 195  # of a signed message, with the longest nonce
_CONTEXT: Final = "edge-agent down 1 {what}\n"
_TAIL: Final = re.compile(
    rb',"heard":"([0-9A-Za-z_-]{0,64})","key":"([0-9a-f]{16})","sig":"([0-9A-Za-z_-]{86})"\}\Z'
)
_TAIL_BYTES: Final = MAX_COST_BYTES + 1
_SIG_BYTES: Final = len(b',"sig":""}') + 86
_HINT: Final = "who answers? if the hot tier has new keys, put its new file at uplink.hot_tier_keys"


def sign(what: str, payload: bytes, signer: Signer, *, heard: str) -> bytes:
    """payload: a JSON object with fields. heard: the nonce of a probe, or ""."""
    if not payload.endswith(b"}") or payload[-2:] == b"{}":
        raise ValueError(f"sign {what}: expected a JSON object with fields")
    said = payload[:-1] + f',"heard":"{heard}","key":"{signer.id.hex()}"'.encode()
    signature = signer.sign(_message(what, said))
    return said + b',"sig":"' + _letters(signature) + b'"}'


def check(what: str, payload: bytes, verifier: Verifier) -> str:
    """The nonce that it was said after; "" when it names none.

    Raises: Untrusted.
    """
    tail = _TAIL.search(payload[-_TAIL_BYTES:])
    if tail is None:
        raise Untrusted(f"read down/{what}: expected it signed, got none", hint=_HINT)
    key, letters = bytes.fromhex(tail[2].decode()), tail[3]
    if key not in verifier.ids:
        raise Untrusted(
            f"read down/{what}: expected one of {len(verifier.ids)} pinned keys, got {key.hex()}",
            hint=_HINT,
        )
    signature = base64.urlsafe_b64decode(letters + b"==")
    is_one_spelling = _letters(signature) == letters
    if not is_one_spelling or not verifier.verify(
        key, signature, _message(what, payload[:-_SIG_BYTES])
    ):
        raise Untrusted(f"read down/{what}: expected a signature of these bytes, got another one",
                        hint="somebody changes or makes answers: check who reaches the Router and "
                        "the broker")  # fmt: skip
    return tail[1].decode()


def _letters(signature: bytes) -> bytes:
    return base64.urlsafe_b64encode(signature).rstrip(b"=")


def _message(what: str, said: bytes) -> bytes:
    return _CONTEXT.format(what=what).encode() + said
