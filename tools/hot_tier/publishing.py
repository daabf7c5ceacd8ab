"""A model package becomes a signed target, with its table of chunks and deltas from older ones.

The family's own role signs: `models/<name>/*`. Tables and deltas need no signature of their own,
since the signed target names their hashes.
"""

from __future__ import annotations

import hashlib
import importlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from edge_agent.core.errors import Rejected
from edge_agent.core.manifest import Manifest
from edge_agent.core.package import MANIFEST
from edge_agent.stores.models import version_key
from edge_agent.stores.package import load_manifest, pack, unpack
from tools.hot_tier.repository import Draft, Repository

CHUNK_BYTES: Final = 1 << 20
MAX_DELTAS: Final = 8
WORTH: Final = 0.9  # of the package; a longer delta is not kept

Encode = Callable[[bytes, bytes], bytes]
Say = Callable[[str], None]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    version: str
    sha256: str
    bytes: int
    deltas: dict[str, int]  # bytes, by the version of the base


def family(name: str) -> str:
    return f"models-{name}"


def publish(
    house: Repository,
    source: Path,
    *,
    deltas: int = 3,
    encode: Encode | None = None,
    say: Say = print,
) -> Published:
    """source: an .eam, or the folder of an unpacked package. deltas: from so many older versions.

    Raises: Rejected.
    """
    with _canonical(source) as (tar, manifest), house.change() as draft:
        role = family(manifest.name)
        draft.delegate(role, [f"models/{manifest.name}/*"])
        digest, table = _chunked(tar)
        older = [one for one in packages(draft, manifest.name) if one["sha256"] != digest]
        taken = {one["version"]: one["sha256"] for one in older}
        if manifest.version in taken:
            raise Rejected(
                f"publish {manifest.name} {manifest.version}: other content has this version, "
                f"sha256 {taken[manifest.version][:16]}",
                hint="give it a version of its own",
            )
        draft.write(house.targets_folder / "chunks" / f"{digest}.tbl", table)
        bases = older[: min(deltas, MAX_DELTAS)]
        made = _deltas(house, tar, digest, bases, (encode or codec(say)) if bases else None)
        custom = {
            "name": manifest.name,
            "version": manifest.version,
            "min_agent_version": manifest.min_agent_version,
            "chunks": {"bytes": CHUNK_BYTES, "sha256": hashlib.sha256(table).hexdigest()},
            "deltas": made,
        }
        draft.put(role, f"models/{manifest.name}/{digest}.eam", tar, custom)
        versions = {one["sha256"]: one["version"] for one in older}
        return Published(
            name=manifest.name, version=manifest.version, sha256=digest, bytes=tar.stat().st_size,
            deltas={versions[one["base"]]: one["length"] for one in made},
        )  # fmt: skip


def packages(draft: Draft, name: str) -> list[dict[str, Any]]:
    """What is published of a family, the newest version first: name, version, sha256, bytes."""
    if family(name) not in {*draft.names(), *draft.roles}:
        return []
    found = [
        {
            "name": name,
            "version": str((file.custom or {}).get("version", "0.0.0")),
            "sha256": file.hashes["sha256"],
            "bytes": file.length,
            "path": file.get_prefixed_paths()[0],
        }
        for file in draft.role(family(name)).targets.values()
    ]
    return sorted(found, key=lambda one: version_key(str(one["version"])), reverse=True)


def withdraw(house: Repository, name: str, version: str) -> str:
    """Nobody may install it from now on; who runs it goes on. Its sha256. Raises: Rejected."""
    with house.change() as draft:
        _, sha256 = remove(draft, name, version)
    return sha256


def remove(draft: Draft, name: str, wanted: str) -> tuple[str, str]:
    """No longer signed: the version and the sha256 of what that was. Raises: Rejected."""
    sha256 = find(draft, name, wanted)
    version = next(one["version"] for one in packages(draft, name) if one["sha256"] == sha256)
    del draft.role(family(name)).targets[f"models/{name}/{sha256}.eam"]
    draft.changed.add(family(name))
    return str(version), sha256


def find(draft: Draft, name: str, wanted: str) -> str:
    """The sha256 of a published version, or of what begins with these 8 digits and more.

    Raises: Rejected, naming what there is.
    """
    known = packages(draft, name)
    for one in known:
        if wanted == one["version"] or (len(wanted) >= 8 and one["sha256"].startswith(wanted)):
            return str(one["sha256"])
    listed = ", ".join(f"{one['version']} ({one['sha256'][:16]})" for one in known) or "none"
    raise Rejected(f"find {name} {wanted}: expected one of {listed}", hint="hot_tier publish")


def codec(say: Say) -> Encode | None:
    """The codec of deltas, or a word that there is none."""
    try:
        found = importlib.import_module("edge_agent.core.modeldelta")
    except ImportError:
        say("no deltas: this installation has no codec for them; packages go down whole")
        return None
    encode: Encode = found.encode
    return encode


def _deltas(
    house: Repository,
    tar: Path,
    digest: str,
    bases: list[dict[str, Any]],
    encode: Encode | None,
) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if encode is None:
        return made
    new = tar.read_bytes()
    for base in bases:
        delta = encode((house.targets_folder / base["path"]).read_bytes(), new)
        if len(delta) > WORTH * len(new):
            continue
        target = f"deltas/{base['sha256'][:16]}-{digest[:16]}.ead"
        place = house.targets_folder / target
        place.unlink(missing_ok=True)  # another codec may have made another one
        Draft.write(place, delta)
        sha256 = hashlib.sha256(delta).hexdigest()
        made.append(
            {"base": base["sha256"], "target": target, "length": len(delta), "sha256": sha256}
        )
    return made


def _chunked(tar: Path) -> tuple[str, bytes]:
    """sha256 of the whole, and the sha256 of each chunk, one after the other."""
    whole, table = hashlib.sha256(), bytearray()
    with tar.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            whole.update(chunk)
            table += hashlib.sha256(chunk).digest()
    return whole.hexdigest(), bytes(table)


@contextmanager
def _canonical(source: Path) -> Iterator[tuple[Path, Manifest]]:
    """The package as its one tar, and its manifest. Raises: Rejected."""
    with tempfile.TemporaryDirectory(prefix="ea-publish-") as folder:
        unpacked, tar = Path(folder, "unpacked"), Path(folder, "package.eam")
        if source.is_dir():
            manifest = load_manifest(source / MANIFEST, f"{source.name}/{MANIFEST}")
            with tar.open("wb") as file:
                file.writelines(pack(source, manifest))
            yield tar, manifest
            return
        unpacked.mkdir()
        try:
            with source.open("rb") as file:
                manifest = unpack(file, unpacked, _chunked(source)[0])
        except OSError as error:
            raise Rejected(f"open package {source.name}: {error.strerror}") from None
        yield source, manifest
