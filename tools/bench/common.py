"""What every bench shares: its arguments, its figures as JSON lines, medians, the machine's load.

A bench measures, it does not judge: it prints each figure once and exits 0, met or not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

MEASURED: list[str] = []  # names printed so far: a figure is printed once


class Scale(msgspec.Struct, frozen=True):
    """How long to measure. seconds: of one cell. rounds: how often each cell comes round."""

    seconds: float
    rounds: int


def arguments(doc: str | None, *, full: Scale, quick: Scale) -> Scale:
    """`--quick` fits into CI; `--seconds` and `--rounds` are for the bench's own test."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="within a minute")
    parser.add_argument("--seconds", type=float, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = quick if given.quick else full
    return Scale(given.seconds or chosen.seconds, given.rounds or chosen.rounds)


class Goal(msgspec.Struct, frozen=True):
    """at_least or at_most, as a number; neither: printed beside the others, without a goal."""

    at_least: float | None = None
    at_most: float | None = None

    def words(self) -> str | None:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else None


def figure(
    bench: str,
    name: str,
    value: float,
    unit: str,
    *,
    goal: Goal | None = None,
    runs: int,
    notes: str,
) -> None:
    """One JSON line. runs: how many repetitions `value` is the median of."""
    if name in MEASURED:
        raise ValueError(f"figure {name} was printed before")
    MEASURED.append(name)
    line: dict[str, Any] = {
        "bench": bench,
        "figure": name,
        "value": round(float(value), 4),
        "unit": unit,
        "goal": goal.words() if goal else None,
        "runs": runs,
        "notes": notes,
    }
    print(json.dumps(line), flush=True)


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else float("nan")


def spread(values: Sequence[float]) -> str:
    """The least and the most of the repetitions, for the notes."""
    return f"{min(values):.3g} to {max(values):.3g}" if values else "none"


def load() -> str:
    """How busy the machine is: a bench on a shared one is read with that in mind."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
