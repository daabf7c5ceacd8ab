"""Runtimes behind one port: `make` is the only door; vendors are imported when a model loads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edge_agent.core.errors import ConfigError
from edge_agent.ports import Backend


def make(
    name: Literal["auto", "onnx", "tensorrt"] = "auto",
    *,
    threads: int = 1,
    engines: Path | None = None,
) -> Backend:
    """The runtime of that name; `auto` takes the fastest that works on this machine.

    threads: intra-op threads of one inference. engines: where prepared models are kept.
    Raises: ConfigError.
    """
    if name == "tensorrt":
        raise ConfigError(
            "engine.backend",
            "expected a backend of this build, got 'tensorrt', which is not built in yet",
            hint='set engine.backend = "onnx"',
        )
    from edge_agent.backends.onnx import OnnxBackend  # noqa: PLC0415 - cv2 only where it runs

    return OnnxBackend(threads=threads, engines=engines)
