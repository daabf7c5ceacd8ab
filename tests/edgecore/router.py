"""What CloudCore's Router does with Rules, said anew in few words. For tests of manifests.

Up, a message is looked up by its exact resource. Down, the URI of a post is compared with the path
of each Rule as a pattern that is anchored at neither end; of those that match, the one that is met
last wins unless it contains the other, and in which order they are met is not told.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Manifest = Mapping[str, Any]
_PARAMETER = re.compile(r"{[-A-Za-z0-9+&@#%?=~_|!:,.;]+}")
_ANY = "[-A-Za-z0-9+&@#%?=~_|!:,.;]+"


class Published(NamedTuple):
    """At which machine, on which topic of its broker."""

    machine: str
    topic: str


def posted_to(rules: Iterable[Manifest], namespace: str, machine: str, topic: str) -> list[str]:
    """URLs to which what an agent publishes on `topic` goes. The Router puts the namespace of the
    Rule in front of its topic.
    """
    return [
        rule["spec"]["targetResource"]["resource"]
        for rule in rules
        if "node_name" in rule["spec"]["sourceResource"]
        and rule["spec"]["sourceResource"]["node_name"] == machine
        and f"{namespace}/{rule['spec']['sourceResource']['topic']}" == topic
    ]


def published(rules: Iterable[Manifest], namespace: str, uri: str) -> set[Published]:
    """What becomes of a POST to CloudCore, whatever order its Rules are met in. Empty: 404."""
    by_path = {
        f"/{namespace}/{_bare(rule['spec']['sourceResource']['path'])}": rule
        for rule in rules
        if "path" in rule["spec"]["sourceResource"]
    }
    matching = [path for path in by_path if re.search(_pattern(path) + "/?", uri)]
    winners = {_winner(order) for order in itertools.permutations(matching)} - {""}
    return {_forwarded(by_path[winner]["spec"], uri) for winner in winners}


def _winner(paths: Iterable[str]) -> str:
    best = ""
    for path in paths:
        if not (best and _contains(path, best)):
            best = path
    return best


def _contains(one: str, other: str) -> bool:
    parts = zip(one.split("/"), other.split("/"), strict=False)
    return all(a == b or _pattern(a) == _pattern(b) for a, b in parts)


def _forwarded(spec: Mapping[str, Any], uri: str) -> Published:
    _, machine, _, rest = uri.split("/", 3)
    tail = rest.removeprefix(_bare(spec["sourceResource"]["path"]))
    topic = spec["targetResource"]["topic"]
    joined = f"{topic.removesuffix('/')}/{tail.removeprefix('/')}" if tail else topic
    return Published(machine, joined)


def _bare(path: str) -> str:
    return path.removeprefix("/").removesuffix("/")


def _pattern(path: str) -> str:
    return _PARAMETER.sub(_ANY, path)
