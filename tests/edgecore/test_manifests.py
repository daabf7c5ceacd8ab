"""The manifests for KubeEdge fit its resource definitions, and the topics of the agent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.core.edgecore import Topics
from edge_agent.core.twin import PROPERTIES
from tests import house
from tools.bench.rig.brokers import broker
from tools.faulting.broker import MOSQUITTO

FOLDER = house.ROOT / "config" / "kubeedge"
KINDS = json.loads(Path(__file__).with_name("kubeedge_crds.json").read_text("utf-8"))["kinds"]
TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "map": dict,
}
TOPICS = Topics.of("default", "cart-3")


def manifests() -> list[dict[str, Any]]:
    texts = [path.read_text("utf-8") for path in sorted(FOLDER.glob("*.yaml"))]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests() if manifest["kind"] == kind]


def flaws(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Unknown fields are flaws: the API server would drop them without a word."""
    fits = type(value) is TYPES[schema["type"]]  # True is no integer
    if not fits:
        yield f"{where}: expected {schema['type']}, got {value!r}"
    elif "enum" in schema and value not in schema["enum"]:
        yield f"{where}: expected one of {schema['enum']}, got {value!r}"
    elif schema["type"] == "map":
        yield from (f"{where}.{k}: no text" for k, item in value.items() if type(item) is not str)
    elif schema["type"] == "array":
        for n, item in enumerate(value):
            yield from flaws(item, schema["items"], f"{where}[{n}]")
    elif schema["type"] == "object":
        yield from _object(value, schema, where)


def _object(value: dict[str, Any], schema: dict[str, Any], where: str) -> Iterator[str]:
    known = schema["properties"]
    yield from (f"{where}.{name}: missing" for name in schema["required"] if name not in value)
    for name, item in value.items():
        if name in known:
            yield from flaws(item, known[name], f"{where}.{name}")
        else:
            yield f"{where}.{name}: unknown"


def test_each_manifest_fits_its_definition() -> None:
    assert len(manifests()) == 6
    for manifest in manifests():
        schema = KINDS[f"{manifest['apiVersion']} {manifest['kind']}"]
        assert list(flaws(manifest["spec"], schema, manifest["kind"])) == []
        assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
        assert manifest["metadata"]["namespace"] == "default"
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", manifest["metadata"]["name"])


@pytest.mark.parametrize(
    ("spec", "flaw"),
    [
        ({"source": "a"}, "Rule.sourceResource: missing"),
        ({"sourceResource": {"topic": 5}}, "Rule.sourceResource.topic: no text"),
        ({"topic": "a"}, "Rule.topic: unknown"),
        ({"source": 1}, "Rule.source: expected string, got 1"),
    ],
)
def test_the_check_finds_what_is_wrong(spec: dict[str, Any], flaw: str) -> None:
    assert flaw in list(flaws(spec, KINDS["rules.kubeedge.io/v1 Rule"], "Rule"))


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


def test_rules_name_the_topics_of_the_agent() -> None:
    up, down = sorted((rule["spec"] for rule in of_kind("Rule")), key=lambda spec: spec["target"])[
        ::-1
    ]
    source = up["sourceResource"]
    assert f"default/{source['topic']}" == TOPICS.up
    assert source["node_name"] == "cart-3"
    assert f"{down['targetResource']['topic']}/ack" == TOPICS.down("ack")
    assert down["sourceResource"]["path"] == f"/{down['targetResource']['topic']}"


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


@pytest.mark.skipif(MOSQUITTO is None, reason="needs mosquitto")
def test_mosquitto_takes_the_settings_of_the_node_s_broker(tmp_path: Path) -> None:
    with broker(tmp_path) as (name, _):  # raises when it does not answer
        assert name == "mosquitto"
    assert "set_tcp_nodelay true" in (FOLDER / "mosquitto.conf").read_text("utf-8").splitlines()
