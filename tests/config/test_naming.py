"""What the agent and KubeEdge call a machine, and what is said where the host name does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.load import load_text
from edge_agent.config.naming import altered, node_name, renamed
from edge_agent.config.samples import sample
from edge_agent.config.structs import Config, UplinkConfig
from edge_agent.core.kubeedge import UNUSABLE_HOST, OptionalNode, default_node, is_node
from tests import house

HOSTS = st.text(st.sampled_from("abcXYZ019-._ ü\n/"), max_size=70)


@pytest.mark.parametrize(
    ("host", "what"),
    [
        ("Ward.3", "a dot of the host name was replaced"),
        ("ward_3.b", "an underscore and a dot of the host name were replaced"),
        ("wärd", "a sign other than a-z, 0-9 and - of the host name was replaced"),
        ("-ward", "what the host name begins with was left out"),
        ("w" * 64, "the host name was cut to 63 characters"),
        ("--", "the host name has no letter and no digit"),
        ("", "the host name has no letter and no digit"),
        ("Ward-3", ""),
        ("LocalHost", "the host name is localhost, as that of every machine that was given none"),
    ],
)
def test_what_a_host_name_lost_is_told(host: str, what: str) -> None:
    assert altered(host) == what
    found = list(renamed(Config(), host))
    assert bool(found) == bool(what)
    assert all(flaw.severity == "warn" and node_name(host) in flaw.message for flaw in found)
    assert not list(renamed(Config(node="cart-3"), host))


@given(HOSTS, HOSTS)
def test_two_hosts_of_one_node_differ_in_capitals_or_are_told(one: str, other: str) -> None:
    if node_name(one) == node_name(other) and one.lower() != other.lower():
        assert altered(one) or altered(other)


@given(HOSTS)
def test_a_kubeedge_name_is_safe_in_a_url_and_in_a_config(name: str) -> None:
    try:
        msgspec.convert(name, OptionalNode)
    except msgspec.ValidationError:
        assert name
        assert not is_node(name)
        return
    assert not name or is_node(name)
    assert not set(name) & set("/ \n%?#")
    assert ".." not in name
    assert load_text("", overrides=[f'uplink.kubeedge_node="{name}"']).errors == ()


@pytest.mark.parametrize("name", ["a/b", "a..b", "-a", "a-", "A.b", "a\n", "a" * 254, "ward_3"])
def test_what_is_no_node_of_kubernetes_is_refused(name: str) -> None:
    assert not is_node(name)
    loaded = load_text("[uplink]\nkubeedge_node = " + json.dumps(name))
    assert [problem.key for problem in loaded.errors] == ["uplink.kubeedge_node"]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"kubeedge_node": name}, UplinkConfig)


def test_edgecore_falls_back_where_the_host_name_is_no_node() -> None:
    assert default_node(" Ward.3\n") == "ward.3"
    assert default_node("Ward_3") == UNUSABLE_HOST


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_ward_dot_3_is_told_by_config_check(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(sample("demo"), "utf-8")
    check = [sys.executable, "-m", "edge_agent", "config", "check", "--config", str(file)]
    for host, said in (("Ward.3", True), ("ward-3", False)):
        inner = 'hostname "$0" && exec "$@"'
        found = subprocess.run(
            ["unshare", "-u", "bash", "-c", inner, host, *check],
            cwd=house.ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "unshare" in found.stderr or "hostname" in found.stderr:
            pytest.skip("may not make a namespace here")
        assert ("a dot of the host name was replaced" in found.stdout) == said, found.stdout
        assert found.returncode == (4 if said else 0)
