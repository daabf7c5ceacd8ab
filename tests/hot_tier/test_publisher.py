"""What the publisher makes, seen by a device that trusts it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edge_agent.core.errors import ConfigError, Rejected
from edge_agent.links.trust import Trust
from edge_agent.stores.models import Models
from tests.tiny import write_package
from tests.trust.site import Site
from tools.hot_tier.__main__ import main
from tools.hot_tier.publishing import CHUNK_BYTES, publish, withdraw
from tools.hot_tier.repository import KEPT, Repository
from tools.hot_tier.rotation import renew, rotate
from tools.hot_tier.wanted import Change, move, wish


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def packed(site: Site, version: str, *, fault: str = "") -> Path:
    """A canonical .eam."""
    folder = write_package(site.root / f"models-{version}-{fault}", version=version, fault=fault)
    tar = site.root / f"{version}{fault}.eam"
    with tar.open("wb") as file:
        file.writelines(Models([], shipped=False).pack(folder))
    return tar


def appended(base: bytes, new: bytes) -> bytes:
    """A codec of deltas, as short as one can be."""
    return b"delta" + hashlib.sha256(base + new).digest()


def fetched(site: Site, path: str) -> tuple[Trust, bytes]:
    with site.device() as trust:
        trust.refresh()
        return trust, trust.read(path, 1 << 24)


def test_a_package_comes_down_with_its_table_and_its_deltas(site: Site) -> None:
    first = publish(site.house, packed(site, "1.0.0"), encode=appended)
    tar = packed(site, "1.1.0", fault="blind")
    second = publish(site.house, tar, encode=appended)
    assert second.deltas == {"1.0.0": 37}
    with site.device() as trust:
        trust.refresh()
        target = trust.target(f"models/tiny/{second.sha256}.eam")
        content = tar.read_bytes()
        assert trust.read(target.path, 1 << 24) == content
        assert (target.custom["name"], target.custom["version"]) == ("tiny", "1.1.0")
        assert target.custom["min_agent_version"] == "0.1.0"
        table = target.table()
        assert table is not None
        blob, chunk_bytes = table
        assert chunk_bytes == CHUNK_BYTES
        assert trust.blob(blob) == hashlib.sha256(content).digest()
        (delta,) = target.deltas()
        assert delta.base == first.sha256
        assert trust.blob(delta).startswith(b"delta")


def test_publishing_the_same_again_changes_no_version_of_the_model(site: Site) -> None:
    tar = packed(site, "1.0.0")
    assert publish(site.house, tar).sha256 == publish(site.house, tar).sha256
    folder = write_package(site.root / "unpacked", version="1.0.0")
    assert publish(site.house, folder).sha256 == publish(site.house, tar).sha256


def test_other_content_under_a_published_version_is_refused(site: Site) -> None:
    publish(site.house, packed(site, "1.0.0"))
    with pytest.raises(Rejected, match="other content has this version"):
        publish(site.house, packed(site, "1.0.0", fault="blind"))


def test_a_package_that_is_not_canonical_or_none_is_refused(site: Site) -> None:
    tar = packed(site, "1.0.0")
    tar.write_bytes(tar.read_bytes() + bytes(10240))
    with pytest.raises(Rejected, match="read package"):
        publish(site.house, tar)
    tar.write_bytes(b"this is no tar")
    with pytest.raises(Rejected, match="read package"):
        publish(site.house, tar)
    assert site.house.open().names() == ["targets"]


def test_a_version_that_was_withdrawn_is_unknown(site: Site) -> None:
    done = publish(site.house, packed(site, "1.0.0"))
    assert withdraw(site.house, "tiny", "1.0.0") == done.sha256
    with pytest.raises(Rejected, match="signed target, got none"):
        fetched(site, f"models/tiny/{done.sha256}.eam")
    with pytest.raises(Rejected, match="expected one of none"):
        withdraw(site.house, "tiny", "1.0.0")


def test_serials_rise_over_all_nodes_and_cohorts(site: Site) -> None:
    sha256 = publish(site.house, packed(site, "1.0.0")).sha256
    change = Change(models=(wish("tiny=1.0.0:stage"),), window="22:00-05:00")
    assert [
        move(site.house, change, node="a").serial,
        move(site.house, change, cohort="ward").serial,
        move(site.house, Change(models=(wish(f"tiny={sha256[:12]}"),)), node="b").serial,
        move(site.house, Change(without=("tiny",)), node="a").serial,
    ] == [1, 2, 3, 4]
    with site.device() as trust:
        trust.refresh()
        for name, serial in (("a", 4), ("ward", 2), ("b", 3)):
            state = json.loads(trust.desired(f"desired/{name}.json"))
            assert state["serial"] == serial
            assert set(state.get("models", {})) == (set() if name == "a" else {"tiny"})
    with pytest.raises(Rejected, match="a cohort has this name"):
        move(site.house, change, node="ward")


def test_a_configuration_comes_down_signed(site: Site) -> None:
    file = site.root / "config.toml"
    file.write_text("[node]\n")
    state = move(site.house, Change(config=file), node="a")
    assert state.config is not None
    _, content = fetched(site, f"configs/{state.config.sha256}.toml")
    assert content == file.read_bytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(expires="tomorrow"), "desired/a.json: expires: expected a time"),
        (Change(models=(wish("tiny=1.0.0"),), window="25:00-26:00"), "tiny.window: expected a win"),
        (Change(models=(wish("tiny=1.0.0"),), window="x" * 65), "length <= 64"),
    ],
)
def test_what_a_device_would_refuse_is_not_published(
    site: Site, change: Change, words: str
) -> None:
    publish(site.house, packed(site, "1.0.0"))
    with pytest.raises(Rejected, match=words):
        move(site.house, change, node="a")
    assert "nodes" not in site.house.open().names()


@pytest.mark.parametrize("text", ["tiny", "tiny=", "tiny=1.0.0:now", "Tiny=1.0.0", "=1.0.0"])
def test_a_wish_that_is_none_is_said(text: str) -> None:
    with pytest.raises(Rejected, match="expected NAME=VERSION"):
        wish(text)


def test_what_a_cut_left_half_published_is_overwritten(site: Site) -> None:
    publish(site.house, packed(site, "1.0.0"))
    stale = site.folder / "metadata" / "2.models-tiny.json"
    stale.write_bytes(b"left by a cut")
    done = publish(site.house, packed(site, "1.1.0", fault="blind"))
    fetched(site, f"models/tiny/{done.sha256}.eam")
    assert stale.read_bytes() != b"left by a cut"


def test_old_metadata_is_swept_and_every_root_stays(site: Site) -> None:
    rotate(site.house, "root-1")
    for _ in range(KEPT + 3):
        renew(site.house)
    metadata = site.folder / "metadata"
    assert len(list(metadata.glob("*.snapshot.json"))) == KEPT
    assert len(list(metadata.glob("*.root.json"))) == 2
    with site.device() as trust:
        assert trust.refresh().snapshot == KEPT + 4


def test_only_one_publishes_at_a_time(site: Site) -> None:
    with site.house.change(), pytest.raises(Rejected, match="another publisher"):
        renew(site.house)


def test_without_its_key_nothing_is_signed_and_nothing_changes(site: Site) -> None:
    publish(site.house, packed(site, "1.0.0"))
    newer = packed(site, "1.1.0", fault="blind")
    before = (site.folder / "metadata" / "timestamp.json").read_bytes()
    key = site.keys.folder / "models-tiny.pem"
    content = key.read_bytes()
    key.unlink()
    with pytest.raises(Rejected, match=r"models-tiny.pem is not in"):
        publish(site.house, newer)
    site.keys.make("models-tiny")
    with pytest.raises(Rejected, match=r"is models-tiny.pem the key of this repository"):
        publish(site.house, newer)
    assert (site.folder / "metadata" / "timestamp.json").read_bytes() == before
    key.write_bytes(content)
    publish(site.house, newer)


def test_the_offline_keys_are_not_needed_from_day_to_day(site: Site) -> None:
    publish(site.house, packed(site, "1.0.0"))
    for name in ("root-1", "root-2", "root-3", "targets"):
        (site.keys.folder / f"{name}.pem").rename(site.root / f"{name}.pem")
    publish(site.house, packed(site, "1.1.0", fault="blind"))
    assert renew(site.house) == []
    site.time.forward(days=340)
    assert renew(site.house) == ["targets ends 2027-11-25; its key is away"]
    with pytest.raises(Rejected, match="0 root keys are here"):
        rotate(site.house, "timestamp")


@pytest.mark.parametrize("name", ["root-1", "targets", "snapshot", "timestamp", "models-tiny"])
def test_every_key_can_be_rotated_and_a_cut_rotation_goes_on(site: Site, name: str) -> None:
    done = publish(site.house, packed(site, "1.0.0"))
    fetched(site, f"models/tiny/{done.sha256}.eam")
    old = site.keys.signer(name).public_key.keyid
    site.keys.successor(name)  # as far as a cut let it come
    rotate(site.house, name)
    assert site.keys.signer(name).public_key.keyid != old
    assert not site.keys.has(f"{name}.next")
    fetched(site, f"models/tiny/{done.sha256}.eam")
    publish(site.house, packed(site, "1.1.0", fault="blind"))


def test_a_lost_root_key_is_replaced_by_the_two_others(site: Site) -> None:
    (site.keys.folder / "root-2.pem").unlink()
    assert rotate(site.house, "root-2") == 2
    assert rotate(site.house, "root-1") == 3
    with pytest.raises(Rejected, match="expected one of root-1"):
        rotate(site.house, "nobody")


def test_a_key_that_others_may_read_is_not_used(site: Site) -> None:
    (site.keys.folder / "snapshot.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="may be read by others"):
        renew(site.house)


def test_the_verbs_do_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--repository", str(tmp_path / "r"), "--keys", str(tmp_path / "k")]
    inside = ["--repository", str(tmp_path / "r"), "--keys", str(tmp_path / "r" / "keys")]
    assert main(["keys", "init", *inside]) == 1
    assert "lie in the folder that is served" in capsys.readouterr().err
    assert main(["keys", "init", *where]) == 0
    assert "1.root.json" in capsys.readouterr().out
    assert main(["keys", "init", *where]) == 1
    assert "there is one already" in capsys.readouterr().err
    folder = write_package(tmp_path / "models")
    assert main(["publish", *where, str(folder)]) == 0
    assert capsys.readouterr().out.startswith("tiny 1.0.0 ")
    assert main(["desired", *where, "--node", "a", "--model", "tiny=1.0.0"]) == 0
    assert json.loads(capsys.readouterr().out)["serial"] == 1
    assert main(["desired", *where, "--model", "tiny=1.0.0"]) == 1
    assert main(["sign", *where]) == 0
    assert main(["keys", "rotate", *where, "timestamp"]) == 0
    assert "root is at version 2" in capsys.readouterr().out
    assert main(["withdraw", *where, "tiny=1.0.0"]) == 0
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "k").iterdir()} == {0o600}
    with pytest.raises(Rejected, match="not there"):
        Repository(tmp_path / "none", Repository(tmp_path, None).keys).open()  # type: ignore[arg-type]
