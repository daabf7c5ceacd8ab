"""What a link shows to the other side: certificates and passwords, from their files. Never kept."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import msgspec

from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import LinkDown

MAX_SECRET_BYTES: Final = 4096


class Secrets(msgspec.Struct, frozen=True):
    """What the files of a connection held."""

    tls: ssl.SSLContext | None
    password: str | None


def read_secrets(config: UplinkConfig) -> Secrets:
    """Reads the files of a connection. Blocks.

    Raises: LinkDown naming the file.
    """
    password = None
    if config.password_file is not None:
        password = _first_line(config.password_file)
    if not config.tls:
        return Secrets(None, password)
    reading = config.ca_file or "the system's certificates"
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.cert_file is not None:
            reading = f"{config.cert_file} and {config.key_file}"
            # An encrypted key would ask for its passphrase on the terminal.
            context.load_cert_chain(config.cert_file, config.key_file, password=lambda: "")
    except OSError as error:  # ssl.SSLError is one
        words = error.strerror or str(error)
        raise LinkDown(f"read {reading}: {words}", hint="PEM, readable by the agent?") from None
    return Secrets(context, password)


def _first_line(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            lines = file.read(MAX_SECRET_BYTES).splitlines() or [b""]
        return lines[0].decode()
    except OSError as error:
        words = error.strerror or str(error)
    except UnicodeDecodeError:
        words = "not UTF-8"
    raise LinkDown(f"read uplink.password_file: {words}", hint="is it readable by the agent?")
