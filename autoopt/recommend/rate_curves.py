"""The loss over the learning rate at the real run's length, as it is believed: the extrapolation of a report."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoopt.recommend.evidence import Evidence
from autoopt.records import BASELINE, Band, RateCurve, RatePoint
from autoopt.tuning.arm import Key
from autoopt.tuning.belief import CAP, Vector
from autoopt.tuning.option import Option
from autoopt.tuning.verdict import Verdict

_OTHERS = 3
"""Optimizers beside the chosen one."""
_STEP = 0.25
_BEYOND = 0.5
"""Decades between the points, and shown beyond the rates that were tried."""
_Z = 1.645
"""Half-width of a 90 % interval in standard deviations."""
_CAPPED = 0.97
"""Share of the cap from which on a gap is not told from any larger one."""


@dataclass(frozen=True)
class _Height:
    """y of the chosen configuration: its mean, half of its 90 % interval, and the length that it is of."""

    y: float
    half: float
    steps: int


def rate_curves(e: Evidence, verdict: Verdict, promised: Sequence[Band]) -> list[RateCurve]:
    """Curves of the chosen optimizer and of the few that are believed to be next, where they have a rate.

    The belief is about gaps to the best, so all of them hang on the chosen configuration's expected loss.

    Args:
        promised: bands of the real run; they carry the loss to the real length where trials were shorter.
    """
    height = _height(e, verdict.chosen.key, promised)
    ranked = sorted(
        (c for c in verdict.candidates if c.key != verdict.chosen.key and c.key[0] != BASELINE),
        key=lambda c: c.expected,
    )
    keys = [verdict.chosen.key, *(c.key for c in ranked[:_OTHERS])]
    chosen = _option(verdict.chosen.key)
    return [_curve(e, _option(key), chosen, height) for key in keys if e.planner.arms[key[0]].tunable]


def _height(e: Evidence, key: Key, promised: Sequence[Band]) -> _Height:
    """From the configuration itself, or from the best one that was trained for longer, and the gap between them."""
    anchor = _anchor(e, e.stand_in(key))
    length, seen = e.length(anchor) or 0, e.expected(anchor)
    gap = e.planner.view.difference(_option(key), _option(anchor))
    apart = _Z * gap.se if anchor != key else 0.0
    band = next((b for b in promised if b.of == "validation loss" and b.share == 1), None)
    if e.score.metric is None and band is not None and length < e.total:
        low, high = e.score.of_loss(band.low), e.score.of_loss(band.high)
        return _Height((low + high) / 2, (high - low) / 2, e.total)
    half = 0.0
    if e.score.metric is None and seen.low is not None and seen.high is not None:
        half = (e.score.of_loss(seen.high) - e.score.of_loss(seen.low)) / 2
    y = statistics.fmean(e.used(anchor).values()) + (gap.mean if anchor != key else 0.0)
    return _Height(y, math.hypot(half, apart), length)


def _anchor(e: Evidence, key: Key) -> Key:
    """A trained configuration of the longest length: this one, else the best, one of the same optimizer first."""
    if e.length(key) == e.steps:
        return key
    longest = [k for k in e.scores if e.length(k) == e.steps and not e.diverged(k) and k[0] != BASELINE]
    return min(longest, key=lambda k: (k[0] != key[0], e.planner.view.expected(_option(k)), k), default=key)


def _curve(e: Evidence, option: Option, chosen: Option, height: _Height) -> RateCurve:
    """One optimizer's, from half a decade below the rates that were tried to half a decade above."""
    arm, planner = e.planner.arms[option.optimizer], e.planner
    tried = [math.log10(t.hyper["lr"]) for t in arm.tried.values() if "lr" in t.hyper]
    at = math.log10(option.hyper["lr"])
    low, high = min([*tried, at]) - _BEYOND, max([*tried, at]) + _BEYOND
    # The grid goes through the configuration itself, so that its own point is on the line.
    steps = range(math.ceil((low - at) / _STEP), math.floor((high - at) / _STEP) + 1)
    options = [
        Option(arm.name, arm.with_rate(option.hyper, at + _STEP * i) if i else option.hyper) for i in steps
    ]
    options = list({o.hyper["lr"]: o for o in options}.values())
    points = planner.field.points([*options, chosen])
    posterior = planner.view.posterior
    means, covariance = posterior.mean(points), posterior.covariance(points)
    variance = np.diag(covariance) + covariance[-1, -1] - 2 * covariance[:, -1]
    spread = _Z * np.sqrt(np.maximum(variance, 0.0))
    worst = max(e.score.failed, height.y)
    lines = [height.y + _gap(z) - _gap(means[-1:]) for z in (means, means - spread, means + spread)]
    mean = lines[0]
    under = np.hypot(mean - lines[1], height.half)
    over = np.hypot(lines[2] - mean, height.half)
    found = []
    for i, o in enumerate(options):
        values = [
            e.score.unit(min(float(y), worst)) for y in (mean[i] - under[i], mean[i], mean[i] + over[i])
        ]
        bottom, middle, top = (float(f"{v:.4g}") for v in sorted(values))
        found.append(RatePoint(rate=o.hyper["lr"], mean=middle, low=bottom, high=top))
    return RateCurve(
        optimizer=arm.name,
        of=e.score.metric[0] if e.score.metric else "loss",
        steps=e.total,
        height_steps=height.steps,
        points=found,
    )


def _gap(capped: Vector) -> Vector:
    """The gap in y that counts as so much: the inverse of `belief.soft`; about three times the cap at most."""
    return np.asarray(-CAP * np.log(1 - np.minimum(capped, _CAPPED * CAP) / CAP))


def _option(key: Key) -> Option:
    return Option(key[0], dict(key[1]))
