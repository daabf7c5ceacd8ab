"""A model's way from offered to committed, rejected or rolled back: `step` is all of it.

Pure: no clock, no disk, no network. The document is the whole memory.
"""

from edge_agent.core.rollout.document import (
    AT_REST,
    FINAL,
    MAX_BYTES,
    ON_TRIAL,
    Limits,
    Refusal,
    Report,
    Rollout,
    State,
    Wanted,
    decode,
    encode,
)
from edge_agent.core.rollout.events import (
    Built,
    Done,
    Event,
    Failed,
    Fetched,
    Judged,
    Moment,
    Offered,
    Resumed,
    RollBackWanted,
    SideLost,
    Stopping,
    Tick,
    Withdrawn,
)
from edge_agent.core.rollout.orders import KINDS, Kind, Order, kind_of
from edge_agent.core.rollout.table import Act, Do, Tell, step

__all__ = [
    "AT_REST",
    "FINAL",
    "KINDS",
    "MAX_BYTES",
    "ON_TRIAL",
    "Act",
    "Built",
    "Do",
    "Done",
    "Event",
    "Failed",
    "Fetched",
    "Judged",
    "Kind",
    "Limits",
    "Moment",
    "Offered",
    "Order",
    "Refusal",
    "Report",
    "Resumed",
    "RollBackWanted",
    "Rollout",
    "SideLost",
    "State",
    "Stopping",
    "Tell",
    "Tick",
    "Wanted",
    "Withdrawn",
    "decode",
    "encode",
    "kind_of",
    "step",
]
