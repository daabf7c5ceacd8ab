"""Rules of `[uplink]` that span several keys. Pure: never looks at this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

from edge_agent.config.problems import Flaw, quoted
from edge_agent.config.structs import UplinkConfig

PLAIN_PORT: Final = 1883
TLS_PORT: Final = 8883
EDGECORE_PORT: Final = 1884  # of its built-in broker; plain TCP, this machine only
OF_TLS: Final = ("ca_file", "cert_file", "key_file")
EDGECORE_PER_S: Final = 30  # its messageQPS, for all of the node


def port_of(config: UplinkConfig) -> int:
    """The port that is meant."""
    return config.port or (TLS_PORT if config.tls else PLAIN_PORT)


def is_loopback(host: str) -> bool:
    """Whether the host is this machine itself, by name or address."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_open(config: UplinkConfig) -> bool:
    """Plain TCP to another machine, which the operator has to insist on."""
    return not config.tls and not is_loopback(config.host)


def uplink(config: UplinkConfig) -> Iterator[Flaw]:
    """What does not go together."""
    if is_open(config):
        yield from _open(config)
    elif config.insecure:
        yield _flaw("insecure", "has no effect here: the road is safe", severe=False)
    yield from _pairs(config)
    yield from _protection(config)
    for name in ("ca_file", "cert_file", "key_file", "password_file", "hot_tier_keys"):
        path = getattr(config, name)
        if path is not None and not path.startswith("/"):
            yield _flaw(name, f"relative (expected an absolute path, got {quoted(path)})")
        if path is not None and name in OF_TLS and not config.tls:
            yield _flaw(name, "has no effect without tls", "tls = true", severe=False)
    if config.tls and config.port == PLAIN_PORT:
        yield _flaw("port", "1883 is the port without TLS", f"port = {TLS_PORT}", severe=False)
    if config.publishes_per_s >= EDGECORE_PER_S:
        words = f"EdgeCore passes on {EDGECORE_PER_S} for the whole machine; the rest waits in it"
        yield _flaw("publishes_per_s", words, severe=False)


def _protection(config: UplinkConfig) -> Iterator[Flaw]:
    if config.seal and config.hot_tier_keys is None:
        made_by = "python -m tools.hot_tier uplink-keys makes it"
        hint = f'hot_tier_keys = "/etc/edge-agent/hot-tier.pub"; {made_by}'
        yield _flaw("seal", "without hot_tier_keys (expected the key to seal to)", hint)
    if config.sign and config.hot_tier_keys is None:
        words = (
            "without hot_tier_keys: whoever reaches the broker can still make records be deleted"
        )
        yield _flaw("sign", words, "pin the hot tier's keys, too", severe=False)


def _open(config: UplinkConfig) -> Iterator[Flaw]:
    where = f"to {config.host}"
    if not config.insecure:
        words = f"plain TCP {where} (expected TLS, or a broker on this machine)"
        yield _flaw("host", words, "tls = true; or insecure = true, if the network is your own")
        return
    words = f"plain TCP {where}: whoever listens on the network reads the results"
    yield _flaw("insecure", words, "tls = true", severe=False)


def _pairs(config: UplinkConfig) -> Iterator[Flaw]:
    if (config.cert_file is None) != (config.key_file is None):
        there, missing = "cert_file", "key_file"
        if config.cert_file is None:
            there, missing = missing, there
        yield _flaw(there, f"without {missing} (expected both or none)")
    if config.password_file is not None and not config.username:
        yield _flaw("password_file", "without username (expected both, or the name alone)")


def _flaw(name: str, message: str, hint: str = "", *, severe: bool = True) -> Flaw:
    key = ("uplink", name)
    return Flaw(key=key, message=message, hint=hint, severity="error" if severe else "warn")
