"""Intervals, ties and the probability of being best. Pure functions of numbers.

A configuration c trained with seed s scores y = mean_c + seed_s + noise. Configurations share their seeds, so
the seed's part cancels in a paired difference. Nobody can afford enough seeds to know one configuration's noise, so its
variance is pooled over all repeated configurations and shrunk to a prior (three paired seeds of small real workloads show
differences of 4 to 17 %, hence a prior standard deviation of 6 % worth four repetitions).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np

PRIOR_SD = 0.06
PRIOR_WEIGHT = 4.0
_SEED_RIDGE = 0.1
K = TypeVar("K", bound=Hashable)
Scores = Mapping[int, float]
"""seed -> y of one configuration at one length."""


@dataclass(frozen=True)
class Noise:
    """Standard deviation of y between seeds, and how many degrees of freedom back it."""

    sd: float
    df: float


@dataclass(frozen=True)
class Difference:
    """mean(a) - mean(b) with its standard error; negative: a is better."""

    mean: float
    se: float
    df: float
    seeds: int
    paired: bool

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        reach = _quantile(self.df, 0.5 + level / 2) * self.se
        return self.mean - reach, self.mean + reach

    def probability_below(self, bound: float) -> float:
        """P(true difference < bound)."""
        if self.se == 0:
            return 1.0 if self.mean < bound else 0.0
        return _cdf(self.df, (bound - self.mean) / self.se)


def pooled_noise(repeated: Sequence[Scores], paired: bool = True) -> Noise:
    """Variance of y between seeds, pooled over configurations and shrunk to the prior.

    With `paired`, what all configurations share on a seed is taken out first, when at least two
    configurations were run on the same two seeds.
    """
    groups = [scores for scores in repeated if len(scores) >= 2]
    rows: list[tuple[float, float]] = []
    if paired and len(groups) >= 2:
        shared = sorted(set.intersection(*(set(g) for g in groups)))
        if len(shared) >= 2:
            table = np.array([[g[s] for s in shared] for g in groups])
            rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
            rows.append((float((rest**2).sum()), float((table.shape[0] - 1) * (table.shape[1] - 1))))
    if not rows:
        for scores in groups:
            values = np.array(list(scores.values()))
            rows.append((float(((values - values.mean()) ** 2).sum()), float(len(values) - 1)))
    total = sum(r[0] for r in rows) + PRIOR_WEIGHT * PRIOR_SD**2
    df = sum(r[1] for r in rows) + PRIOR_WEIGHT
    return Noise(float(np.sqrt(total / df)), df)


def difference(a: Scores, b: Scores, noise: Noise, paired: bool = True) -> Difference:
    """mean(a) - mean(b): over shared seeds when paired and there are any, else of the two means.

    Raises:
        ValueError: one of them has no score.
    """
    if not a or not b:
        raise ValueError("a difference needs at least one score on each side")
    shared = sorted(set(a) & set(b))
    if paired and shared:
        mean = float(np.mean([a[s] - b[s] for s in shared]))
        return Difference(mean, noise.sd * (2 / len(shared)) ** 0.5, noise.df, len(shared), True)
    mean = float(np.mean(list(a.values())) - np.mean(list(b.values())))
    return Difference(mean, noise.sd * (1 / len(a) + 1 / len(b)) ** 0.5, noise.df, min(len(a), len(b)), False)


def means(scores: Mapping[K, Scores], paired: bool = True) -> dict[K, float]:
    """The mean of y of each configuration, comparable between those that ran on different seeds.

    With `paired`, y = configuration + seed is fitted by least squares, so that an easy seed does not flatter
    those that ran on it; else these are plain means.
    """
    keys = list(scores)
    seeds = sorted({s for by_seed in scores.values() for s in by_seed})
    if not paired or len(seeds) < 2:
        return {k: float(np.mean(list(scores[k].values()))) for k in keys}
    cells = [(i, seeds.index(s), y) for i, k in enumerate(keys) for s, y in scores[k].items()]
    rows = np.zeros((len(cells) + len(seeds), len(keys) + len(seeds)))
    target = np.zeros(len(rows))
    for row, (i, j, y) in enumerate(cells):
        rows[row, i] = rows[row, len(keys) + j] = 1.0
        target[row] = y
    # What the data leaves open (all seeds up, all means down) is settled towards no effect of the seed.
    rows[len(cells) :, len(keys) :] = np.eye(len(seeds)) * _SEED_RIDGE
    fitted = np.linalg.lstsq(rows, target, rcond=None)[0]
    return {k: float(fitted[i]) for i, k in enumerate(keys)}


def interval(scores: Scores, noise: Noise, level: float = 0.9) -> tuple[float, float]:
    """Interval of the mean of y over seeds."""
    mean = float(np.mean(list(scores.values())))
    reach = _quantile(noise.df, 0.5 + level / 2) * noise.sd / len(scores) ** 0.5
    return mean - reach, mean + reach


def equivalent(gap: Difference, tolerance: float, level: float = 0.8) -> bool:
    """Shown equivalence: at least `level` probability that a is no worse than b by more than `tolerance`."""
    return gap.probability_below(tolerance) >= level


def decided(gap: Difference, level: float = 0.9) -> bool:
    """Whether a is better than b with at least `level` probability."""
    return gap.probability_below(0.0) >= level


@lru_cache(maxsize=256)
def _draws(df: float) -> tuple[float, ...]:
    """Sorted draws of Student's t: a table good to two digits, which is more than the model deserves."""
    return tuple(np.sort(np.random.default_rng(0).standard_t(df, 40001)).tolist())


def _quantile(df: float, p: float) -> float:
    draws = _draws(round(df, 1))
    return draws[min(int(p * len(draws)), len(draws) - 1)]


def _cdf(df: float, t: float) -> float:
    return float(np.searchsorted(np.array(_draws(round(df, 1))), t)) / 40001
