"""The keys of the road: X25519 and ChaCha20-Poly1305 to seal, Ed25519 to sign. Private ones lie in
PEM files of mode 0600 and are never shown.

An ephemeral key is made for each envelope, so that no nonce is ever used twice and nothing has to
be remembered: not over a restart, not by a clone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from edge_agent.config.structs import UplinkConfig
from edge_agent.core import public_keys
from edge_agent.core.errors import LinkDenied, Rejected
from edge_agent.core.public_keys import PublicKeys, key_id
from edge_agent.core.wire.outcome import WireError
from edge_agent.core.wire.sealing import Protection, RoadKeys
from edge_agent.held import open_plain

MAX_KEY_BYTES: Final = 16_384
MODE_OF_OTHERS: Final = 0o027  # its group may read it: so a cluster mounts a secret
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_INFO: Final = b"edge-agent seal 1\n"


class RoadSealer:
    """To the holder of one X25519 key. public: raw, 32 B. Thread-safe.

    Raises: Rejected for a point that nothing can be sealed to.
    """

    def __init__(self, public: bytes) -> None:
        self._public, self._there = public, X25519PublicKey.from_public_bytes(public)
        self.id = key_id(public)
        try:
            X25519PrivateKey.generate().exchange(self._there)
        except ValueError:
            raise Rejected("read public key: expected an X25519 key, got none") from None

    def seal(self, plain: bytes, head: bytes) -> tuple[bytes, bytes]:
        once = X25519PrivateKey.generate()
        ephemeral = once.public_key().public_bytes_raw()
        key, nonce = _derived(once.exchange(self._there), ephemeral, self._public)
        return ephemeral, ChaCha20Poly1305(key).encrypt(nonce, plain, head)


class RoadOpener:
    """With any of these keys, newest first. Thread-safe."""

    def __init__(self, keys: Sequence[X25519PrivateKey]) -> None:
        publics = [key.public_key().public_bytes_raw() for key in keys]
        self.ids = tuple(map(key_id, publics))
        self._keys = {key_id(p): (key, p) for key, p in zip(keys, publics, strict=True)}

    def open(self, key: bytes, ephemeral: bytes, sealed: bytes, head: bytes) -> bytes:
        private, public = self._keys[key]
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            secret, nonce = _derived(shared, ephemeral, public)
            return ChaCha20Poly1305(secret).decrypt(nonce, sealed, head)
        except (InvalidTag, ValueError):
            what = "open seal: expected a body sealed for this head, got another"
            raise WireError(what) from None


class RoadSigner:
    """One Ed25519 key. Thread-safe."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        self.id = key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


class RoadVerifier:
    """publics: raw Ed25519 keys, 32 B each, newest first. Thread-safe.

    Raises: Rejected for one that is no point of the curve.
    """

    def __init__(self, publics: Sequence[bytes]) -> None:
        self.ids = tuple(map(key_id, publics))
        try:
            self._keys = {key_id(p): Ed25519PublicKey.from_public_bytes(p) for p in publics}
        except ValueError:
            raise Rejected("read public key: expected an Ed25519 key, got none") from None

    def verify(self, key: bytes, signature: bytes, message: bytes) -> bool:
        if key not in self._keys:
            return False
        try:
            self._keys[key].verify(signature, message)
        except InvalidSignature:
            return False
        return True


def _derived(shared: bytes, ephemeral: bytes, public: bytes) -> tuple[bytes, bytes]:
    """Key and nonce, bound to both ends."""
    info = _INFO + ephemeral + public
    found = HKDF(SHA256(), KEY_BYTES + NONCE_BYTES, salt=None, info=info).derive(shared)
    return found[:KEY_BYTES], found[KEY_BYTES:]


# ── private keys in files ─────────────────────────────────────────────────────────────────────


def new_signing() -> bytes:
    """A new Ed25519 key, as a file of it holds it."""
    return pem(Ed25519PrivateKey.generate())


def new_sealing() -> bytes:
    """A new X25519 key, as a file of it holds it."""
    return pem(X25519PrivateKey.generate())


def pem(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    """What a file of a private key holds."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_signing(path: Path) -> RoadSigner:
    """Raises: Rejected, naming the file, never what is in it; FileNotFoundError."""
    key = _private(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad(path, "an Ed25519 key", "another kind of key")
    return RoadSigner(key)


def read_sealing(path: Path) -> X25519PrivateKey:
    """Raises: Rejected, naming the file, never what is in it; FileNotFoundError."""
    key = _private(path)
    if not isinstance(key, X25519PrivateKey):
        raise _bad(path, "an X25519 key", "another kind of key")
    return key


def _private(path: Path) -> object:
    try:
        mode = path.stat().st_mode
        with open_plain(path) as file:
            content = file.read(MAX_KEY_BYTES)
    except FileNotFoundError:
        raise
    except OSError as error:
        words = error.strerror or "an error"
        raise Rejected(f"read {path.name}: {words}", hint="readable by its owner?") from None
    if mode & MODE_OF_OTHERS:
        raise Rejected(
            f"read {path.name}: expected it hidden from others, they may use it",
            hint=f"chmod 600 {path.name}; if others did read it, replace the key",
        )
    try:
        return load_pem_private_key(content, None)
    except (ValueError, TypeError):  # UnsupportedAlgorithm never for what we wrote
        raise _bad(path, "a private key as PEM", "something else") from None


def _bad(path: Path, expected: str, got: str) -> Rejected:
    return Rejected(
        f"read {path.name}: expected {expected}, got {got}",
        hint="restore it from a backup; or move it away: a new one is made, to be enrolled anew",
    )


# ── the edge's own ────────────────────────────────────────────────────────────────────────────

NODE_KEY: Final = "uplink.key"  # in state_dir


def read_keys(config: UplinkConfig, node_key: Path) -> RoadKeys:
    """What `[uplink]` asks for, out of its files; they are read anew at each connection. Blocks.

    node_key: of this node; there already when `sign` is on. Raises: LinkDenied naming the file.
    """
    try:
        pinned = read_pinned(config)
        sealer = RoadSealer(pinned.seal[0]) if config.seal else None
        signer = read_signing(node_key) if config.sign else None
        verifier = RoadVerifier(pinned.sign) if config.hot_tier_keys is not None else None
    except FileNotFoundError:
        what = f"read {node_key.name}: it is not there"
        raise LinkDenied(what, hint="edge-agent uplink key makes it, to be enrolled") from None
    except Rejected as error:
        raise LinkDenied(error.what, hint=error.hint) from None
    return RoadKeys(Protection(sealer, signer), verifier)


def read_pinned(config: UplinkConfig) -> PublicKeys:
    """The file at `hot_tier_keys`, with at least the keys that the configuration needs. Blocks.

    Raises: Rejected.
    """
    if config.hot_tier_keys is None:
        if config.seal:
            raise Rejected("read uplink.hot_tier_keys: expected a file, got none", hint=PIN_HINT)
        return PublicKeys()
    try:
        with open_plain(Path(config.hot_tier_keys)) as file:
            content = file.read(public_keys.MAX_FILE_BYTES + 1)
    except OSError as error:
        words = error.strerror or "an error"
        raise Rejected(f"read uplink.hot_tier_keys: {words}", hint=PIN_HINT) from None
    found = public_keys.read(content, "uplink.hot_tier_keys")
    if not found.sign:
        raise Rejected("read uplink.hot_tier_keys: expected a key to sign, got none", hint=PIN_HINT)
    if config.seal and not found.seal:
        raise Rejected("read uplink.hot_tier_keys: expected a key to seal, got none", hint=PIN_HINT)
    RoadVerifier(found.sign)
    return found


PIN_HINT: Final = "the hot tier's hot-tier.pub belongs there, readable by the agent's user"
