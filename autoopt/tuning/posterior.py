"""The belief after trials: a Gaussian process conditioned on them, its spread and noise chosen by what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoopt.tuning.belief import Alike, Index, Likeness, Matrix, Points, Prior, Vector

SCALES = ((1.0, 0.0), (2.0, -1.0), (4.0, -2.0))
"""How unlike the measured networks this one may be: factors of the prior's spread, their log weights."""
NOISES = ((0.02, -0.5), (0.05, 0.0), (0.12, -0.5))
"""Standard deviations of a gap between seeds, their log weights."""
_SHARED = 0.3
"""Share of the noise's variance that all trials of one seed and length have in common."""
_JITTER = 1e-8
Ladder = Sequence[tuple[Likeness, float]]
"""How alike an earlier run's network and this one may be, with log weights."""
SAME: Ladder = ((Likeness(0.95, one_zero=True), 0.0),)
SAME_APART: Ladder = ((Likeness(0.95), 0.0),)
"""The same workload; and where its scores cannot be compared as they are."""
OTHER: Ladder = (
    (Likeness(0.0), -0.7),
    (Likeness(0.3), 0.0),
    (Likeness(0.6), -0.7),
    (Likeness(0.85), -1.5),
)
"""Another workload: little, unless the trials of both say otherwise; `benchmarks.choice.prior` measured what it costs."""
_EARLIER_NOISE = 2.0
"""Variance of an earlier trial's own noise, over that of one of this run."""


@dataclass(frozen=True)
class Seen:
    """Trials: where, their capped gaps, their seeds."""

    at: Points
    gaps: Vector
    seeds: Index

    def __len__(self) -> int:
        return len(self.gaps)

    def __add__(self, other: Seen) -> Seen:
        return Seen(
            self.at + other.at,
            np.concatenate([self.gaps, other.gaps]),
            np.concatenate([self.seeds, other.seeds]),
        )


class Posterior:
    """Mean and covariance of the true gaps, given trials.

    Args:
        prior: before them.
        seen: finished trials.
        pending: trials in flight: where and their seeds. They make the belief surer, and change no mean.
        ladders: of each earlier run, group 1 first: how alike its network may be.
    """

    def __init__(
        self,
        prior: Prior,
        seen: Seen,
        pending: tuple[Points, Index] | None = None,
        ladders: Sequence[Ladder] = (),
    ) -> None:
        self.prior = prior
        self.scale, self.noise, self.alike = _most_likely(prior, seen, ladders)
        at, seeds = seen.at, seen.seeds
        residual = seen.gaps - prior.mean(seen.at) if len(seen) else np.zeros(0)
        root = self._rooted(at, seeds)
        weights = np.linalg.solve(root.T, np.linalg.solve(root, residual))
        self._seen, self._weights = at, weights
        if pending is not None and len(pending[0]):
            at, seeds = at + pending[0], np.concatenate([seeds, pending[1]])
            root = self._rooted(at, seeds)
        self._at, self._root = at, root

    def mean(self, at: Points) -> Vector:
        found = self.prior.mean(at)
        if len(self._seen):
            found = found + self.prior.covariance(at, self._seen, self.scale, self.alike) @ self._weights
        return found

    def covariance(self, at: Points) -> Matrix:
        half = self._half(at)
        return self.prior.covariance(at, at, self.scale, self.alike) - half.T @ half

    def information(self, at: Points, targets: Points) -> Vector:
        """Standard deviation by which the mean of each target would move if the point at its place were tried."""
        a, b = self._half(at), self._half(targets)
        variance = self.prior.between(at, at, self.scale) - (a * a).sum(axis=0) + self.noise**2
        shared = self.prior.between(at, targets, self.scale) - (a * b).sum(axis=0)
        return np.asarray(np.abs(shared) / np.sqrt(np.maximum(variance, _JITTER)))

    def _half(self, at: Points) -> Matrix:
        if not len(self._at):
            return np.zeros((0, len(at)))
        across = self.prior.covariance(self._at, at, self.scale, self.alike)
        return np.asarray(np.linalg.solve(self._root, across))

    def _rooted(self, at: Points, seeds: Index) -> Matrix:
        """The lower root of the covariance of trials, their luck included."""
        covariance = self.prior.covariance(at, at, self.scale, self.alike)
        covariance = covariance + self.noise**2 * _luck(at, seeds)
        return np.asarray(np.linalg.cholesky(covariance + _JITTER * np.eye(len(at))))


def _most_likely(
    prior: Prior, seen: Seen, ladders: Sequence[Ladder]
) -> tuple[float, float, tuple[Likeness, ...]]:
    """The scale, noise and correlations under which the trials are likeliest, their weights included (empirical Bayes).

    Correlations are found one earlier run after the other, the others' held.
    """
    alike = tuple(max(ladder, key=lambda rung: rung[1])[0] for ladder in ladders)
    if not len(seen):
        return SCALES[0][0], NOISES[1][0], alike
    _, scale, noise = _fitted(prior, seen, alike)
    for i, ladder in enumerate(ladders):
        found = []
        for rung, weight in ladder:
            tried = (*alike[:i], rung, *alike[i + 1 :])
            evidence, wide, luck = _fitted(prior, seen, tried)
            found.append((evidence + weight, wide, luck, tried))
        _, scale, noise, alike = max(found)
    return scale, noise, alike


def _fitted(prior: Prior, seen: Seen, alike: Alike) -> tuple[float, float, float]:
    """The log evidence of the likeliest scale and noise, and these."""
    residual = seen.gaps - prior.mean(seen.at)
    gaps, rest = prior.parts(seen.at, seen.at, alike)
    luck = _luck(seen.at, seen.seeds)
    found = []
    for scale, scale_weight in SCALES:
        for noise, noise_weight in NOISES:
            root = np.linalg.cholesky(scale**2 * gaps + rest + noise**2 * luck + _JITTER * np.eye(len(seen)))
            white = np.linalg.solve(root, residual)
            evidence = -0.5 * float(white @ white) - float(np.log(np.diag(root)).sum())
            found.append((evidence + scale_weight + noise_weight, scale, noise))
    return max(found)


def _luck(at: Points, seeds: Index) -> Matrix:
    """The noise's correlations: trials of one run, seed and length have a part of it in common."""
    together = (seeds[:, None] == seeds[None, :]) & (at.s[:, None] == at.s[None, :])
    luck = np.asarray(_SHARED * (together & (at.group[:, None] == at.group[None, :])))
    own = np.where(at.group == 0, 1 - _SHARED, _EARLIER_NOISE - _SHARED)
    return np.asarray(luck + np.diag(own))


def improvement(means: Vector, informations: Vector, best: float, second: float, leader: int) -> Vector:
    """Expected gain of trying each: of a rival by overtaking the leader, of the leader by falling behind the second.

    Args:
        means: of the targets.
        informations: by how much a trial would move them.
        best: the leader's mean.
        second: the lowest of the others.
        leader: the leader's place; -1 where it is not among them.
    """
    behind = means - best
    if leader >= 0:
        behind = behind.copy()
        behind[leader] = second - best
    move = np.maximum(informations, 1e-9)
    t = behind / move
    density = np.exp(-0.5 * t * t) / math.sqrt(2 * math.pi)
    return np.asarray(move * density - behind * _above(t))


def _above(t: Vector) -> Vector:
    """P(Z > t) of a standard normal Z, to 1e-7 (Abramowitz and Stegun 26.2.17)."""
    x = np.abs(t)
    k = 1 / (1 + 0.2316419 * x)
    series = k * (0.319381530 + k * (-0.356563782 + k * (1.781477937 + k * (-1.821255978 + k * 1.330274429))))
    tail = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi) * series
    return np.asarray(np.where(t >= 0, tail, 1 - tail))
