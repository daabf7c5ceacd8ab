"""A clock may be wrong, a key may run ahead: what was known stays, and the way back is open."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from tests.trust.denials import refused, serves
from tests.trust.site import START, Site
from tools.hot_tier.rotation import renew, rotate


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
