from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_agent import logs
from edge_agent.config.structs import LogConfig
from tests.services.console import Agent


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def audit() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    stream = io.StringIO()
    handlers = list(logging.getLogger().handlers)
    logs.setup(LogConfig(level="error", format="json"), stream)
    yield lambda: [
        line for line in map(json.loads, stream.getvalue().splitlines()) if line.get("audit")
    ]
    logging.getLogger().handlers[:] = handlers
    logging.getLogger(logs.ROOT).setLevel(logging.NOTSET)
    logging.captureWarnings(capture=False)
