"""The manifests for KubeEdge: their shapes, what they name of each other, and where messages go."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from edge_agent.config.check_uplink import EDGECORE_PORT, PLAIN_PORT
from edge_agent.core.edgecore import Topics
from edge_agent.core.kubeedge import is_node
from edge_agent.core.twin import PROPERTIES
from edge_agent.core.wire.armour import MAX_BUNDLE_CHARS
from tests import house
from tests.edgecore.router import Published, posted_to, published
from tests.edgecore.shapes import KINDS, flaws
from tools.bench.rig.brokers import broker
from tools.faulting.broker import MOSQUITTO
from tools.hot_tier.roads import DOWN

FOLDER = house.ROOT / "config" / "kubeedge"
TOPICS = Topics.of("default", "cart-3")
NS = "default"
CLOUDCORE = {"k8s-app": "kubeedge", "kubeedge": "cloudcore"}  # the labels that its chart gives it
DNS_NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
Manifest = dict[str, Any]


@cache
def manifests() -> list[Manifest]:
    texts = [path.read_text("utf-8") for path in sorted(FOLDER.glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def of_kind(kind: str, among: list[Manifest] | None = None) -> list[Manifest]:
    return [one for one in (manifests() if among is None else among) if one["kind"] == kind]


def named(kind: str, name: str) -> Manifest:
    (found,) = (one for one in of_kind(kind) if one["metadata"]["name"] == name)
    return found


def written(nodes: str, namespace: str = NS) -> subprocess.CompletedProcess[str]:
    """What nodes.sh makes of a list."""
    command = ["sh", str(FOLDER / "nodes.sh"), namespace]
    return subprocess.run(command, input=nodes, capture_output=True, text=True, check=False)


def receiver() -> Manifest:
    """The container of the hot tier."""
    (pod,) = (one["spec"]["template"]["spec"] for one in of_kind("Deployment"))
    (container,) = pod["containers"]
    return dict(container)


# ── each by itself ────────────────────────────────────────────────────────────────────────────


def test_each_manifest_fits_its_definition() -> None:
    assert len(manifests()) == 12
    for manifest in manifests():
        schema = KINDS[f"{manifest['apiVersion']} {manifest['kind']}"]
        assert list(flaws(manifest["spec"], schema, manifest["kind"])) == []
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        metadata = manifest["metadata"]
        assert set(metadata) <= {"name", "namespace", "labels"}
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "edge-agent"
        assert re.fullmatch(DNS_NAME, metadata["name"])


def test_only_what_is_cloudcore_s_names_its_namespace() -> None:
    for manifest in manifests():  # all others take that of `kubectl -n`
        ours = manifest["metadata"]["name"] == "cloudcore-router"
        assert manifest["metadata"].get("namespace") == ("kubeedge" if ours else None)


@pytest.mark.parametrize(
    ("kind", "spec", "flaw"),
    [
        ("rules.kubeedge.io/v1 Rule", {"source": "a"}, "X.sourceResource: missing"),
        ("rules.kubeedge.io/v1 Rule", {"sourceResource": {"topic": 5}},
         "X.sourceResource.topic: no text"),
        ("rules.kubeedge.io/v1 Rule", {"topic": "a"}, "X.topic: unknown"),
        ("rules.kubeedge.io/v1 Rule", {"source": 1}, "X.source: expected string, got 1"),
        ("v1 Service", {"ports": [{"port": "1"}]}, "X.ports[0].port: expected integer, got '1'"),
        ("v1 Service", {"selectors": {}}, "X.selectors: unknown"),
        ("apps/v1 Deployment", {"template": {"spec": {"containers": [{"cmd": []}]}}},
         "X.template.spec.containers[0].cmd: unknown"),
        ("networking.k8s.io/v1 NetworkPolicy", {"ingress": [{"from": [{"pods": 1}], "ports": []}]},
         "X.ingress[0].from[0].pods: unknown"),
    ],
)  # fmt: skip
def test_the_check_finds_what_is_wrong(kind: str, spec: Manifest, flaw: str) -> None:
    assert flaw in list(flaws(spec, KINDS[kind], "X"))


def test_the_device_has_every_property_of_the_twin_and_no_other() -> None:
    (model,), (device,) = of_kind("DeviceModel"), of_kind("Device")
    assert device["spec"]["deviceModelRef"]["name"] == model["metadata"]["name"]
    listed = {each["name"]: each for each in model["spec"]["properties"]}
    assert {name: each["type"].lower() for name, each in listed.items()} == {
        name: kind for name, (kind, _) in PROPERTIES.items()
    }
    assert {name: each["description"] for name, each in listed.items()} == {
        name: words for name, (_, words) in PROPERTIES.items()
    }
    assert [each["name"] for each in device["spec"]["properties"]] == list(PROPERTIES)
    assert f"$hw/events/device/default/{device['metadata']['name']}/x" == TOPICS.of_device("x")


# ── of each other ─────────────────────────────────────────────────────────────────────────────


def test_rules_join_endpoints_that_are_there_in_an_order_that_is_allowed() -> None:
    endpoints = {
        endpoint["metadata"]["name"]: endpoint["spec"]["ruleEndpointType"]
        for endpoint in of_kind("RuleEndpoint")
    }
    ways = {
        (endpoints[rule["spec"]["source"]], endpoints[rule["spec"]["target"]])
        for rule in of_kind("Rule")
    }
    assert ways == {("eventbus", "rest"), ("rest", "eventbus")}


def test_the_hot_tier_is_found_by_its_service_and_keeps_its_data() -> None:
    (deployment,), service = of_kind("Deployment"), named("Service", "hot-tier")["spec"]
    spec, container = deployment["spec"], receiver()
    pod, labels = spec["template"]["spec"], spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert service["selector"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert container["readinessProbe"]["tcpSocket"]["port"] in ports
    assert f"--http={ports['http']}" in container["args"]
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (database,) = (arg[5:] for arg in container["args"] if arg.startswith("--db="))
    claim = claims[mounts[str(Path(database).parent)]]
    assert named("PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")


def test_the_hot_tier_runs_as_nobody_in_particular_and_in_bounds() -> None:
    (deployment,), container = of_kind("Deployment"), receiver()
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    said = (FOLDER / "Containerfile").read_text("utf-8")
    assert container["image"] in said  # nobody publishes it: the recipe is there
    assert f"USER {pod['securityContext']['runAsUser']}:" in said


def test_the_command_of_the_container_runs(tmp_path: Path) -> None:
    """As it stands there, but for the paths, the port, and the one address it may listen on."""
    container = receiver()
    words = [*container["command"][1:], *container["args"], "--bind=127.0.0.1", "--http=0"]
    words = [word.replace("=/data/", f"={tmp_path}/").replace("$(NAMESPACE)", NS) for word in words]
    with subprocess.Popen([sys.executable, *words], cwd=house.ROOT, stdout=subprocess.PIPE) as tier:
        assert tier.stdout is not None
        ready = json.loads(tier.stdout.readline())
        tier.terminate()
    assert ready["road"].startswith("http://127.0.0.1:")
    assert tier.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"hot-tier.db", "sheet.json"}


def test_policies_let_through_what_has_to_and_nothing_else() -> None:
    (deployment,) = of_kind("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    tier, door = named("NetworkPolicy", "hot-tier"), named("NetworkPolicy", "cloudcore-router")
    assert tier["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert door["spec"]["podSelector"]["matchLabels"].items() <= CLOUDCORE.items()
    (into,) = tier["spec"]["ingress"]
    assert [port["port"] for port in into["ports"]] == ["http"]
    for peers in (into["from"], tier["spec"]["egress"][0]["to"]):
        pod, machine = peers
        assert pod["podSelector"]["matchLabels"].items() <= CLOUDCORE.items()
        assert set(pod["namespaceSelector"]["matchLabels"].values()) == {"kubeedge"}
        assert machine["ipBlock"]["cidr"].startswith("192.0.2.")  # of documentation: to replace
    first, second = door["spec"]["ingress"]
    (peer,) = first["from"]
    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    assert [port["port"] for port in first["ports"]] == [9443]
    for port in second["ports"]:  # open to all: never the REST door
        assert not port["port"] <= 9443 <= port.get("endPort", port["port"])


def test_the_router_s_url_is_that_of_its_service() -> None:
    service = named("Service", "cloudcore-router")
    assert service["spec"]["selector"].items() <= CLOUDCORE.items()
    (url,) = (arg[9:] for arg in receiver()["args"] if arg.startswith("--router="))
    parts = urlsplit(url)
    assert parts.hostname == f"cloudcore-router.{service['metadata']['namespace']}.svc"
    assert parts.port in [port["port"] for port in service["spec"]["ports"]]


# ── where messages go ─────────────────────────────────────────────────────────────────────────

LIST = "".join(f"cart-{n}\n" for n in range(1, 30)) + "ward-3   ward.3.site\n"
MACHINES = {**{f"cart-{n}": f"cart-{n}" for n in range(1, 30)}, "ward-3": "ward.3.site"}


@pytest.mark.parametrize("namespace", ["default", "edge-agent"])
def test_thirty_nodes_are_one_list_and_each_road_ends_at_its_own(namespace: str) -> None:
    made = list(yaml.safe_load_all(written(LIST, namespace).stdout))
    assert len(made) == 2 * len(MACHINES)
    for one in made:
        schema = KINDS[f"{one['apiVersion']} {one['kind']}"]
        assert list(flaws(one["spec"], schema, one["kind"])) == []
    rules = [*of_kind("Rule", made), named("Rule", "edge-agent-down")]
    service = named("Service", "hot-tier")["spec"]["ports"][0]
    for node, machine in MACHINES.items():
        topics = Topics.of(namespace, node)
        (url,) = posted_to(rules, namespace, machine, topics.up)
        parts = urlsplit(url)
        assert (parts.scheme, parts.path) == ("http", f"/up/{node}")
        assert parts.hostname == f"hot-tier.{namespace}.svc"
        assert parts.port == service["port"]
        for what in ("ack", "need", "desired", "tuf"):
            uri = "/" + DOWN.format(machine=machine, node=node, ns=namespace, what=what)
            assert published(rules, namespace, uri) == {Published(machine, topics.down(what))}
    devices = {one["metadata"]["name"]: one["spec"]["nodeName"] for one in of_kind("Device", made)}
    assert devices == MACHINES


def test_the_example_is_what_the_list_makes() -> None:
    shown = list(yaml.safe_load_all((FOLDER / "node.yaml").read_text("utf-8")))
    assert list(yaml.safe_load_all(written("cart-3\n").stdout)) == shown
    crossed = yaml.safe_load_all(written("default cart-3\ncart-3 ward.3").stdout)
    assert [one["spec"].get("nodeName") for one in crossed if one["kind"] == "Device"] == [
        "cart-3",
        "ward.3",
    ]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ("", "no node"),
        ("# cart-3\n\n", "no node"),
        ("cart-3\nWard-3\n", "line 2: expected a node"),
        ("ward.3\n", "line 1: expected a node"),
        ("cart-\n", "line 1: expected a node"),
        ("a/../b\n", "line 1: expected a node"),
        ("a b c\n", "expected NODE [MACHINE]"),
        ("a b_c\n", "kubectl get nodes"),
        ("a b/c\n", "kubectl get nodes"),
        ("a\na\n", "a is there already"),
        ("a x\nb x\n", "machine x is there already"),
        ("x" * 64, "line 1: expected a node"),
    ],
)
def test_a_list_that_is_wrong_prints_no_manifest(nodes: str, said: str) -> None:
    made = written(nodes)
    assert (made.returncode != 0, made.stdout) == (True, "")
    assert said in made.stderr


def test_a_list_from_windows_and_one_without_a_last_line_end_are_read() -> None:
    assert written("cart-3\r\nward-3\tward.3\r\n").stdout == written("cart-3\nward-3 ward.3").stdout
    longest = "x" * 63
    assert [one["metadata"]["name"] for one in yaml.safe_load_all(written(longest).stdout)] == [
        f"edge-agent-{longest}-up",
        longest,
    ]
    assert is_node(longest)


def test_a_rule_whose_path_is_a_part_of_ours_takes_half_of_the_answers() -> None:
    """Why the page says that no other Rule of the namespace may have such a path."""
    ours = named("Rule", "edge-agent-down")
    uri = "/" + DOWN.format(machine="cart-3", node="cart-3", ns=NS, what="ack")
    for path in ("/edge", "/e", "/edge-agen{t}"):
        other = {"spec": {"sourceResource": {"path": path}, "targetResource": {"topic": "other"}}}
        assert len(published([ours, other], NS, uri)) == 2
    for path in ("/agent", "/edge-agents", "/down"):
        other = {"spec": {"sourceResource": {"path": path}, "targetResource": {"topic": "other"}}}
        assert len(published([ours, other], NS, uri)) == 1


# ── on the device ─────────────────────────────────────────────────────────────────────────────


def test_edgecore_s_settings_have_the_ports_that_uplink_test_tries() -> None:
    settings = yaml.safe_load((FOLDER / "edge" / "edgecore.yaml").read_text("utf-8"))
    bus = settings["modules"]["eventBus"]
    assert bus["mqttServerInternal"] == f"tcp://127.0.0.1:{EDGECORE_PORT}"
    assert bus["mqttServerExternal"] == f"tcp://127.0.0.1:{PLAIN_PORT}"
    assert bus["mqttMode"] in (0, 1, 2)
    assert bus["mqttSubClientID"] != bus["mqttPubClientID"]
    assert is_node(settings["modules"]["edged"]["hostnameOverride"])


def test_edgecore_s_log_is_bounded_in_a_journal_of_its_own() -> None:
    unit = (FOLDER / "edge" / "edgecore-log.conf").read_text("utf-8")
    journal = (FOLDER / "edge" / "journald@edgecore.conf").read_text("utf-8")
    assert "[Service]\nLogNamespace=edgecore\n" in unit
    assert "\nSystemMaxUse=1G\n" in journal


def test_mosquitto_takes_a_whole_bundle() -> None:
    lines = (FOLDER / "mosquitto.conf").read_text("utf-8").splitlines()
    (limit,) = (int(line.split()[1]) for line in lines if line.startswith("max_packet_size"))
    assert limit >= 262_144 > MAX_BUNDLE_CHARS


@pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")
def test_mosquitto_takes_the_settings_of_the_node_s_broker(tmp_path: Path) -> None:
    with broker(tmp_path) as (name, _):  # raises when it does not answer
        assert name == "mosquitto"
    assert "set_tcp_nodelay true" in (FOLDER / "mosquitto.conf").read_text("utf-8").splitlines()
