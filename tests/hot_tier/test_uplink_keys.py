"""The verbs that make, change and enrol keys, from both ends."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_agent.cli import main as cli
from edge_agent.config.structs import UplinkConfig
from edge_agent.core.errors import EdgeAgentError, LinkDenied
from edge_agent.core.public_keys import line
from edge_agent.core.wire import Need
from edge_agent.core.wire import envelope as envelopes
from edge_agent.core.wire.envelope import Envelope
from edge_agent.core.wire.sealing import RoadKeys
from edge_agent.links.road_keys import read_keys
from tests.hot_tier.wire import batch
from tools.hot_tier import __main__ as command
from tools.hot_tier import uplink_keys
from tools.hot_tier.gate import Keys, Unproven

NODE = "a"


def tier(folder: Path, **given: Any) -> Keys:
    options = {"uplink_keys": folder / "keys", "nodes": folder / "nodes", "require_signed": True}
    return uplink_keys.load(argparse.Namespace(**{**options, **given}))


def hot(*words: str | Path) -> int:
    return command.main([str(word) for word in words])


def device_key(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    (folder / "state").mkdir(exist_ok=True)
    where = ("--set", f"state_dir={folder / 'state'}", "--set", f"node={NODE}")
    (folder / "c.toml").write_text("")
    capsys.readouterr()
    code = cli.main(["uplink", "key", "--json", "--config", str(folder / "c.toml"), *where, *words])
    said = capsys.readouterr()
    return msgspec.json.decode(said.out) if code == 0 else (code, said.err)


def edge(folder: Path) -> RoadKeys:
    pinned = str(folder / "keys" / "hot-tier.pub")
    config = UplinkConfig(seal=True, sign=True, hot_tier_keys=pinned)
    return read_keys(config, folder / "state" / "uplink.key")


def taken(keys: Keys, sent: bytes) -> Envelope | Need:
    came, _ = envelopes.decode(sent)
    assert isinstance(came, Envelope)
    return keys.gate.admit(came)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert hot("uplink-keys", tmp_path / "keys") == 0
    key = device_key(tmp_path, capsys)
    assert hot("trust-node", "--nodes", tmp_path / "nodes", NODE, key["key"]) == 0
    return tmp_path


def test_keys_are_made_once_are_private_and_meet(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = [*(site / "keys").glob("*.pem"), site / "state" / "uplink.key"]
    assert [path.stat().st_mode & 0o777 for path in private] == [0o600] * 3
    before = [path.read_bytes() for path in private]
    assert hot("uplink-keys", site / "keys") == 0
    key = device_key(site, capsys)
    assert [path.read_bytes() for path in private] == before
    assert key["node"] == NODE
    assert key["id"] == edge(site).protection.signer.id.hex()  # type: ignore[union-attr]
    admitted = taken(tier(site), edge(site).protection.encode(batch(1, 3)))
    assert isinstance(admitted, Envelope)
    assert admitted.body == batch(1, 3).body
    assert "PRIVATE" not in str(key) + (site / "keys" / "hot-tier.pub").read_text()


def test_each_key_is_changed_while_both_count(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What goes up or down at any step is taken there: made, brought to the other side, retired."""
    pinned = site / "keys" / "hot-tier.pub"
    old = pinned.read_bytes()

    def meet() -> None:
        keys, here = tier(site), edge(site)
        assert isinstance(taken(keys, here.protection.encode(batch(1, 3))), Envelope)
        assert keys.signer is not None
        assert here.verifier is not None
        assert here.verifier.verify(keys.signer.id, keys.signer.sign(b"m"), b"m")

    assert hot("uplink-keys", site / "keys", "--next", "sign") == 0
    assert hot("uplink-keys", site / "keys", "--next", "seal") == 0
    new = pinned.read_bytes()
    for content in (old, new):  # before and after the device has it
        pinned.write_bytes(content)
        meet()
    for name in ("sign-1", "seal-1"):
        assert hot("uplink-keys", site / "keys", "--retire", name) == 0
        meet()
    follower = device_key(site, capsys, "--next")
    assert follower["key"] != device_key(site, capsys)["key"]
    meet()
    assert hot("trust-node", "--nodes", site / "nodes", NODE, follower["key"]) == 0
    meet()
    assert device_key(site, capsys, "--succeed")["key"] == follower["key"]
    meet()
    assert hot("trust-node", "--nodes", site / "nodes", "--only", NODE, follower["key"]) == 0
    meet()
    (site / "state" / "uplink.key.retired-1").replace(site / "state" / "uplink.key")
    with pytest.raises(Unproven, match="not enrolled"):
        meet()


def test_the_last_key_is_not_retired_and_none_is_succeeded_by_nothing(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hot("uplink-keys", site / "keys", "--retire", "sign-1") == 1
    assert "it is the only one" in capsys.readouterr().err
    assert hot("uplink-keys", site / "keys", "--retire", "../x") == 1
    code, words = device_key(site, capsys, "--succeed")
    assert code == 6
    assert "--next" in words
    assert isinstance(taken(tier(site), edge(site).protection.encode(batch(1, 1))), Envelope)


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"])
def test_a_damaged_key_of_the_device_is_refused_and_stays(
    site: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    path = site / "state" / "uplink.key"
    path.write_bytes(content)
    code, words = device_key(site, capsys)
    assert code == 6
    assert "restore it" in words
    assert path.read_bytes() == content
    with pytest.raises(LinkDenied, match="private key as PEM"):
        edge(site)


def test_keys_and_nodes_as_a_cluster_mounts_them(site: Path) -> None:
    """Links into a folder that is exchanged whole; readable by a group."""
    for name, files in (("keys", "*.pem"), ("nodes", "*.pub")):
        first, mount = site / name / "..first", site / f"{name}-mount"
        first.mkdir()
        for file in (site / name).glob(files):
            file.chmod(0o440)
            file.rename(first / file.name)
        mount.mkdir()
        (mount / "..data").symlink_to(first)
        for file in first.iterdir():
            (mount / file.name).symlink_to(f"..data/{file.name}")
    keys = tier(site, uplink_keys=site / "keys-mount", nodes=site / "nodes-mount")
    sent = edge(site).protection.encode(batch(1, 1))
    assert isinstance(taken(keys, sent), Envelope)
    second = site / "nodes" / "..second"
    second.mkdir()
    (second / "a.pub").write_text(f"{line('sign', bytes(32))}\n")
    (site / "nodes-mount" / "..new").symlink_to(second)
    (site / "nodes-mount" / "..new").replace(site / "nodes-mount" / "..data")
    with pytest.raises(Unproven):
        taken(keys, sent)


def test_a_key_that_others_may_read_is_refused(site: Path) -> None:
    for path in (site / "state" / "uplink.key", site / "keys" / "seal-1.pem"):
        path.chmod(0o644)
    with pytest.raises(LinkDenied, match="hidden from others"):
        edge(site)
    with pytest.raises(EdgeAgentError, match="hidden from others"):
        tier(site)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "got none"),
        (b"seal " + b"A" * 43 + b"=", "a key to sign"),
        (b"sign " + b"A" * 43 + b"=", "a key to seal"),
        (b"sign " + b"A" * 43 + b"=\nseal " + b"A" * 43 + b"=", "an X25519 key"),  # of low order
    ],
)
def test_a_pinned_file_that_will_not_do_is_told_with_the_way_out(
    site: Path, content: bytes | None, words: str
) -> None:
    pinned = site / "keys" / "hot-tier.pub"
    pinned.unlink() if content is None else pinned.write_bytes(content)
    with pytest.raises(LinkDenied, match=words):
        edge(site)


def test_what_a_hot_tier_is_given_has_to_go_together(site: Path) -> None:
    for given in ({"nodes": None}, {"nodes": site / "no"}, {"uplink_keys": site / "nodes"}):
        with pytest.raises(EdgeAgentError):
            tier(site, **given)
    assert hot("trust-node", "--nodes", site / "nodes", "../b", "A" * 43 + "=") == 1
    assert hot("trust-node", "--nodes", site / "nodes", "b", "short") == 1
    assert not (site / "nodes" / "b.pub").exists()


def test_uplink_test_says_which_keys_are_used(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = site / "keys" / "hot-tier.pub"
    where = ("--set", f"state_dir={site / 'state'}", "--set", "uplink.port=1")
    on = ("uplink.seal=true", "uplink.sign=true", f"uplink.hot_tier_keys={pinned}")
    more = [word for one in on for word in ("--set", one)]

    def step(*words: str) -> Any:
        capsys.readouterr()
        cli.main(["uplink", "test", "--json", "--config", str(site / "c.toml"), *where, *words])
        steps = msgspec.json.decode(capsys.readouterr().out)["checks"]
        return next((one for one in steps if one["name"] == "keys"), None)

    assert step() is None
    used = step(*more)
    here = edge(site)
    assert here.verifier is not None
    for key in (here.protection.sealer, here.protection.signer):
        assert key is not None
        assert key.id.hex() in used["what"]
    assert (used["status"], here.verifier.ids[0].hex() in used["what"]) == ("pass", True)
    pinned.write_text("sign x")
    assert step(*more)["status"] == "fail"
    (site / "state" / "uplink.key").unlink()
    assert step(*more)["status"] == "warn"
