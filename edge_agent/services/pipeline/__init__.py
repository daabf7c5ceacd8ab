"""From the inference side's results to spool and followers; books, states and alarms of streams."""

from edge_agent.services.pipeline.channel import Channel, StreamTerms
from edge_agent.services.pipeline.pipeline import Pipeline, Scribe

__all__ = ["Channel", "Pipeline", "Scribe", "StreamTerms"]
