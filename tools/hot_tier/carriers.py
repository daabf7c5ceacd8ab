"""Who may bring whose records. Pure.

A payload says itself who carries it and, in each envelope, whose it is. Where the road tells by
which node's path it came (an MQTT topic, or a Rule that posts to /up/<node>), both have to agree
with it. So what one node sends, by mistake or by force, can be nobody else's. Until peers relay for
each other, a node brings its own alone; one that had another name before is declared by hand.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from edge_agent.core.manifest import NAME_PATTERN

_TOPIC: Final = re.compile(rf"[^/]+/user/edge-agent/({NAME_PATTERN[1:-1]})/up")


class Came(NamedTuple):
    """node: by whose path it came, "" where the road does not tell."""

    node: str
    payload: bytes


class Foreign(NamedTuple):
    """A payload, or an envelope of one, that this path or carrier may not bring."""

    node: str
    carrier: str
    origin: str

    def words(self) -> str:
        if self.node and self.carrier != self.node:
            return f"payloads by the path of {self.node} say that they are of {self.carrier}"
        return f"{self.carrier} brings envelopes of {self.origin}"


def node_of(topic: str) -> str:
    """By whose path a message came; "" where the topic does not tell."""
    found = _TOPIC.fullmatch(topic)
    return found[1] if found else ""


def is_node(word: str) -> bool:
    """Whether it can be a node's name at all."""
    return re.fullmatch(NAME_PATTERN[1:-1], word) is not None


def may_carry(node: str, carrier: str, origin: str, *, relays: Collection[str] = ()) -> bool:
    """Whether an envelope of `origin` may come from `carrier`, by the path of `node`.

    node: "" where the road does not tell. relays: carriers that may bring others' records.
    """
    return carrier in (node or carrier, "") and (origin == carrier or carrier in relays)
