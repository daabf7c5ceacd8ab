"""What DeviceTwin answers, case by case, as the running one did and as its source has it."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from edge_agent.core import edgecore
from edge_agent.core.edgecore import Topics, TwinAnswer
from tools.edgecore.devices import Devices

NODE = Topics.of("default", "cart-3")
UPDATE, GET = NODE.of_device("twin/update"), NODE.of_device("twin/get")
SHORT = "$hw/events/device//twin/update/result"
UNKNOWN = "$hw/events/device/default/nobody/twin/update"
KNOWN = b"""{"event_id":"k","twin":{
    "n":{"actual":{"value":"1"},"metadata":{"type":"int"}},
    "s":{"actual":{"value":"x"}},
    "fixed":{"actual":{"value":"1"},"optional":false}}}"""


def devices() -> Devices:
    """With a device that has an int, a string and a property that is not optional."""
    made = Devices("cart-3", ("default/cart-3",))
    made.handle(UPDATE, KNOWN, 5)
    return made


def ask(payload: bytes, topic: str = UPDATE) -> tuple[str, dict[str, Any], int, Devices]:
    """Topic and content of the first answer, how many went to the cloud, and what it did it."""
    here = devices()
    answers, cloud = here.handle(topic, payload, 7)
    return answers[0][0], json.loads(answers[0][1]), len(cloud), here


def one(name: str, said: str) -> bytes:
    return b'{"event_id":"e","timestamp":3,"twin":{"%s":%s}}' % (name.encode(), said.encode())


def value(value: str, kind: str | None = None) -> str:
    metadata = f',"metadata":{{"type":"{kind}"}}' if kind is not None else ""
    return f'{{"actual":{{"value":"{value}"}}{metadata}}}'


CANNOT_BE_READ = [
    b"no json",
    b"",
    b"[]",
    b"{}",
    b'{"event_id":"e","twin":null}',
    b'{"event_id":"e","twin":[]}',
    b'{"event_id":7,"twin":{}}',
    b'{"event_id":"e","timestamp":"now","twin":{}}',
    one("a", '{"actual":{"value":1}}'),
    one("a", '"x"'),
    one("a b", value("1")),
    one("", value("1")),
    one("a" * 129, value("1")),
    one("a", value("{}")),
    one("a", value("a+b")),
    one("a", value("1" * 513)),
    one("a", '{"expected":{"value":"a b"}}'),
    b'{"event_id":"e","twin":{"a":{"actual":{"value":"\xff"}}}}',
]


@pytest.mark.parametrize("payload", CANNOT_BE_READ)
@pytest.mark.parametrize("topic", [UPDATE, UNKNOWN])
def test_what_cannot_be_read_is_answered_one_level_shorter_without_the_event_id(
    payload: bytes, topic: str
) -> None:
    where, said, told, here = ask(payload, topic)
    assert (where, said["event_id"], said["code"], told) == (SHORT, "", 400, 0)
    read = edgecore.read(NODE, where, json.dumps(said).encode())
    assert isinstance(read, TwinAnswer)
    assert read.code == 400
    assert here.devices["default/cart-3"].twin == devices().devices["default/cart-3"].twin


DOES_NOT_FIT = [
    one("a", value("x", "int")),
    one("a", value("1.5", "int")),
    one("a", value("1_000", "int")),
    one("a", value(str(1 << 63), "integer")),
    one("a", value("x", "float")),
    one("a", value("1e999", "double")),
    one("a", value("yes", "boolean")),
    one("a", value("1", "number")),
    one("a", value("1", "Updated")),
    one("a", value("", "int")),
    one("n", value("x")),
    one("n", value("1.5", "float")),
    b'{"event_id":"e","twin":{"s":{"actual":{"value":"y"}},"n":{"actual":{"value":"no"}}}}',
]


@pytest.mark.parametrize("payload", DOES_NOT_FIT)
def test_a_value_that_is_not_of_its_type_is_answered_in_full_and_nothing_of_it_is_taken(
    payload: bytes,
) -> None:
    where, said, told, here = ask(payload)
    assert (where, said["event_id"], said["code"], told) == (f"{UPDATE}/result", "e", 400, 0)
    read = edgecore.read(NODE, where, json.dumps(said).encode())
    assert isinstance(read, TwinAnswer)
    assert (read.event_id, read.code) == ("e", 400)
    assert here.devices["default/cart-3"].twin == devices().devices["default/cart-3"].twin


TAKEN: list[tuple[bytes, dict[str, Any]]] = [
    (one("a", value("-7", "int")), {"a": "-7"}),
    (one("a", value("3", "integer")), {"a": "3"}),
    (one("a", value("1e-3", "float")), {"a": "1e-3"}),
    (one("a", value("NaN", "double")), {"a": "NaN"}),
    (one("a", value("true", "boolean")), {"a": "true"}),
    (one("a", value("x", "")), {"a": "x"}),
    (one("a", value("x", "bytes")), {"a": "x"}),
    (one("a", value("x")), {"a": "x"}),
    (one("s", value("y", "int")), {"s": "y"}),  # it keeps the type that it was made with
    (one("n", value("2", "Updated")), {"n": "2"}),
    (one("a", value("")), {"a": None}),
    (one("s", value("")), {"s": ""}),
    (one("a", "{}"), {"a": None}),
    (one("s", "{}"), {}),
    (b'{"event_id":"e","twin":{}}', {}),
    (one("gone", "null"), {}),
    (one("fixed", "null"), {}),
    (one("n", "null"), {"n": ...}),
]


@pytest.mark.parametrize(("payload", "expected"), TAKEN)
def test_what_it_takes_is_answered_without_a_code_with_what_has_changed(
    payload: bytes, expected: dict[str, Any]
) -> None:
    where, said, told, _ = ask(payload)
    assert (where, said["event_id"], "code" in said) == (f"{UPDATE}/result", "e", False)
    got = {
        key: ... if side is None else side.get("actual", {}).get("value")
        for key, side in said["twin"].items()
    }
    assert got == expected
    assert told == bool(expected), "only what has changed goes up"
    read = edgecore.read(NODE, where, json.dumps(said).encode())
    assert isinstance(read, TwinAnswer)
    assert (read.event_id, read.code) == ("e", 0)


def test_a_null_entry_deletes_and_a_new_value_brings_it_back_with_its_own_type() -> None:
    here = devices()
    here.handle(UPDATE, one("n", "null"), 6)
    answers, _ = here.handle(GET, b'{"event_id":"g"}', 7)
    assert set(json.loads(answers[0][1])["twin"]) == {"s", "fixed"}
    here.handle(UPDATE, one("n", value("1.5", "float")), 8)
    answers, _ = here.handle(GET, b'{"event_id":"g"}', 9)
    side = json.loads(answers[0][1])["twin"]["n"]
    assert (side["actual"]["value"], side["metadata"]["type"]) == ("1.5", "float")


def test_a_device_that_there_is_not_is_404_before_its_values_are_looked_at() -> None:
    where, said, told, _ = ask(one("a", value("x", "int")), UNKNOWN)
    assert (where, said["event_id"], said["code"], told) == (f"{UNKNOWN}/result", "e", 404, 0)


def test_a_get_that_cannot_be_read_is_answered_on_the_full_topic_without_the_event_id() -> None:
    where, said, _, _ = ask(b"no json", GET)
    assert (where, said["event_id"], said["code"]) == (f"{GET}/result", "", 400)


def test_the_document_has_what_was_and_what_is() -> None:
    answers, _ = devices().handle(UPDATE, one("n", value("2")), 7)
    topic, content = answers[1]
    said = json.loads(content)
    assert (topic, said["event_id"]) == (f"{UPDATE}/document", "e")
    pair = said["twin"]["n"]
    assert (pair["last"]["actual"]["value"], pair["current"]["actual"]["value"]) == ("1", "2")


def test_what_is_expected_and_not_so_is_told_as_a_delta() -> None:
    answers, _ = devices().handle(UPDATE, one("n", '{"expected":{"value":"9"}}'), 7)
    topic, content = answers[-1]
    assert topic == f"{UPDATE}/delta"
    assert json.loads(content)["delta"] == {"n": "9"}


def test_the_cloud_gets_each_property_with_the_version_of_the_edge() -> None:
    _, cloud = devices().handle(UPDATE, one("n", value("2")), 7)
    said = json.loads(cloud[0][1])
    assert cloud[0][0] == "device/default/cart-3/twin/edge_updated"
    assert said["twin"]["n"]["actual_version"] == {"cloud": 0, "edge": 2}
    assert uuid.UUID(said["event_id"]).version == 4


def test_a_state_has_a_fresh_event_id_and_goes_up_as_json_in_a_json_string() -> None:
    here, topic = devices(), NODE.of_device("state/update")
    payload = b'{"event_id":"mine","state":"online"}'
    (where, content), (told, up) = (
        side[0] for side in here.handle(topic, payload, 1_700_000_000_000)
    )
    said = json.loads(content)
    assert (where, told) == (f"{topic}/result", "device/default/cart-3/state/update")
    assert uuid.UUID(said["event_id"]).version == 4
    assert said["device"]["lastOnlineTime"] == "2023-11-14T22:13:20Z"
    assert json.loads(json.loads(up)) == said
    again, _ = here.handle(topic, payload, 5)
    assert json.loads(again[0][1])["event_id"] != said["event_id"]
    for state in (b'"degraded"', b'"Online"', b"7", b"null"):
        assert here.handle(topic, b'{"state":%s}' % state, 5) == ([], [])
