"""`uplink-keys`, `trust-node`: the hot tier's keys of the road, and those of its nodes.

    FOLDER/sign-1.pem seal-1.pem ...   private, 0600
    FOLDER/hot-tier.pub                the public half of all of them: to be pinned at each device
    NODES/<node>.pub                   what `edge-agent uplink key` printed

It opens with any key that is there and signs with the oldest. So a key is changed in three steps:
make the next, bring the new hot-tier.pub to all devices, retire the old.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core import public_keys
from edge_agent.core.errors import ConfigError, Rejected
from edge_agent.core.public_keys import PublicKeys, Use
from edge_agent.links.road_keys import (
    RoadOpener,
    RoadVerifier,
    new_sealing,
    new_signing,
    read_sealing,
    read_signing,
)
from edge_agent.stores.files import read_bounded, sync_folder, write_atomic, write_once
from tools.hot_tier.gate import NODE, OPEN, Enrolled, Gate, Keys

PUBLIC: Final = "hot-tier.pub"
USES: Final[tuple[Use, ...]] = ("sign", "seal")
_FILE: Final = re.compile(r"(sign|seal)-([1-9][0-9]{0,5})\.pem")
_MAKE: Final = "python -m tools.hot_tier uplink-keys FOLDER"

Options = argparse.Namespace


def add(verbs: Any) -> None:
    """Each verb sets `run`, which returns an exit code."""
    keys = verbs.add_parser("uplink-keys", help="make or change what answers are signed with and "
                            "results are sealed to")  # fmt: skip
    keys.add_argument("folder", type=Path, metavar="FOLDER", help="private keys, and hot-tier.pub")
    change = keys.add_mutually_exclusive_group()
    change.add_argument("--next", choices=USES, help="make the key that follows")
    change.add_argument("--retire", metavar="NAME", help="such as sign-1, when no device needs it")
    keys.set_defaults(run=_keys)
    trust = verbs.add_parser("trust-node", help="enrol the key of a device")
    trust.add_argument("--nodes", type=Path, required=True, metavar="FOLDER")
    trust.add_argument("--only", action="store_true", help="and none of its keys of before")
    trust.add_argument("node", metavar="NODE")
    trust.add_argument("key", metavar="KEY", help="as `edge-agent uplink key` prints it")
    trust.set_defaults(run=_trust)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of `receive` and `import`."""
    add = parser.add_argument
    add("--uplink-keys", type=Path, metavar="FOLDER", help="open seals, sign what goes down")
    add("--nodes", type=Path, metavar="FOLDER", help="take those enrolled here only signed")
    add("--require-signed", action="store_true", help="with --nodes: and nobody else at all")


def load(options: Options) -> Keys:
    """Raises: Rejected, ConfigError."""
    if options.require_signed and options.nodes is None:
        raise ConfigError("--require-signed", "without --nodes, nobody could be heard")
    if options.nodes is not None and not options.nodes.is_dir():
        hint = "python -m tools.hot_tier trust-node makes it"
        raise ConfigError("--nodes", "expected a folder of public keys, got none", hint=hint)
    enrolled = Enrolled(options.nodes) if options.nodes is not None else None
    if options.uplink_keys is None:
        return (
            OPEN
            if enrolled is None
            else Keys(Gate(None, enrolled, is_strict=options.require_signed))
        )
    signing, sealing = (_numbered(options.uplink_keys, use) for use in USES)
    if not signing or not sealing:
        raise Rejected(
            "read --uplink-keys: expected keys to sign and to seal, got none", hint=_MAKE
        )
    opener = RoadOpener([read_sealing(path) for path in reversed(sealing)])
    gate = Gate(opener, enrolled, is_strict=options.require_signed)
    return Keys(gate, read_signing(signing[0]))


def _numbered(folder: Path, use: Use) -> list[Path]:
    """Oldest first. Raises: Rejected."""
    try:
        names = [_FILE.fullmatch(path.name) for path in folder.iterdir()]
    except OSError as error:
        raise Rejected(f"read --uplink-keys: {error.strerror}", hint=_MAKE) from None
    numbers = sorted(int(found[2]) for found in names if found and found[1] == use)
    return [folder / f"{use}-{number}.pem" for number in numbers]


# ── the hot tier's own ────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _disk(doing: str) -> Iterator[None]:
    """Raises: Rejected."""
    try:
        yield
    except OSError as error:
        hint = "whose folder is it, and is there room?"
        raise Rejected(f"{doing}: {error.strerror}", hint=hint) from None


def _keys(options: Options) -> int:
    folder: Path = options.folder
    with _disk("keep keys"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for use in USES:
            held = _numbered(folder, use)
            if not held or options.next == use:
                _make(folder, use, held)
        if options.retire is not None:
            _retire(folder, options.retire)
        keys = publish(folder)
    found = {use: [public_keys.key_id(one).hex() for one in getattr(keys, use)] for use in USES}
    print(msgspec.json.encode({"schema": 1, "file": PUBLIC, **found}).decode())
    return 0


def _make(folder: Path, use: Use, held: list[Path]) -> None:
    if len(held) >= public_keys.MAX_KEYS:
        raise Rejected(f"make {use}: expected at most {public_keys.MAX_KEYS} keys", hint="--retire")
    last = int(held[-1].stem.rpartition("-")[2]) if held else 0
    content = new_signing() if use == "sign" else new_sealing()
    if not write_once(folder / f"{use}-{last + 1}.pem", content):
        raise Rejected(f"make {use}-{last + 1}: somebody else did just now", hint="look again")


def _retire(folder: Path, name: str) -> None:
    path = folder / f"{name}.pem"
    found = _FILE.fullmatch(path.name)
    if found is None or not path.is_file():
        raise Rejected(f"retire {name}: expected such as sign-1, a key that is there", hint=_MAKE)
    use: Use = "sign" if found[1] == "sign" else "seal"
    if len(_numbered(folder, use)) == 1:
        raise Rejected(f"retire {name}: it is the only one to {use}", hint=f"first --next {use}")
    path.rename(path.with_name(f"{path.name}.retired"))
    sync_folder(folder)


def publish(folder: Path) -> PublicKeys:
    """Writes hot-tier.pub, the newest first. Raises: Rejected."""
    signing = [read_signing(path).public for path in _numbered(folder, "sign")]
    sealing = [read_sealing(path) for path in _numbered(folder, "seal")]
    publics = [key.public_key().public_bytes_raw() for key in sealing]
    keys = PublicKeys(tuple(reversed(signing)), tuple(reversed(publics)))
    write_atomic(folder / PUBLIC, public_keys.write(keys, "hot tier"), mode=0o644)
    return keys


# ── its nodes ─────────────────────────────────────────────────────────────────────────────────


def _trust(options: Options) -> int:
    if not NODE.fullmatch(options.node):
        raise Rejected(f"enrol {options.node[:64]!r}: expected a name of a-z, 0-9 and -",
                       hint="as `edge-agent uplink key` prints it")  # fmt: skip
    given = options.key if options.key.startswith("sign ") else f"sign {options.key}"
    new = public_keys.read(given.encode(), "KEY").sign
    RoadVerifier(new)
    path = options.nodes / f"{options.node}.pub"
    with _disk("enrol"):
        options.nodes.mkdir(parents=True, exist_ok=True)
        keys = PublicKeys(_newest(new, () if options.only else _before(path)))
        write_atomic(path, public_keys.write(keys, options.node), mode=0o644)
    found = [public_keys.key_id(one).hex() for one in keys.sign]
    print(msgspec.json.encode({"schema": 1, "node": options.node, "keys": found}).decode())
    return 0


def _before(path: Path) -> tuple[bytes, ...]:
    with contextlib.suppress(FileNotFoundError):
        return public_keys.read(read_bounded(path, public_keys.MAX_FILE_BYTES), path.name).sign
    return ()


def _newest(new: Iterable[bytes], old: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys([*new, *old]))[: public_keys.MAX_KEYS]
