"""The console: what the running agent shows and lets be done, over a UNIX socket and loopback HTTP.

It knows the rest only through `Views`. It must never stop inference: every client is bounded in
number, time and size, and a port that is taken costs the port, nothing else.
"""

from edge_agent.services.console.callers import followers_of
from edge_agent.services.console.server import SOCKET_NAME, Console
from edge_agent.services.console.views import Picture, Shot, Views

__all__ = ["SOCKET_NAME", "Console", "Picture", "Shot", "Views", "followers_of"]
