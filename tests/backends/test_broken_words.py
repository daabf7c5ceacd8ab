"""A process that tries a model may die in the middle of a word: that is its end, not ours."""

from __future__ import annotations

import pytest

from edge_agent.backends import prepare
from edge_agent.cli import models_verify
from edge_agent.core.errors import BadPackage, Overloaded

BROKEN = (b'{"error":"\xff\xfe"}', b"\xff" * 20, b"", b"[" * 5000)


@pytest.mark.parametrize("told", BROKEN)
def test_a_preparation_that_answers_nonsense_has_failed(told: bytes) -> None:
    with pytest.raises(BadPackage, match="its process was ended by SIGABRT"):
        prepare._read("prepare us 1.0.0", prepare.Bounds(), -6, told, b"")
    with pytest.raises(Overloaded, match="its process was ended by SIGKILL"):
        prepare._read("prepare us 1.0.0", prepare.Bounds(), -9, told, b"")


@pytest.mark.parametrize("told", BROKEN)
def test_a_trial_that_prints_nonsense_ends_with_what_it_had_said(told: bytes) -> None:
    checks = models_verify._read(b'{"check":"loads","status":"begun"}\n' + told, "was killed")
    assert [one.status for one in checks] == ["fail"]
