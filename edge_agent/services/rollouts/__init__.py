"""Drives the rollouts of models and configuration over ports."""

from edge_agent.services.rollouts.bench import Bench
from edge_agent.services.rollouts.crew import Installers
from edge_agent.services.rollouts.desk import Desk, Handled
from edge_agent.services.rollouts.keep import Keep
from edge_agent.services.rollouts.ports import Crew, House, Live, Progress, Side, Store
from edge_agent.services.rollouts.rollouts import Rollouts

__all__ = [
    "Bench",
    "Crew",
    "Desk",
    "Handled",
    "House",
    "Installers",
    "Keep",
    "Live",
    "Progress",
    "Rollouts",
    "Side",
    "Store",
]
