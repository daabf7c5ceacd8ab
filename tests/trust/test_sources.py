"""Several roads to one repository: none hides what another shows, and one is enough."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_agent.core import edgecore
from edge_agent.core.edgecore import Topics, Tuf
from edge_agent.core.errors import Damaged, LinkDown, Overloaded
from edge_agent.core.trust import Refused
from edge_agent.links.fetch import FolderSource, HttpSource
from edge_agent.stores.handover import HandOver
from tests.trust.site import DESIRED, MODEL, ROLE, Site
from tools.hot_tier.announcer import Announcer
from tools.hot_tier.serve import serving

NOWHERE = HttpSource("http://127.0.0.1:1")


def test_the_newest_that_any_source_shows_is_taken(site: Site) -> None:
    old = site.copy("old")
    path = site.publish()
    for order in ([old, site.folder], [site.folder, old]):
        site.wipe() if site.state.exists() else None
        with site.device(*order) as trust:
            assert trust.refresh().timestamp == 2
            assert trust.read(path, 1 << 20) == MODEL


def test_a_stale_source_is_reported_while_another_serves(site: Site) -> None:
    old = site.copy("old")
    path = site.publish()
    with site.device() as trust:
        trust.refresh()
    with site.device(old, NOWHERE, site.folder) as trust:
        troubles = {one.source: one.code for one in trust.refresh().troubles}
        assert troubles == {"folder old": "rollback", NOWHERE.name: "down"}
        assert trust.target(path).path == path


def test_junk_in_one_place_hides_nothing_of_another(site: Site) -> None:
    path = site.publish()
    junk = site.copy("junk")
    for file in (junk / "metadata").iterdir():
        file.write_bytes(b'{"signed":{}}')
    with site.device(junk, site.folder) as trust:
        assert [one.code for one in trust.refresh().troubles] == ["malformed"]
        assert trust.read(path, 1 << 20) == MODEL


def test_a_delegate_that_is_wrong_in_one_place_is_read_from_another(site: Site) -> None:
    path = site.publish()
    bad = site.copy("bad")
    (bad / "metadata" / f"1.{ROLE}.json").write_bytes(b"{}")
    shutil.rmtree(bad / "targets")
    with site.device(bad, site.folder) as trust:
        trust.refresh()
        assert trust.read(path, 1 << 20) == MODEL
    site.wipe()
    with site.device(bad) as trust:
        trust.refresh()
        with pytest.raises(Refused, match="models-us-chamber"):
            trust.target(path)


def test_what_came_by_mqtt_vouches_for_bytes_that_came_by_mqtt(site: Site) -> None:
    body = site.want(7)
    announcer, hand = Announcer(site.folder), HandOver(site.state / "handover")
    assert announcer.load()
    announcer.heard("ward-a", b"")
    said = announcer.due(0)
    topics = Topics.of("default", "ward-a")
    for letter in said[:-1]:
        event = edgecore.read(topics, f"edge-agent/ward-a/down/{letter.what}", letter.payload)
        assert isinstance(event, Tuf)
        hand.put(event.metadata)
    with site.device(NOWHERE, FolderSource(hand.folder)) as trust:
        trust.refresh()
        assert trust.desired(DESIRED, content=said[-1].payload) == body
        with pytest.raises(LinkDown):
            trust.read(DESIRED, 1000)  # its bytes lie nowhere that can be reached


def test_a_half_handed_over_state_is_completed_from_elsewhere(site: Site) -> None:
    path = site.publish()
    hand = HandOver(site.state / "handover")
    hand.put((site.folder / "metadata" / "timestamp.json").read_bytes())
    with (
        serving(site.folder) as server,
        site.device(FolderSource(hand.folder), HttpSource(server.url)) as trust,
    ):
        assert trust.refresh().troubles == ()
        assert trust.read(path, 1 << 20) == MODEL


def test_two_processes_do_not_share_a_folder(site: Site) -> None:
    with site.device() as trust:
        with pytest.raises(Overloaded, match="another installation"), site.device():
            pass
        trust.refresh()
    with site.device():
        pass


def test_a_bootstrap_root_that_is_none_is_said(site: Site) -> None:
    for bootstrap in (b"{}", b"no json", site.bootstrap.replace(b'"version":1', b'"version":2')):
        with pytest.raises(Refused, match="bootstrap") as raised, site.device(bootstrap=bootstrap):
            pass
        assert raised.value.code == "bootstrap"


def test_a_repository_of_somebody_else_is_refused(site: Site, tmp_path: Path) -> None:
    other = Site(tmp_path / "other")
    with site.device(other.folder) as trust, pytest.raises(Refused) as raised:
        trust.refresh()
    assert raised.value.code == "signature"


def test_metadata_that_rots_on_our_own_disk_is_fetched_again(site: Site) -> None:
    path = site.publish()
    with site.device() as trust:
        trust.refresh()
        trust.target(path)
    for file in (site.state / "metadata").rglob("*.json"):
        file.write_bytes(file.read_bytes()[:50])
    with site.device() as trust:
        trust.refresh()
        assert trust.read(path, 1 << 20) == MODEL


def test_a_memory_that_rots_stops_installations_with_its_reason(site: Site) -> None:
    site.publish()
    with site.device() as trust:
        trust.refresh()
    for name in ("memory.json", "memory.copy.json"):
        (site.state / name).write_bytes(b"{}")
    with pytest.raises(Damaged, match="both copies"), site.device():
        pass


def test_a_look_up_before_a_refresh_is_a_mistake_of_ours(site: Site) -> None:
    with site.device() as trust, pytest.raises(RuntimeError, match="refresh before"):
        trust.target("models/a/b.eam")
