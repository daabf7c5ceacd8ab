"""What a link shows to the other side: certificates and passwords, from their files. Never kept."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDenied, Rejected
from edge_agent.held import open_plain

MAX_SECRET_BYTES: Final = 4096
MAX_CERTIFICATE_BYTES: Final = 1 << 20


class Secrets(msgspec.Struct, frozen=True):
    """What the files of a connection held."""

    tls: ssl.SSLContext | None
    password: str | None


def read_secrets(config: UplinkConfig) -> Secrets:
    """Reads the files of a connection. Blocks.

    Raises: LinkDenied naming the file.
    """
    password = None
    if config.password_file is not None:
        password = _first_line(config.password_file)
    if not config.tls:
        return Secrets(None, password)
    reading = config.ca_file or "the system's certificates"
    try:
        for path in (config.ca_file, config.cert_file, config.key_file):
            if path is not None:
                open_plain(Path(path)).close()  # a pipe in its place would be waited for
        context = ssl.create_default_context(cafile=config.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.cert_file is not None:
            reading = f"{config.cert_file} and {config.key_file}"
            # An encrypted key would ask for its passphrase on the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password=lambda: "")
    except OSError as error:  # ssl.SSLError is one
        words = error.strerror or str(error)
        raise LinkDenied(f"read {reading}: {words}", hint="PEM, readable by the agent?") from None
    except Rejected as error:
        raise LinkDenied(error.what, hint="PEM, readable by the agent?") from None
    if config.cert_file is not None:
        _check_term(config.cert_file)
    return Secrets(context, password)


def _first_line(path: str) -> str:
    try:
        with open_plain(Path(path)) as file:
            lines = file.read(MAX_SECRET_BYTES).splitlines() or [b""]
        return lines[0].decode()
    except OSError as error:
        words = error.strerror or str(error)
    except Rejected as error:
        words = error.what
    except UnicodeDecodeError:
        words = "not UTF-8"
    raise LinkDenied(
        f"read uplink.password_file: {words}",
        hint="put it there, readable by the agent's user; it is read at each try",
    )


def _check_term(path: str) -> None:
    """A broker says of an expired certificate no more than that it closes. Raises: LinkDenied."""
    try:
        with Path(path).open("rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read(MAX_CERTIFICATE_BYTES))
    except (OSError, ValueError):
        return  # it was loaded a moment ago: the handshake will tell
    ends = certificate.not_valid_after_utc
    if ends < dt.datetime.now(dt.timezone.utc):
        raise LinkDenied(
            f"{path}: the certificate expired on {ends:%Y-%m-%d %H:%M} UTC",
            hint="renew it, it is read at each try; or check this machine's clock (timedatectl)",
        )
