"""The broker of `tools/faults`, as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tools.faulting.broker import KINDS, MOSQUITTO, Broker

__all__ = ["KINDS", "MOSQUITTO", "Broker"]


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Makes and starts a broker; skips the test where that kind is not there."""
    made: list[Broker] = []

    def make(kind: str = "", **settings: str) -> Broker:
        kind = kind or ("mosquitto" if MOSQUITTO else "amqtt")
        if kind == "mosquitto" and MOSQUITTO is None:
            pytest.skip("mosquitto is not installed")
        folder = tmp_path / f"broker-{len(made)}"
        folder.mkdir()
        made.append(Broker(folder, kind, **settings))
        made[-1].start()
        return made[-1]

    yield make
    for broker in made:
        broker.stop()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """The best that there is here."""
    return make_broker()
