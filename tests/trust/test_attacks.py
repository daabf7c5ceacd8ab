"""Each attack is refused under its own name, and nothing that the device knew is lost by it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from edge_agent.core.errors import LinkDown
from edge_agent.core.trust import Memory, Refused
from edge_agent.links.fetch import FolderSource, HttpSource, Source
from edge_agent.links.trust import Trust
from tests.trust.site import DESIRED, MODEL, NAME, ROLE, START, Site, path_of
from tools.hot_tier.rotation import renew, rotate
from tools.hot_tier.serve import serving


class Falsified:
    """A source between the device and the repository. changed: content by path, given the real."""

    name = "somebody between"

    def __init__(self, folder: Path, **changed: Any) -> None:
        self._real = FolderSource(folder)
        self._changed = changed

    def open(self, path: str, *, offset: int, max_bytes: int) -> Iterator[bytes]:
        for part, change in self._changed.items():
            if part in path.replace("-", "_"):
                yield from change(b"".join(self._real.open(path, offset=0, max_bytes=1 << 30)))
                return
        yield from self._real.open(path, offset=offset, max_bytes=max_bytes)


@contextmanager
def refused(site: Site, code: str, *sources: Source | Path, match: str = ".") -> Iterator[Trust]:
    """The block is refused with this code; the device knows what it knew, and goes on with it."""
    before = site.knows()
    with site.device(*sources) as trust:
        with pytest.raises(Refused, match=match) as raised:
            yield trust
        assert raised.value.code == code, raised.value
        assert raised.value.hint
        assert_no_less(before, trust.memory)
    assert_no_less(before, site.knows())


def assert_no_less(before: Memory, after: Memory) -> None:
    assert after.root >= before.root
    assert after.time_s >= before.time_s
    assert after.serials == before.serials
    assert after.timestamp.version >= before.timestamp.version
    assert after.snapshot.version >= before.snapshot.version
    assert all(after.roles[name] >= version for name, version in before.roles.items())


def serves(site: Site, path: str) -> None:
    """The honest repository still serves this device."""
    with site.device() as trust:
        trust.refresh()
        assert trust.read(path, 1 << 20) == MODEL


def sign_as(site: Site, name: str, signer: CryptoSigner) -> None:
    """What is signed in this file of metadata now, signed by that key alone."""
    path = site.folder / "metadata" / name
    metadata: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
    metadata.signatures.clear()
    metadata.sign(signer)
    path.write_bytes(metadata.to_bytes())


def test_an_old_timestamp_shown_again_is_a_rollback(site: Site) -> None:
    old = site.copy("old")
    path = site.publish()
    serves(site, path)
    with refused(site, "rollback", old) as trust:
        trust.refresh()
    serves(site, path)


def test_an_old_file_under_a_new_name_is_mix_and_match(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    site.publish(b"another", "1.1.0", name="endo-polyp")  # targets version 3
    metadata = site.folder / "metadata"
    genuine = (metadata / "3.targets.json").read_bytes()
    (metadata / "3.targets.json").write_bytes((metadata / "2.targets.json").read_bytes())
    with refused(site, "mix-and-match") as trust:
        trust.refresh()
    (metadata / "3.targets.json").write_bytes(genuine)
    serves(site, path)


def test_one_flipped_byte_of_a_model_is_found(site: Site, tmp_path: Path) -> None:
    path = site.publish()
    serves(site, path)
    flipped = tmp_path / "flipped.eam"
    flipped.write_bytes(MODEL[:999] + bytes([MODEL[999] ^ 1]) + MODEL[1000:])
    with refused(site, "hash") as trust:
        trust.refresh()
        trust.verify(path, flipped)
    with refused(
        site, "hash", Falsified(site.folder, eam=lambda _: [flipped.read_bytes()])
    ) as trust:
        trust.refresh()
        trust.read(path, 1 << 20)
    flipped.write_bytes(MODEL[:-1])
    with refused(site, "length") as trust:
        trust.refresh()
        trust.verify(path, flipped)
    flipped.write_bytes(MODEL)
    with site.device() as trust:
        trust.refresh()
        assert trust.verify(path, flipped).custom["version"] == "1.0.0"


def test_one_flipped_byte_of_metadata_is_found(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    site.publish(b"another", "1.1.0")
    place = site.folder / "metadata" / "timestamp.json"
    genuine = place.read_bytes()
    place.write_bytes(genuine.replace(b'"issued":', b'"issued":1'))
    with refused(site, "signature") as trust:
        trust.refresh()
    place.write_bytes(genuine[:-20])
    with refused(site, "malformed") as trust:
        trust.refresh()
    place.write_bytes(genuine)
    serves(site, path)


@pytest.mark.parametrize("part", ["timestamp", "snapshot", "eam"])
def test_data_without_an_end_is_cut_off_at_the_signed_length(site: Site, part: str) -> None:
    path = site.publish()
    serves(site, path)
    site.publish(b"another", "1.1.0", name="endo-polyp")
    endless = Falsified(site.folder, **{part: lambda _: repeat(bytes(8192))})
    with refused(site, "length", endless) as trust:
        trust.refresh()
        trust.read(path, 1 << 20)
    serves(site, path)


def test_a_timestamp_signed_by_another_key_is_refused(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    renew(site.house)
    genuine = (site.folder / "metadata" / "timestamp.json").read_bytes()
    sign_as(site, "timestamp.json", CryptoSigner.generate_ed25519())
    with refused(site, "signature") as trust:
        trust.refresh()
    (site.folder / "metadata" / "timestamp.json").write_bytes(genuine)
    serves(site, path)


def test_a_repository_that_stands_still_is_a_freeze(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    site.time.forward(days=31)
    with refused(site, "freeze") as trust:
        trust.refresh()
    renew(site.house)
    serves(site, path)


def test_what_the_offline_keys_signed_expires_under_its_own_name(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    site.time.forward(days=366)
    with site.house.change():
        pass  # the online keys alone
    with refused(site, "expired") as trust:
        trust.refresh()
    assert renew(site.house) == []
    serves(site, path)


def test_a_revoked_key_signs_no_more(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    stolen = site.keys.signer("targets")
    assert rotate(site.house, "targets") == 2
    serves(site, path)
    site.publish(b"another", "1.1.0", name="endo-polyp")
    metadata = site.folder / "metadata"
    newest = max(metadata.glob("*.targets.json"), key=lambda file: int(file.name.split(".")[0]))
    sign_as(site, newest.name, stolen)
    _sign_above(site, newest.name)
    with refused(site, "signature") as trust:
        trust.refresh()
    with site.house.change() as draft:
        draft.role("targets")
        draft.changed.add("targets")
    serves(site, path)


def _sign_above(site: Site, changed: str) -> None:
    """Snapshot and timestamp of this changed file, by the real online keys."""
    version, role, _ = changed.split(".")
    body = (site.folder / "metadata" / changed).read_bytes()
    draft = site.house.open()
    meta = draft._snapshot.signed.meta[f"{role}.json"]
    fresh = type(meta).from_data(int(version), body, ["sha256"])
    draft._snapshot.signed.meta[f"{role}.json"] = fresh
    draft.commit()


def test_two_root_keys_are_asked_for_and_one_is_not_enough(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    root: Metadata[Any] = Metadata.from_bytes(site.bootstrap)
    root.signed.version = 2
    root.signatures.clear()
    root.sign(site.keys.signer("root-1"))
    forged = site.folder / "metadata" / "2.root.json"
    forged.write_bytes(root.to_bytes())
    with refused(site, "signature") as trust:
        trust.refresh()
    forged.unlink()
    serves(site, path)


def test_a_fresh_device_finds_its_way_from_the_first_root_over_a_stick(site: Site) -> None:
    path = site.publish()
    rotate(site.house, "root-2")
    rotate(site.house, "timestamp")
    with site.device(site.copy("stick")) as trust:
        assert trust.refresh().root == 3
        assert trust.read(path, 1 << 20) == MODEL


def test_a_server_that_is_down_takes_nothing_away(site: Site) -> None:
    path = site.publish()
    with serving(site.folder) as server:
        http = HttpSource(server.url)
        with site.device(http) as trust:
            trust.refresh()
            assert trust.read(path, 1 << 20) == MODEL
    before = site.knows()
    with site.device(http) as trust:
        with pytest.raises(LinkDown, match="refused"):
            trust.refresh()
        assert trust.memory == before
    serves(site, path)


def test_a_wiped_metadata_folder_does_not_fall_back(site: Site) -> None:
    old = site.copy("old")
    path = site.publish()
    rotate(site.house, "targets")
    serves(site, path)
    site.wipe()
    with refused(site, "rollback", old) as trust:
        trust.refresh()
    site.wipe()
    serves(site, path)


def test_a_delegate_that_is_gone_from_the_snapshot_is_a_rollback(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    site.wipe()
    draft = site.house.open()
    del draft._snapshot.signed.meta[f"{ROLE}.json"]
    draft.commit()
    with refused(site, "rollback") as trust:
        trust.refresh()


# ── time ──────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_that_was_never_set_still_knows_how_late_it_was(site: Site) -> None:
    path = site.publish()
    old = site.copy("old")
    site.time.forward(days=40)
    renew(site.house)
    serves(site, path)
    site.wipe()
    for device in (None, datetime(1970, 1, 1, tzinfo=timezone.utc)):
        site.time.device = device
        serves(site, path)
        site.wipe()
    (site.state / "memory.json").write_bytes(b"")  # versions forgotten, the time is in the copy
    with refused(site, "freeze", old) as trust:
        trust.refresh()
    serves(site, path)


def test_a_clock_in_2100_refuses_with_its_reason_and_poisons_nothing(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    site.time.device = datetime(2100, 1, 1, tzinfo=timezone.utc)
    words = "here it is 2100-01-01T00:00Z, 2026-11-25T12:00Z at least"
    with refused(site, "expired", match=words) as trust:
        trust.refresh()
    site.time.device = START + timedelta(hours=1)
    serves(site, path)


def test_a_clock_that_nobody_disciplines_raises_no_floor(site: Site) -> None:
    site.publish()
    site.time.synced = False
    site.time.device = START + timedelta(days=20)
    with site.device() as trust:
        trust.refresh()
        assert trust.memory.time_s == int(START.timestamp())  # signed by the offline keys


def test_a_repository_recovers_from_a_stolen_online_key_that_ran_ahead(site: Site) -> None:
    path = site.publish()
    backup = site.copy("backup")
    draft = site.house.open()
    draft._timestamp.signed.version = draft._snapshot.signed.version = 2_000_000_000
    draft.commit()
    serves(site, path)
    assert site.knows().timestamp.version == 2_000_000_001
    with refused(site, "rollback", backup) as trust:
        trust.refresh()
    site.folder.rename(site.root / "stolen")
    backup.rename(site.folder)
    for name in ("timestamp", "snapshot"):
        rotate(site.house, name)
    serves(site, path)
    assert site.knows().timestamp.version < 100
    site.wipe()
    with refused(site, "rollback", site.root / "stolen") as trust:
        trust.refresh()


def test_ten_roots_in_a_row_are_walked(site: Site) -> None:
    path = site.publish()
    serves(site, path)
    for number in range(10):
        rotate(site.house, f"root-{number % 3 + 1}")
    with site.device() as trust:
        assert trust.refresh().root == 11
    serves(site, path)
    site.wipe()
    for name in range(7, 12):
        (site.folder / "metadata" / f"{name}.root.json").unlink()
    with refused(site, "rollback") as trust:
        trust.refresh()


# ── who may sign what ─────────────────────────────────────────────────────────────────────────


def test_a_family_cannot_sign_for_another(site: Site) -> None:
    path = site.publish()
    foreign = b"a model that its family never saw"
    with site.house.change() as draft:
        draft.delegate("models-endo-polyp", ["models/endo-polyp/*"])
        draft.put("models-endo-polyp", path_of(foreign), foreign)
    with refused(site, "unknown-target") as trust:
        trust.refresh()
        trust.target(path_of(foreign))
    serves(site, path)


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "models/../../x", "models//x", "models/x\0", "", "a" * 999]
)
def test_a_target_that_escapes_is_never_looked_for(site: Site, path: str) -> None:
    with site.house.change() as draft:
        draft.delegate("nodes", ["*", "*/*", "*/*/*", "*/*/*/*"])
        target = draft.put("nodes", "plain", b"x")
        draft.role("nodes").targets[path] = type(target)(1, target.hashes, path or "plain")
    with refused(site, "path") as trust:
        trust.refresh()
        trust.target(path)


def test_a_link_on_a_stick_leads_nowhere(site: Site, tmp_path: Path) -> None:
    path = site.publish()
    (tmp_path / "secret").write_bytes(MODEL)
    stick = site.copy("stick")
    place = stick / site.stored(path).relative_to(site.folder)
    place.unlink()
    place.symlink_to(tmp_path / "secret")
    with site.device(stick) as trust:
        trust.refresh()
        with pytest.raises(LinkDown, match="free of links"):
            trust.read(path, 1 << 20)


# ── desired state over plain HTTP ─────────────────────────────────────────────────────────────


def test_a_forged_desired_state_is_refused_and_so_is_a_replayed_one(site: Site) -> None:
    old = site.want(7)
    replay = site.copy("old")
    new = site.want(8)
    with serving(site.folder) as server, site.device(HttpSource(server.url)) as trust:
        trust.refresh()
        assert trust.desired(DESIRED) == new
        assert trust.memory.serials == {DESIRED: 8}
    forged = json.dumps({"schema": 1, "serial": 9, "models": {}}).encode()
    for content in (forged, old):
        with serving(site.folder) as server, refused(site, "hash", HttpSource(server.url)) as trust:
            trust.refresh()
            trust.desired(DESIRED, content=content)  # by MQTT: the bytes that came
        stored = site.stored(DESIRED)
        stored.write_bytes(content)
        with serving(site.folder) as server, refused(site, "hash", HttpSource(server.url)) as trust:
            trust.refresh()
            trust.desired(DESIRED)
        stored.write_bytes(new)
    with serving(replay) as server, refused(site, "rollback", HttpSource(server.url)) as trust:
        trust.refresh()
    site.want(6)  # signed, and yet a step back
    with refused(site, "rollback") as trust:
        trust.refresh()
        trust.desired(DESIRED)


def test_the_name_of_the_family_is_the_name_of_the_models() -> None:
    assert path_of(MODEL).split("/")[1] == NAME
