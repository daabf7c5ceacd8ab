"""What KubeEdge calls a machine. Pure.

A node of Kubernetes is an RFC 1123 subdomain: it may hold dots and up to 253 characters, where a
node of the agent is one name of 63. CloudCore's REST door takes KubeEdge's name, the topics hold
the agent's; where the two differ, whoever answers has to be told.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import Meta

MAX_NODE_CHARS: Final = 253
# Each run ends where the next sign begins, so that no text takes longer than its length. Neither a
# slash nor an empty part: it becomes part of a URL.
_PART: Final = "[a-z0-9]+(-+[a-z0-9]+)*"
_NODE: Final = rf"{_PART}(\.{_PART})*"
OPTIONAL_NODE_PATTERN: Final = rf"^({_NODE})?$(?!\n)"
OptionalNode = Annotated[str, Meta(pattern=OPTIONAL_NODE_PATTERN, max_length=MAX_NODE_CHARS)]
_OVERRIDE = re.compile(
    r"""^[ \t]*hostnameOverride:[ \t]*(["']?)([^\s"'#]+)\1[ \t\r]*(#.*)?$""", re.MULTILINE
)
UNUSABLE_HOST: Final = "default-edge-node"  # what EdgeCore takes where the host name can't be one

_is_node = re.compile(_NODE).fullmatch


def is_node(name: str) -> bool:
    """Whether a node of KubeEdge can be called so."""
    return len(name) <= MAX_NODE_CHARS and _is_node(name) is not None


def override_in(settings: str) -> str:
    """`hostnameOverride` of edgecore.yaml; "" when it names none, two, or one that can't be."""
    found = _OVERRIDE.findall(settings)
    names = {name for _, name, _ in found}
    return found[0][1] if len(names) == 1 and is_node(found[0][1]) else ""


def default_node(host_name: str) -> str:
    """What EdgeCore calls a machine unless its `hostnameOverride` says otherwise."""
    plain = host_name.strip().lower()
    return plain if is_node(plain) else UNUSABLE_HOST
