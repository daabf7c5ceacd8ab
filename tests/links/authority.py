"""A throw-away certificate authority, by the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path

EXTENSIONS = """
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical,CA:false
subjectAltName = {names}
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash
"""


class Authority:
    """Its files lie in `folder`: `ca.pem`, and `<name>.pem`, `<name>.key` of each it signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.certificate = folder / "ca.pem"
        self._extensions("DNS:nobody")
        self._request("ca")
        self._sign("ca", "ca", "-signkey", str(folder / "ca.key"))

    def sign(
        self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", *, days: int = 2
    ) -> tuple[Path, Path]:
        """Certificate and key of a new leaf; names as openssl writes them. days -1: expired."""
        self._extensions(names)
        self._request(name)
        issuer = ["-CA", str(self.certificate), "-CAkey", str(self._folder / "ca.key")]
        self._sign(name, "leaf", *issuer, "-CAcreateserial", days=days)
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def listener(self, name: str = "broker", *, days: int = 2) -> str:
        """Lines of mosquitto's settings: a broker with a certificate of ours that asks for one."""
        cert, key = self.sign(name, days=days)
        files = f"cafile {self.certificate}\ncertfile {cert}\nkeyfile {key}"
        return f"{files}\nrequire_certificate true"

    def _extensions(self, names: str) -> None:
        (self._folder / "extensions").write_text(EXTENSIONS.format(names=names))

    def _request(self, name: str) -> None:
        path = self._folder / name
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{path}.key")
        subject = ["-subj", f"/CN={name}"]
        _openssl("req", "-new", "-key", f"{path}.key", "-out", f"{path}.csr", *subject)

    def _sign(self, name: str, section: str, *more: str, days: int = 2) -> None:
        path = self._folder / name
        extensions = ["-extfile", str(self._folder / "extensions"), "-extensions", section]
        files = ["-in", f"{path}.csr", "-out", f"{path}.pem", "-days", str(days), "-sha256"]
        _openssl("x509", "-req", *files, *extensions, *more)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=20)
