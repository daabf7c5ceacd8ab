"""Looks of a beating heart as seen from its tip: what the phantom source shows.

`four_chambers` draws one heart from a generator; `spread` scales how far it may stray from the
middle, so that a live phantom looks tidy (1) and a training set wild (more).
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from edge_agent.core.phantom.ultrasound import Chamber, Look, Strand


def _about(rng: np.random.Generator, middle: float, reach: float) -> float:
    return float(rng.uniform(middle - reach, middle + reach))


def _bumps(rng: np.random.Generator, size: float) -> tuple[tuple[float, float], ...]:
    return tuple(
        (float(rng.uniform(0.0, size / order)), float(rng.uniform(0.0, 2.0 * math.pi)))
        for order in (1, 1.5, 2)
    )


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where one heart lies: its big ventricle's axis, the valve plane, sizes in depths."""

    side: float  # 1: the big ventricle is on the right
    x: float
    valve_y: float
    half: float
    top: float
    atrium: float
    lean: float
    apart: float  # to the axis of the second ventricle
    wall: float
    wall_db: float


def _plan(rng: np.random.Generator, s: float) -> _Plan:
    side = 1.0 if s <= 1.0 or rng.random() < 0.6 else -1.0
    half = _about(rng, 0.135, 0.02 * s)
    return _Plan(
        side=side,
        x=side * _about(rng, 0.05, 0.04 * s),
        valve_y=_about(rng, 0.6, 0.04 * s),
        half=half,
        top=_about(rng, 0.25, 0.03 * s),
        atrium=_about(rng, 0.125, 0.02 * s),
        lean=_about(rng, 0.0, 0.06 * s),
        apart=side * (half * 1.9 + _about(rng, 0.03, 0.012 * s)),
        wall=_about(rng, 0.026, 0.008 * s),
        wall_db=_about(rng, 13.0, 3.0 * s),
    )


def _ventricles(rng: np.random.Generator, plan: _Plan) -> tuple[Chamber, Chamber]:
    length = (plan.valve_y - plan.top) / 2
    big = Chamber(
        x=plan.x, y=plan.valve_y - length, a=plan.half, b=length, tilt=plan.lean,
        egg=_about(rng, 0.22, 0.08), beat=_about(rng, 0.17, 0.05),
        wall_db=plan.wall_db, wall=plan.wall, bumps=_bumps(rng, 0.03),
    )  # fmt: skip
    second = Chamber(
        x=plan.x - plan.apart, y=plan.valve_y - length * 0.72,
        a=plan.half * _about(rng, 0.72, 0.1), b=length * 0.78,
        tilt=plan.lean + plan.side * 0.16, egg=0.2, beat=_about(rng, 0.13, 0.04), phase=0.04,
        wall_db=plan.wall_db - 4, wall=plan.wall * 0.8, bumps=_bumps(rng, 0.05),
    )  # fmt: skip
    return big, second


def _atria(rng: np.random.Generator, plan: _Plan) -> tuple[Chamber, Chamber]:
    behind = Chamber(
        x=plan.x, y=plan.valve_y + plan.atrium + 0.012, a=plan.half * 0.95, b=plan.atrium,
        tilt=plan.lean, egg=_about(rng, -0.08, 0.05), beat=_about(rng, 0.12, 0.04), phase=0.5,
        wall_db=plan.wall_db - 2, wall=plan.wall, bumps=_bumps(rng, 0.04),
    )  # fmt: skip
    far = Chamber(
        x=plan.x - plan.apart * 0.97, y=plan.valve_y + plan.atrium * 0.95, a=plan.half * 0.82,
        b=plan.atrium * 0.9, tilt=plan.lean, beat=_about(rng, 0.1, 0.04), phase=0.53,
        wall_db=plan.wall_db - 4, wall=plan.wall * 0.8, bumps=_bumps(rng, 0.05),
    )  # fmt: skip
    return behind, far


def _valves(rng: np.random.Generator, plan: _Plan) -> tuple[Strand, ...]:
    """Two leaflets a valve; they open towards the ventricles while these fill."""
    return tuple(
        Strand(
            x=middle + hand * reach * 0.98, y=plan.valve_y, length=reach * 0.9,
            angle=(math.pi if hand > 0 else 0.0) + hand * 0.4, swing=hand * 0.5, phase=0.5,
            level_db=_about(rng, -14.0, 4.0), width=0.009,
        )
        for middle, reach in ((plan.x, plan.half), (plan.x - plan.apart, plan.half * 0.75))
        for hand in (-1.0, 1.0)
    )  # fmt: skip


def four_chambers(
    rng: np.random.Generator, *, spread: float = 1.0
) -> tuple[tuple[Chamber, ...], tuple[Strand, ...]]:
    """Two ventricles near the probe, two atria behind them, two valves between.

    The order is big ventricle, its atrium, second ventricle, its atrium.
    """
    plan = _plan(rng, spread)
    (big, second), (behind, far) = _ventricles(rng, plan), _atria(rng, plan)
    return (big, behind, second, far), _valves(rng, plan)


def live_look(seed: int) -> Look:
    """The heart of the live ultrasound phantom with this seed."""
    rng = np.random.default_rng([seed, 0x5EC7])
    chambers, strands = four_chambers(rng)
    return Look(
        chambers=chambers,
        strands=strands,
        half_angle=_about(rng, 0.74, 0.04),
        tissue_db=_about(rng, -29.0, 2.0),
        muscle_db=_about(rng, -24.0, 2.0),
        blood_db=_about(rng, -54.0, 2.0),
        side_db=_about(rng, 10.0, 3.0),
        gain_db=_about(rng, 0.0, 2.0),
        gamma=_about(rng, 1.25, 0.1),
    )
