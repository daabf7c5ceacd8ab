"""The agent's end of the inference side."""

from edge_agent.services.engine.engine import Engine
from edge_agent.services.engine.launch import InThreads, Launch, launch_child
from edge_agent.services.engine.taps import Rest, Tap

__all__ = ["Engine", "InThreads", "Launch", "Rest", "Tap", "launch_child"]
