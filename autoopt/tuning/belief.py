"""What other networks lead us to expect of every configuration at every length, before the first trial.

A Gaussian process over capped gaps (`soft`). Its mean and spread at (optimizer, rate, length) are those of the networks in
`knowledge.py`; its correlations say that a network which wants high rates wants them of all optimizers, that relatives
behave alike, and that one length tells of the next. The idea is that of Wang et al. 2021 (HyperBO, arXiv 2109.08215).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoopt.tuning.knowledge import Curve, Knowledge

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Index = NDArray[np.int64]

CAP = 0.8
"""Where gaps end: a run that diverged, or is as useless as one."""
STEP = 0.25
"""Decades between the rates that are believed in."""
_REACH = 2.25
_GRID = np.arange(-_REACH, _REACH + STEP / 2, STEP)
_SPREAD, _WEIGHT = 0.3, 4.0
"""Spread of the gaps before any network was measured, and how many networks that counts for."""
_LEAST = 0.08
"""No spread is smaller: the networks that were measured are few."""
_UNKNOWN = 0.1
"""What an optimizer is behind that was measured nowhere, and its further spread."""
_OUTSIDE_LOW, _OUTSIDE_HIGH = 0.3, 1.0
"""How gaps rise per decade beyond the rates that were measured."""
_SIZE = -0.15
"""Decades of rate per decade of parameters above the networks that were measured: large ones want lower rates.
From Kaplan 2020 (arXiv 2001.08361, equation D.1), whose rule gives about this between 1e5 and 1e9 parameters."""
SETTINGS = 8
"""Settings beside the rate that any optimizer may have: columns of `Points.others`."""
_FAMILIES: Mapping[str, str] = {
    "sgd": "sgd",
    "sgd_sai": "sgd",
    "muon": "muon",
    "lion": "lion",
    "adafactor": "adafactor",
    "adagrad": "adagrad",
    "adahessian": "adahessian",
    "prodigy": "prodigy",
}
"""Who behaves like whom; the rest are Adam's relatives."""


def soft(gap: float | None) -> float:
    """A gap as it counts: itself where it is small, CAP at most; none: the run diverged.

    >>> soft(0.02), soft(None)
    (0.01975, 0.8)
    """
    return CAP if gap is None else round(CAP * (1 - math.exp(-max(gap, 0.0) / CAP)), 5)


class Likeness(NamedTuple):
    """How an earlier run hangs together with this one: the correlation of their gaps, and whether these have one zero.

    They have where losses can be compared as they are: of the same model on the same data.
    """

    correlation: float
    one_zero: bool = False


Alike = Sequence[Likeness]
"""Of each earlier run: group 1, 2, ..."""


@dataclass(frozen=True)
class Shape:
    """How corrections hang together, fitted to the networks by `python -m benchmarks.choice.knowledge`.

    Args:
        network, family, own, level: weights of what all optimizers share, what relatives share, an optimizer's own
            curve, and its own level.
        rate, narrow: length scales in decades, of what is shared and of its own.
        doublings: length scale in doublings of the length.
        offset: of all gaps of one length: their zero is the best run so far, not the best there is.
        settings: spread of what betas and weight decay change.
    """

    network: float = 0.8
    family: float = 0.45
    own: float = 0.2
    level: float = 0.03
    rate: float = 0.77
    narrow: float = 0.31
    doublings: float = 1.95
    offset: float = 0.3
    settings: float = 0.03


@dataclass(frozen=True)
class Points:
    """Configurations at lengths, as arrays of one length n.

    Args:
        optimizer, family: numbers.
        u: decades from the optimizer's usual rate.
        s: doublings from the trial's length to the real run's.
        others: (n, SETTINGS) further settings, in steps that matter about equally, from the optimizer's start; else 0.
        group: whose network it is: 0 of this run, which holds where nothing is given, from 1 on of earlier runs.
    """

    optimizer: Index
    family: Index
    u: Vector
    s: Vector
    others: Matrix
    group: Index = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if len(self.group) != len(self.u):
            object.__setattr__(self, "group", np.zeros(len(self.u), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.u)

    def at(self, s: float) -> Points:
        """The same configurations at another length."""
        return Points(self.optimizer, self.family, self.u, np.full(len(self), s), self.others, self.group)

    def take(self, which: slice | Index | NDArray[np.bool_]) -> Points:
        """Some of them."""
        return Points(
            self.optimizer[which],
            self.family[which],
            self.u[which],
            self.s[which],
            self.others[which],
            self.group[which],
        )

    def __add__(self, other: Points) -> Points:
        return Points(
            np.concatenate([self.optimizer, other.optimizer]),
            np.concatenate([self.family, other.family]),
            np.concatenate([self.u, other.u]),
            np.concatenate([self.s, other.s]),
            np.concatenate([self.others, other.others]),
            np.concatenate([self.group, other.group]),
        )


class Prior:
    """Mean and covariance of capped gaps.

    Args:
        knowledge: of other networks.
        usual: optimizer -> log10 of its usual rate, which holds where none was measured.
        parameters: of the network at hand; 0 where unknown.
        shape: of the correlations.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        usual: Mapping[str, float],
        parameters: float = 0.0,
        shape: Shape | None = None,
    ) -> None:
        self.shape = shape or Shape()
        self._names = {name: i for i, name in enumerate(usual)}
        families = [_FAMILIES.get(name, "adam") for name in usual]
        self._families = np.array([sorted(set(families)).index(f) for f in families], dtype=np.int64)
        self._lengths = np.array(sorted({s for curves in knowledge.gaps.values() for s in curves}) or [0.0])
        self._typical, self._shift = knowledge.parameters, 0.0
        self._shift = self.moved(parameters)
        measured, self.centre = {}, {}
        for name, rate in usual.items():
            curves = [c for (_, optimizer), c in knowledge.gaps.items() if optimizer == name]
            middle = _lowest([c[0.0] for c in curves if 0.0 in c], rate)
            measured[name] = [self._table(c, middle) for c in curves]
            self.centre[name] = middle + self._shift
        self._mean, self._spread = self._moments(list(measured.values()))

    def points(
        self, optimizer: str, rates: Sequence[float], s: float, others: Sequence[float] = ()
    ) -> Points:
        """One optimizer at some log10 rates, a length, and the same further settings."""
        n, number = len(rates), self._names[optimizer]
        return Points(
            np.full(n, number, dtype=np.int64),
            np.full(n, self._families[number], dtype=np.int64),
            np.array(rates, dtype=float) - self.centre[optimizer],
            np.full(n, float(s)),
            np.tile(np.array([*others, *[0.0] * (SETTINGS - len(others))], dtype=float), (n, 1)),
        )

    def moved(self, parameters: float) -> float:
        """Decades by which the usual rates of a network of another size lie above those of this one."""
        larger = math.log10(parameters / self._typical) if parameters > self._typical else 0.0
        return _SIZE * larger - self._shift

    def mean(self, at: Points) -> Vector:
        return self._look(self._mean, at)

    def covariance(self, a: Points, b: Points, scale: float = 1.0, alike: Alike = ()) -> Matrix:
        """(len(a), len(b)), of the true gaps.

        Args:
            a, b: where.
            scale: widens the spread: this network may be unlike the others.
            alike: of each earlier run.
        """
        gaps, rest = self.parts(a, b, alike)
        return scale**2 * gaps + rest

    def parts(self, a: Points, b: Points, alike: Alike = ()) -> tuple[Matrix, Matrix]:
        """The two parts of the covariance: what `scale` widens, and what it does not."""
        apart = np.zeros((len(a), len(b)))
        if a.others.any() or b.others.any():
            apart = ((a.others[:, None, :] - b.others[None, :, :]) ** 2).sum(axis=-1)
        return self._kernel(
            a.u[:, None] - b.u[None, :],
            a.s[:, None] - b.s[None, :],
            a.optimizer[:, None] == b.optimizer[None, :],
            a.family[:, None] == b.family[None, :],
            apart,
            self._look(self._spread, a)[:, None] * self._look(self._spread, b)[None, :],
            _across(a.group, b.group, alike),
        )

    def between(self, a: Points, b: Points, scale: float = 1.0) -> Vector:
        """Covariance of each of `a` with the one at its place in `b`, of the same run."""
        gaps, rest = self._kernel(
            a.u - b.u,
            a.s - b.s,
            a.optimizer == b.optimizer,
            a.family == b.family,
            ((a.others - b.others) ** 2).sum(axis=-1),
            self._look(self._spread, a) * self._look(self._spread, b),
        )
        return scale**2 * gaps + rest

    def _kernel(
        self,
        du: Matrix,
        ds: Matrix,
        same: NDArray[np.bool_],
        related: NDArray[np.bool_],
        apart: Matrix,
        spread: Matrix,
        across: tuple[Matrix, Matrix] | None = None,
    ) -> tuple[Matrix, Matrix]:
        k = self.shape
        wide = np.exp(-0.5 * (du / k.rate) ** 2)
        narrow = np.exp(-0.5 * (du / k.narrow) ** 2)
        long = np.exp(-0.5 * (ds / k.doublings) ** 2)
        parts = (k.network + k.family * related) * wide + same * (k.own * narrow + k.level)
        gaps = spread * long * parts / (k.network + k.family + k.own + k.level)
        settings = k.settings**2 * same * long * wide * np.exp(-0.5 * apart)
        offset = k.offset**2 * np.exp(-0.5 * (ds / 0.3) ** 2)
        if across is not None:
            correlation, one_zero = across
            gaps, settings, offset = gaps * correlation, settings * correlation, offset * one_zero
        return gaps, settings + offset

    # --- from the knowledge ---------------------------------------------------------------------------------

    def _table(self, curves: Mapping[float, Curve], centre: float) -> Matrix:
        """A network's capped gaps over lengths and rates; a length that was not measured is as its neighbour."""
        nearest = (min(curves, key=lambda known: abs(known - s)) for s in self._lengths)
        return np.array([along(curves[s], centre + _GRID) for s in nearest])

    def _moments(self, measured: Sequence[Sequence[Matrix]]) -> tuple[Matrix, Matrix]:
        """(optimizers, lengths, rates): each optimizer's mean, drawn to that of all; its spread, drawn to _SPREAD."""
        shape = (len(self._lengths), len(_GRID))
        every = [table for some in measured for table in some]
        typical = np.mean(every, axis=0) if every else np.full(shape, CAP / 2)
        means, spreads = [], []
        for some in measured:
            n = len(some)
            mean = (np.sum(some, axis=0) + typical + _UNKNOWN / 2) / (n + 1) if n else typical + _UNKNOWN
            squares = np.sum([(table - mean) ** 2 for table in some], axis=0) if n else np.zeros(shape)
            spread = np.sqrt((squares + _WEIGHT * _SPREAD**2) / (n + _WEIGHT))
            means.append(mean)
            spreads.append(np.maximum(spread + (0.0 if n else _UNKNOWN), _LEAST))
        return np.array(means), np.array(spreads)

    def _look(self, table: Matrix, at: Points) -> Vector:
        """Linear between rates and lengths, and as at their ends outside."""
        place = np.clip((at.u + _REACH) / STEP, 0, len(_GRID) - 1)
        left = np.minimum(place.astype(np.int64), len(_GRID) - 2)
        share = place - left
        where = np.clip(at.s, self._lengths[0], self._lengths[-1])
        low = np.clip(
            np.searchsorted(self._lengths, where, side="right") - 1, 0, max(len(self._lengths) - 2, 0)
        )
        high = np.minimum(low + 1, len(self._lengths) - 1)
        gap = self._lengths[high] - self._lengths[low]
        longer = np.divide(where - self._lengths[low], gap, out=np.zeros(len(at)), where=gap > 0)

        def row(length: Index) -> Vector:
            return np.asarray(
                table[at.optimizer, length, left] * (1 - share)
                + table[at.optimizer, length, left + 1] * share
            )

        return np.asarray(row(low) * (1 - longer) + row(high) * longer)


def _across(a: Index, b: Index, alike: Alike) -> tuple[Matrix, Matrix] | None:
    """(correlation of gaps, whether they have one zero) for each pair of groups; `None`: all are of this run.

    An earlier run is this one's network times its correlation, and its own besides, so two earlier ones have the product.
    """
    if not (a.any() or b.any()):
        return None
    correlation = np.array([1.0, *(one.correlation for one in alike)])
    zero = np.array([0, *(0 if one.one_zero else group for group, one in enumerate(alike, start=1))])
    product = correlation[a][:, None] * correlation[b][None, :]
    one_run = a[:, None] == b[None, :]
    return np.where(one_run, 1.0, product), (zero[a][:, None] == zero[b][None, :]).astype(float)


def along(curve: Curve, x: Vector) -> Vector:
    """The capped gaps of a curve at log10 rates; beyond its ends ever worse, faster above than below."""
    xs = np.array([at for at, _ in curve])
    zs = np.array([soft(gap) for _, gap in curve])
    below, above = np.maximum(xs[0] - x, 0.0), np.maximum(x - xs[-1], 0.0)
    return np.asarray(np.minimum(CAP, np.interp(x, xs, zs) + _OUTSIDE_LOW * below + _OUTSIDE_HIGH * above))


def _lowest(curves: Sequence[Curve], otherwise: float) -> float:
    """The log10 rate with the lowest mean capped gap over some networks."""
    if not curves:
        return otherwise
    xs = np.array(sorted({round(x, 3) for curve in curves for x, _ in curve}))
    return float(xs[np.sum([along(curve, xs) for curve in curves], axis=0).argmin()])
