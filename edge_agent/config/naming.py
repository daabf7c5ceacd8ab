"""The agent's name for a machine, and what of the host name it cannot hold. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from edge_agent.config.problems import Flaw
from edge_agent.config.structs import Config

MAX_NODE_CHARS: Final = 63
MAX_NAMED: Final = 3  # kinds of characters
NO_NAME: Final = "edge"  # of a host whose name holds nothing that a node's may
NOBODY_S: Final = "localhost"  # of every machine that was given no name
OWN_NAME: Final = 'node = "…", a name that no other device has'

_OTHER = re.compile(r"[^a-z0-9-]")
_WORDS: Final = {".": "a dot", "_": "an underscore", " ": "a space"}
_SIGN: Final = "a sign other than a-z, 0-9 and -"


def node_name(host_name: str) -> str:
    """The node of a machine: its host name in lower case, anything else in it made `-`."""
    return _OTHER.sub("-", host_name.lower()).lstrip("-")[:MAX_NODE_CHARS] or NO_NAME


def altered(host_name: str) -> str:
    """What became of a host name on the way to its node's, in words; "" when nothing was lost.

    Two hosts whose names differ in that alone are one node, as are all that have none. Capital
    letters do not count: to a network, names that differ in them alone are the same.
    """
    plain = host_name.lower()
    node = node_name(host_name)
    if plain == NOBODY_S:
        return f"the host name is {NOBODY_S}, as that of every machine that was given none"
    if node == plain:
        return ""
    if not plain.strip("-"):
        return "the host name has no letter and no digit"
    words = list(dict.fromkeys(_WORDS.get(sign, _SIGN) for sign in _OTHER.findall(plain)))
    if words:
        verb = "was" if len(words) == 1 else "were"
        return f"{' and '.join(words[:MAX_NAMED])} of the host name {verb} replaced"
    if len(plain.lstrip("-")) > MAX_NODE_CHARS:
        return f"the host name was cut to {MAX_NODE_CHARS} characters"
    return "what the host name begins with was left out"


def renamed(config: Config, host_name: str) -> Iterator[Flaw]:
    """A warning where the node is made of a host name, and others may make the same of theirs."""
    what = "" if config.node else altered(host_name)
    if what:
        words = f"{what}: this node is {node_name(host_name)}, and another machine's may be too"
        yield Flaw(key=("node",), message=words, hint=OWN_NAME, severity="warn")
