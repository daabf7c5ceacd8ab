"""Each attack is refused under its own name, and nothing that the device knew is lost by it."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from edge_agent.core.errors import LinkDown
from edge_agent.links.fetch import HttpSource
from tests.trust.denials import Falsified, refused, serves, sign_above, sign_as
from tests.trust.site import MODEL, ROLE, Site
from tools.hot_tier.rotation import renew, rotate
from tools.hot_tier.serve import serving


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
    sign_above(site, newest.name)
    with refused(site, "signature") as trust:
        trust.refresh()
    with site.house.change() as draft:
        draft.role("targets")
        draft.changed.add("targets")
    serves(site, path)


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


@pytest.mark.parametrize("role", ["timestamp", "root"])
def test_a_wiped_metadata_folder_does_not_fall_back(site: Site, role: str) -> None:
    old = site.copy("old")
    path = site.publish()
    if role == "root":
        rotate(site.house, "targets")
    serves(site, path)
    site.wipe()
    with refused(site, "rollback", old, match=f"{role}: expected version 2 or newer") as trust:
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
