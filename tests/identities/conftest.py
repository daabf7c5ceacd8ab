"""These tests run on a loop in a hurry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.identities.hurry import HurryLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": HurryLoop}
