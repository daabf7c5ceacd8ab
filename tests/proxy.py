"""The cutting road of `tools/faults`, for tests too."""

from __future__ import annotations

from tools.faulting.proxy import Proxy, proxy

__all__ = ["Proxy", "proxy"]
