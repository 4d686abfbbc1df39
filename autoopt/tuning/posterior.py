"""The belief after trials: a Gaussian process conditioned on them, its spread and noise chosen by what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from autoopt.tuning.belief import Alike, Index, Likeness, Matrix, Points, Prior, Vector
from autoopt.tuning.root import Root, Rows, forward

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
    """Trials: where, their capped gaps, their seeds, their numbers (negative ones unless given)."""

    at: Points
    gaps: Vector
    seeds: Index
    ids: Index = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.gaps):
            object.__setattr__(self, "ids", -1 - np.arange(len(self.gaps)))

    def __len__(self) -> int:
        return len(self.gaps)

    def __add__(self, other: Seen) -> Seen:
        return Seen(
            self.at + other.at,
            np.concatenate([self.gaps, other.gaps]),
            np.concatenate([self.seeds, other.seeds]),
            np.concatenate([self.ids, other.ids]),
        )


class Fit(NamedTuple):
    """What the trials show of this network: factor of the prior's spread, noise, and how alike earlier runs are."""

    scale: float
    noise: float
    alike: tuple[Likeness, ...] = ()


class Chain(NamedTuple):
    """Trials in an order that is kept while more are added, with the root of their covariance, luck included."""

    at: Points
    seeds: Index
    ids: Index
    root: Root


class Posterior:
    """Mean and covariance of the true gaps, given trials.

    It costs n^3 operations for n trials, and n^2 where an earlier one knew all but a few of them under the same fit. What
    comes out is the same but for rounding.

    Args:
        prior: before them.
        seen: finished trials.
        pending: trials in flight: where, their seeds and numbers. They make the belief surer, and change no mean.
        ladders: of each earlier run, group 1 first: how alike its network may be.
        fit: where it is known already; else what makes the trials likeliest.
        before: an earlier belief of the same prior, whose work is gone on with.
    """

    def __init__(
        self,
        prior: Prior,
        seen: Seen,
        pending: tuple[Points, Index, Index] | None = None,
        ladders: Sequence[Ladder] = (),
        *,
        fit: Fit | None = None,
        before: Posterior | None = None,
    ) -> None:
        self.prior = prior
        self.fit = fit or fitted(prior, seen, ladders)
        self.scale, self.noise, self.alike = self.fit
        old = before if before is not None and before.fit == self.fit else None
        known, kept = self._chained(seen.at, seen.seeds, seen.ids, old._known if old else None)
        self._known: Chain = known
        self._all: Chain = known
        self._sides: dict[float, Rows] = {s: rows.cut(kept) for s, rows in old._sides.items()} if old else {}
        at, seeds, ids = seen.at, seen.seeds, seen.ids
        flying = pending is not None and len(pending[0]) > 0
        if pending is not None and flying:
            at, seeds = at + pending[0], np.concatenate([seeds, pending[1]])
            ids = np.concatenate([ids, pending[2]])
        if flying or (old is not None and old._all is not old._known):
            self._all, kept = self._chained(at, seeds, ids, old._all if old else None)
        self._halves: dict[float, Rows] = (
            {s: half.cut(kept) for s, half in old._halves.items()} if old else {}
        )
        residual = np.zeros(0)
        if len(seen):
            order = np.argsort(seen.ids)
            gaps = seen.gaps[order[np.searchsorted(seen.ids, known.ids, sorter=order)]]
            residual = known.root.solve(gaps - prior.mean(known.at))
        self._weights = known.root.solve_transposed(residual)

    def mean(self, at: Points) -> Vector:
        found = self.prior.mean(at)
        if len(self._known.ids):
            found = found + self._covariance(at, self._known.at) @ self._weights
        return found

    def covariance(self, at: Points) -> Matrix:
        half = self._half(at)
        return self._covariance(at, at) - half.T @ half

    def information(self, at: Points, targets: Points) -> Vector:
        """Standard deviation by which the mean of each target would move if the point at its place were tried."""
        a, b = self._half(at), self._half(targets)
        return self._informed(at, targets, (a * a).sum(axis=0), (a * b).sum(axis=0))

    # The same over targets that are asked for again and again: always the same ones, and new ones at their end.

    def means_of(self, targets: Points) -> Vector:
        """`mean`, in n operations a target."""
        rows = self._sides.get(0.0)
        rows = self._sides[0.0] = _widened(self._covariance, self._known, targets, rows, whitened=False)
        return np.asarray(self.prior.mean(targets) + self._weights @ rows.matrix)

    def covariance_of(self, targets: Points) -> Matrix:
        """`covariance`, in n operations a pair of targets."""
        half = self._half_of(targets, 0.0).matrix
        return np.asarray(self._covariance(targets, targets) - half.T @ half)

    def information_of(self, targets: Points, s: float) -> Vector:
        """`information` of trying the targets at a length, in n operations a target."""
        at = targets.at(s)
        a, b = self._half_of(targets, s).matrix, self._half_of(targets, 0.0).matrix
        squares = np.einsum("ij,ij->j", a, a)
        return self._informed(at, targets, squares, np.einsum("ij,ij->j", a, b) if s else squares)

    def _half_of(self, targets: Points, s: float) -> Rows:
        at = targets.at(s) if s else targets
        half = _widened(self._covariance, self._all, at, self._halves.get(s), whitened=True)
        self._halves[s] = half
        return half

    def _informed(self, at: Points, targets: Points, squares: Vector, products: Vector) -> Vector:
        variance = self.prior.between(at, at, self.scale) - squares + self.noise**2
        shared = self.prior.between(at, targets, self.scale) - products
        return np.asarray(np.abs(shared) / np.sqrt(np.maximum(variance, _JITTER)))

    def _covariance(self, a: Points, b: Points) -> Matrix:
        return self.prior.covariance(a, b, self.scale, self.alike)

    def _half(self, at: Points) -> Matrix:
        return self._all.root.solve(self._covariance(self._all.at, at))

    def _chained(self, at: Points, seeds: Index, ids: Index, old: Chain | None) -> tuple[Chain, int]:
        """Some trials as a chain, and how many of the old one are its beginning."""
        if old is None:
            return Chain(at, seeds, ids, self._grown(Root(), at, seeds, 0)), 0
        there = np.isin(old.ids, ids)
        kept = len(old.ids) if there.all() else int(there.argmin())
        new = ~np.isin(ids, old.ids[:kept])
        if not new.any() and kept == len(old.ids):
            return old, kept
        at = old.at.take(slice(kept)) + at.take(new)
        seeds = np.concatenate([old.seeds[:kept], seeds[new]])
        ids = np.concatenate([old.ids[:kept], ids[new]])
        return Chain(at, seeds, ids, self._grown(old.root.cut(kept), at, seeds, kept)), kept

    def _grown(self, root: Root, at: Points, seeds: Index, kept: int) -> Root:
        """The root of the covariance of trials, their luck included, from that of the first of them."""
        if len(at) == kept:
            return root
        old, new = at.take(slice(kept)), at.take(slice(kept, None))
        cross = self._covariance(old, new)
        cross = cross + self.noise**2 * _shared(old, seeds[:kept], new, seeds[kept:])
        own = self._covariance(new, new) + self.noise**2 * _luck(new, seeds[kept:])
        return root.grown(cross, own + _JITTER * np.eye(len(new)))


def _widened(
    covariance: Callable[[Points, Points], Matrix],
    trials: Chain,
    targets: Points,
    old: Rows | None,
    *,
    whitened: bool,
) -> Rows:
    """(trials, targets) covariances, with the trials' root taken out of them if `whitened`, from those of fewer of both."""
    lower = trials.root.matrix
    rows = Rows(np.zeros((0, len(targets)))) if old is None else old
    n, m = rows.matrix.shape
    if m < len(targets):
        more = covariance(trials.at.take(slice(n)), targets.take(slice(m, None)))
        rows = Rows(np.concatenate([rows.matrix, forward(lower[:n, :n], more) if whitened else more], axis=1))
    if n < len(trials.ids):
        more = covariance(trials.at.take(slice(n, None)), targets)
        if whitened:
            more = forward(lower[n:, n:], more - lower[n:, :n] @ rows.matrix)
        rows = rows.grown(more)
    return rows


def fitted(prior: Prior, seen: Seen, ladders: Sequence[Ladder] = ()) -> Fit:
    """The scale, noise and correlations under which the trials are likeliest, their weights included (empirical Bayes).

    Correlations are found one earlier run after the other, the others' held.
    """
    alike = tuple(max(ladder, key=lambda rung: rung[1])[0] for ladder in ladders)
    if not len(seen):
        return Fit(SCALES[0][0], NOISES[1][0], alike)
    _, scale, noise = _likeliest(prior, seen, alike)
    for i, ladder in enumerate(ladders):
        found = []
        for rung, weight in ladder:
            tried = (*alike[:i], rung, *alike[i + 1 :])
            evidence, wide, luck = _likeliest(prior, seen, tried)
            found.append((evidence + weight, wide, luck, tried))
        _, scale, noise, alike = max(found)
    return Fit(scale, noise, alike)


def _likeliest(prior: Prior, seen: Seen, alike: Alike) -> tuple[float, float, float]:
    """The log evidence of the likeliest scale and noise, and these."""
    residual = seen.gaps - prior.mean(seen.at)
    gaps, rest = prior.parts(seen.at, seen.at, alike)
    luck = _luck(seen.at, seen.seeds)
    found = []
    for scale, scale_weight in SCALES:
        for noise, noise_weight in NOISES:
            covariance = scale**2 * gaps + rest + noise**2 * luck + _JITTER * np.eye(len(seen))
            root: Matrix = np.asarray(np.linalg.cholesky(covariance))
            white = forward(root, residual)
            evidence = -0.5 * float(white @ white) - float(np.log(np.diag(root)).sum())
            found.append((evidence + scale_weight + noise_weight, scale, noise))
    return max(found)


def _shared(a: Points, of_a: Index, b: Points, of_b: Index) -> Matrix:
    """Correlations of the noise of trials with that of others."""
    together = (of_a[:, None] == of_b[None, :]) & (a.s[:, None] == b.s[None, :])
    return np.asarray(_SHARED * (together & (a.group[:, None] == b.group[None, :])))


def _luck(at: Points, seeds: Index) -> Matrix:
    """The noise's correlations: trials of one run, seed and length have a part of it in common."""
    own = np.where(at.group == 0, 1 - _SHARED, _EARLIER_NOISE - _SHARED)
    return np.asarray(_shared(at, seeds, at, seeds) + np.diag(own))


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
