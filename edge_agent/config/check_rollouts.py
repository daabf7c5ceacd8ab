"""Rules of `[rollouts]` that span several keys. Pure: never looks at this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from edge_agent.config.problems import Flaw, Key, masked, quoted
from edge_agent.config.structs import Config, RolloutsConfig
from edge_agent.core.errors import Rejected
from edge_agent.core.moment import check_window


def rollouts(config: Config) -> Iterator[Flaw]:
    """What does not go together."""
    section = config.rollouts
    for name in ("ca_file", "root_file", "usb_dir", "desired_file"):
        path = getattr(section, name)
        if path is not None and not path.startswith("/"):
            yield _flaw((name,), f"relative (expected an absolute path, got {quoted(path)})")
    for index, url in enumerate(section.repositories):
        yield from _url(url, ("repositories", index))
    if section.enabled:
        yield from _enabled(section)
    yield from _windows(config)
    if section.allow_unsigned_local:
        words = "whoever may use the control socket can install any model"
        yield _flaw(("allow_unsigned_local",), words, "sign it: tools.hot_tier publish", "warn")


def _enabled(section: RolloutsConfig) -> Iterator[Flaw]:
    if section.root_file is None:
        yield _flaw(
            ("root_file",),
            "missing (expected the repository's 1.root.json while enabled = true)",
            "copy it from the hot tier when this device is enrolled",
        )
    if not section.repositories and section.usb_dir is None:
        yield _flaw(("repositories",), "none, and no usb_dir: nothing can come", "", "warn")


def _url(url: str, key: Key) -> Iterator[Flaw]:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        sound = False
    if not sound:
        words = f"no repository (expected http(s)://HOST[:PORT]/PATH, got {quoted(masked(url))})"
        yield _flaw(key, words)
    elif "@" in parts.netloc:
        yield _flaw(key, "a password in an address is not used (expected none)")


def _windows(config: Config) -> Iterator[Flaw]:
    window = config.rollouts.window
    try:
        check_window(window, "window")
    except Rejected as wrong:
        yield _flaw(("window",), wrong.what.removeprefix("window: "), wrong.hint)
    for name, stream in config.streams.items():
        if stream.swap == "window" and not window:
            yield Flaw(
                key=("streams", name, "swap"),
                message="window, but rollouts.window is not set",
                hint='window = "22:00-05:00" in [rollouts]',
            )


def _flaw(
    key: Key, message: str, hint: str = "", severity: Literal["error", "warn"] = "error"
) -> Flaw:
    return Flaw(key=("rollouts", *key), message=message, hint=hint, severity=severity)
