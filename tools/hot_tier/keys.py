"""The keys of the repository: Ed25519, one PEM file each, mode 0600, in one folder.

    root-1.pem root-2.pem root-3.pem     two of them sign a root; they belong off the machine
    targets.pem                          says who may sign for which family and cohort; offline too
    snapshot.pem timestamp.pem           online: they say what is the newest
    models-<name>.pem desired-<cohort>.pem nodes.pem configs.pem     the delegates

A key that is not there is no error until something has to be signed with it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from edge_agent.core.errors import ConfigError, Rejected
from edge_agent.stores.files import read_bounded, sync_folder, write_atomic

MAX_KEY_BYTES = 16_384


class Keys:
    """folder: made with mode 0700 when it is not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def make(self, name: str) -> CryptoSigner:
        """A new key. Raises: Rejected when there is one of that name."""
        path = self._path(name)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            raise Rejected(f"make key {path.name}: there is one already", hint="rotate it instead")
        signer = CryptoSigner.generate_ed25519()
        write_atomic(path, signer.private_bytes, mode=0o600)
        return signer

    def signer(self, name: str) -> CryptoSigner:
        """Raises: Rejected when it is away or damaged; ConfigError when others may read it."""
        path = self._path(name)
        try:
            if path.stat().st_mode & 0o077:
                hint = f"chmod 600 {path.name}"
                raise ConfigError("--keys", f"{path.name} may be read by others", hint=hint)
            key = load_pem_private_key(read_bounded(path, MAX_KEY_BYTES), None)
            return CryptoSigner(key)
        except FileNotFoundError:
            raise Rejected(
                f"sign: key {path.name} is not in {self.folder}",
                hint="bring the medium on which it is kept, or give its folder with --keys",
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise Rejected(f"read key {path.name}: {error}", hint="restore it") from None

    def successor(self, name: str) -> CryptoSigner:
        """The key that is to take its place: made, or the one that a rotation left when cut off."""
        return (
            self.signer(f"{name}.next") if self.has(f"{name}.next") else self.make(f"{name}.next")
        )

    def succeed(self, name: str) -> None:
        """The successor takes its place; the old one stays as `<name>.pem.retired-<n>`."""
        path, number = self._path(name), 1
        while (kept := path.with_name(f"{path.name}.retired-{number}")).exists():
            number += 1
        with contextlib.suppress(FileNotFoundError):  # lost, or never on this machine
            path.rename(kept)
        self._path(f"{name}.next").rename(path)
        sync_folder(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.pem"
