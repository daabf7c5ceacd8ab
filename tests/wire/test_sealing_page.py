"""The section "Sealed and signed" of docs/wire.md, read by somebody who has only the page.

Nothing of the agent's own sealing and signing is used here.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")
SEALED, ACK = re.findall(r"```text\n(.*?)```", PAGE.partition("## Sealed and signed")[2], re.DOTALL)
EXAMPLE = re.findall(r"```hex\n(.*?)```", PAGE, re.DOTALL)[0]
PLAIN = bytes.fromhex("".join(line.split("#")[0] for line in EXAMPLE.splitlines()))
HEAD_BYTES = 31  # of the first example: all in front of ext_len
EXT_BYTES = 2 + 41 + 2 + 73


def private(first: int) -> bytes:
    return bytes(range(first, first + 32))


def test_the_sealed_example_opens_to_the_plain_one() -> None:
    given = bytes.fromhex("".join(SEALED.split()))
    head, ext_len, ext = given[:HEAD_BYTES], given[HEAD_BYTES], given[HEAD_BYTES + 1 :][:EXT_BYTES]
    assert head == PLAIN[:HEAD_BYTES]
    assert (ext_len, ext[:3], ext[43:46]) == (EXT_BYTES, b"\x02\x29\x01", b"\x04\x49\x01")
    ephemeral, sealed = ext[11:43], given[HEAD_BYTES + 1 + EXT_BYTES + 1 : -8]
    key = X25519PrivateKey.from_private_bytes(private(0))
    public = key.public_key().public_bytes_raw()
    shared = key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    info = b"edge-agent seal 1\n" + ephemeral + public
    derived = HKDF(SHA256(), 44, salt=None, info=info).derive(shared)
    body = ChaCha20Poly1305(derived[:32]).decrypt(derived[32:], sealed, head)
    assert body == PLAIN[HEAD_BYTES + 2 : -8]


def test_the_sealed_example_is_signed_by_the_node_it_names() -> None:
    given = bytes.fromhex("".join(SEALED.split()))
    at = HEAD_BYTES + 1 + EXT_BYTES - 64
    signature = given[at : at + 64]
    message = b"edge-agent envelope 1\n" + given[:at] + bytes(64) + given[at + 64 : -8]
    key = Ed25519PrivateKey.from_private_bytes(private(32)).public_key()
    key.verify(signature, message)
    with pytest.raises(InvalidSignature):
        key.verify(signature, message[:-1])


def test_the_signed_ack_of_the_page_is_json_and_signed() -> None:
    payload = ACK.strip().encode()
    said, _, letters = payload.partition(b',"sig":"')
    signature = base64.urlsafe_b64decode(letters[:86] + b"==")
    key = Ed25519PrivateKey.from_private_bytes(private(96)).public_key()
    key.verify(signature, b"edge-agent down 1 ack\n" + said)
    assert json.loads(payload)["heard"] == "q1"
