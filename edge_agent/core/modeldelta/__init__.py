"""Model packages as what they are more than another one that the device has.

`encode` is the publisher's, `apply` the device's: bytes in, bytes out, nothing else touched. What
`apply` hands out has the sha256 that the delta names; whether that is the package that somebody
signed is for the caller to compare. The format is drawn in docs/model-delta.md.
"""

from edge_agent.core.modeldelta.decoder import apply, inspect
from edge_agent.core.modeldelta.encoder import encode
from edge_agent.core.modeldelta.form import Header
from edge_agent.core.modeldelta.snapping import snap

__all__ = ["Header", "apply", "encode", "inspect", "snap"]
