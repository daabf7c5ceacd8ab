"""edge-agent: the edge layer of a hospital GPU architecture. Importing this imports nothing."""

__version__ = "0.1.0"
