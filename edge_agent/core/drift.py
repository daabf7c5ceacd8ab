"""How far a model's label-free figures are from what explains them. Pure.

A figure is explained by the pictures (a second model shows it on the same frames) or announced by
the package (`[reference]` of its manifest); what is neither is drift. Also the limits of a trial.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_agent.core.errors import BadPackage
from edge_agent.core.manifest import Manifest, Ratio
from edge_agent.core.sight import SCORE_BINS, Sight


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial is held to. `of` lets the package say what is its own to know.

    frames: of evidence, for a verdict. min_mean: agreement over it. max_slowdown: time of a run,
    to the live model's. max_s: then a shadow without a verdict is inconclusive. probation_frames:
    that have to be answered before a candidate may stay. The last four bound how far a figure may
    be from both the live model's and the package's own before it counts as drift.
    """

    frames: Annotated[int, Meta(ge=1, le=1_000_000)] = 120
    min_mean: Ratio = 0.5
    max_slowdown: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_s: Annotated[float, Meta(gt=0)] = 600.0
    probation_frames: Annotated[int, Meta(ge=1)] = 600
    probation_s: Annotated[float, Meta(ge=0)] = 30.0
    max_error_share: Ratio = 0.01
    max_missed_share: Ratio = 0.05  # more than before
    settle_frames: Annotated[int, Meta(ge=1)] = 60  # before shares and quantiles mean something
    findings_share: Ratio = 0.3
    scores_distance: Ratio = 0.5  # half of the summed differences of two histograms
    area_factor: Annotated[float, Meta(ge=1)] = 2.5
    flicker_share: Ratio = 0.2

    def of(self, manifest: Manifest) -> Limits:
        """With what the manifest's `[agreement]` says of frames, min_mean and max_slowdown.

        Raises: BadPackage when it says nonsense.
        """
        own = {key: manifest.agreement[key] for key in OWN if key in manifest.agreement}
        try:
            return msgspec.convert({**msgspec.structs.asdict(self), **own}, Limits)
        except msgspec.ValidationError as error:
            raise _nonsense(manifest, "agreement", error) from error


OWN = ("frames", "min_mean", "max_slowdown")


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """`[reference]` of a manifest: what the model showed when it was made. None: it does not say.

    scores: shares, frames without a finding in the first bin.
    """

    findings_per_100: float | None = None
    scores: tuple[float, ...] | None = None
    mean_area: float | None = None
    flicker: float | None = None
    input_mean: float | None = None
    input_sd: float | None = None


def reference_of(manifest: Manifest) -> Reference:
    """Raises: BadPackage when it says nonsense."""
    try:
        found = msgspec.convert(manifest.reference, Reference)
    except msgspec.ValidationError as error:
        raise _nonsense(manifest, "reference", error) from error
    if found.scores is not None and len(found.scores) != SCORE_BINS:
        return msgspec.structs.replace(found, scores=None)
    return found


def _nonsense(manifest: Manifest, table: str, error: msgspec.ValidationError) -> BadPackage:
    return BadPackage(
        f"read [{table}] of manifest {manifest.name} {manifest.version}: {error}",
        hint="repack the model",
    )


def drift_of(mine: Sight, beside: Sight, reference: Reference, limits: Limits) -> str:
    """The first figure that neither the pictures (`beside`) nor the package explain; "" if none."""
    return (
        _findings_drift(mine, beside, reference, limits)
        or _scores_drift(mine, beside, reference, limits)
        or _area_drift(mine, beside, reference, limits)
        or _flicker_drift(mine, beside, reference, limits)
    )


def held_drift_of(mine: Sight, beside: Sight, reference: Reference, limits: Limits) -> str:
    """As `drift_of`, where the frames differ: how a finding looks, not how often there is one."""
    return _scores_drift(mine, beside, reference, limits) or _area_drift(
        mine, beside, reference, limits
    )


def _findings_drift(mine: Sight, beside: Sight, told: Reference, limits: Limits) -> str:
    within = 100 * limits.findings_share
    value, others = mine.findings_per_100, [beside.findings_per_100, told.findings_per_100]
    if any(one is not None and abs(value - one) <= within for one in others):
        return ""
    return _said("findings per 100 frames", value, others, f"within {within:g}")


def _scores_drift(mine: Sight, beside: Sight, told: Reference, limits: Limits) -> str:
    if not mine.findings or not beside.findings:
        return ""  # one that finds nothing is told by its findings
    value = _shares(mine.scores)
    others = [_shares(beside.scores), _found_shares(told.scores)]
    distances = [_distance(value, one) for one in others]
    if any(one is not None and one <= limits.scores_distance for one in distances):
        return ""
    return (
        f"score histogram: {distances[0]:.2f} from the live model's, expected within "
        f"{limits.scores_distance:g}"
    )


def _area_drift(mine: Sight, beside: Sight, told: Reference, limits: Limits) -> str:
    if not mine.area_sum or not beside.area_sum:
        return ""
    value, others = mine.mean_area, [beside.mean_area, told.mean_area]
    factor = limits.area_factor
    if any(one and 1 / factor <= value / one <= factor for one in others):
        return ""
    return _said("mean area of findings", value, others, f"within {factor:g} times")


def _flicker_drift(mine: Sight, beside: Sight, told: Reference, limits: Limits) -> str:
    value, others = mine.flicker, [beside.flicker, told.flicker]
    if any(one is not None and value <= one + limits.flicker_share for one in others):
        return ""
    return _said("flicker", value, others, f"at most {limits.flicker_share:g} more")


def _said(name: str, value: float, others: list[Any], rule: str) -> str:
    live, told = others
    package = "" if told is None else f", its package says {told:.3g}"
    return f"{name} {value:.3g}, the live model's {live:.3g}{package}, expected {rule}"


def _shares(counts: tuple[int, ...]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(one / total for one in counts) if total else ()


def _found_shares(shares: tuple[float, ...] | None) -> tuple[float, ...]:
    """Without the first bin, where frames without a finding stand beside the least sure ones."""
    if shares is None or sum(shares[1:]) <= 0:
        return ()
    return (0.0, *(one / sum(shares[1:]) for one in shares[1:]))


def _distance(one: tuple[float, ...], other: tuple[float, ...]) -> float | None:
    """Total variation; None when either is unknown."""
    if len(one) != len(other) or not one:
        return None
    return 0.5 * sum(abs(a - b) for a, b in zip(one, other, strict=True))
