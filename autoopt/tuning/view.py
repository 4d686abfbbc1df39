"""What is believed of every configuration at one moment, and what each further trial would tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from autoopt.tuning.arm import Key
from autoopt.tuning.belief import Matrix, Vector
from autoopt.tuning.option import RATES, Option
from autoopt.tuning.posterior import Posterior, improvement
from autoopt.tuning.ranking import Difference

if TYPE_CHECKING:
    from autoopt.tuning.field import Field

_DRAWS = 512
_NORMAL = 1e6
"""Degrees of freedom of a belief: its variance is the posterior's."""


@dataclass(frozen=True)
class Move:
    """A trial worth making, by its expected gain in y per second."""

    option: Option
    steps: int
    gain: float
    worth: float


class View:
    """The belief at one moment. Gaps are to the best, lower is better."""

    def __init__(self, field: Field, posterior: Posterior) -> None:
        self.field, self.posterior = field, posterior
        self.options = list(field.options)
        self.targets = field.targets()
        self.means: Vector = posterior.means_of(self.targets)

    @cached_property
    def draws(self) -> Matrix:
        """(options, draws) of the true gaps at the real length; the same numbers for the same trials."""
        return _draws(self.means, self.posterior.covariance_of(self.targets))

    def chances(self, names: Sequence[str]) -> dict[str, float]:
        """Probability that the best of all configurations is one of this optimizer's."""
        owner = np.array([names.index(o.optimizer) if o.optimizer in names else -1 for o in self.options])
        allowed = np.where(owner >= 0)[0]
        winner = owner[allowed[self.draws[allowed].argmin(axis=0)]]
        return {name: float((winner == i).mean()) for i, name in enumerate(names)}

    def moves(
        self,
        lengths: Sequence[int],
        seconds: Callable[[str, int], float],
        allowed: Callable[[Option, int], bool],
    ) -> list[Move]:
        """Every trial that may be made, the one worth most first.

        Args:
            lengths: in steps.
            seconds: of a trial, by optimizer and length.
            allowed: whether an option may be tried at a length.
        """
        order = np.argsort(self.means, kind="stable")
        leader, best = int(order[0]), float(self.means[order[0]])
        second = float(self.means[order[1]]) if len(order) > 1 else best
        found = []
        for steps in lengths:
            price: dict[str, float] = {}
            told = self.posterior.information_of(self.targets, self.field.doublings(steps))
            gains = improvement(self.means, told, best, second, leader)
            for option, gain in zip(self.options, gains.tolist(), strict=True):
                if not allowed(option, steps):
                    continue
                if option.optimizer not in price:
                    price[option.optimizer] = seconds(option.optimizer, steps)
                found.append(Move(option, steps, gain, gain / price[option.optimizer]))
        return sorted(found, key=lambda m: -m.worth)

    def expected(self, option: Option, doubt: float = 0.0) -> float:
        """Mean gap of an option at the real length, and `doubt` standard deviations on top."""
        place = self._place(option)
        return float(self.means[place] + (doubt * self.spreads[place] if doubt else 0.0))

    def ranked(self) -> list[Option]:
        """All options, the one with the lowest expected gap first."""
        return [self.options[i] for i in np.argsort(self.means, kind="stable").tolist()]

    def difference(self, a: Option, b: Option) -> Difference:
        """Gap of a less that of b at the real length."""
        covariance = self.posterior.covariance(self.field.points([a, b]))
        variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        return Difference(
            self.expected(a) - self.expected(b), math.sqrt(max(variance, 0.0)), _NORMAL, 1, True
        )

    def within(self, option: Option, tolerance: float) -> float:
        """Probability that no option is better than this one by more than a tolerance in y."""
        mine = self.draws[self._place(option)]
        return float((mine - self.draws.min(axis=0) <= tolerance).mean())

    def rates(self, option: Option, level: float = 0.9) -> tuple[float, float]:
        """Interval of the log10 learning rate that is best at the real length, the other settings held."""
        arm, centre = self.field.arms[option.optimizer], self.field.prior.centre[option.optimizer]
        line = [Option(option.optimizer, arm.with_rate(option.hyper, centre + float(u))) for u in RATES]
        xs = np.array([math.log10(o.hyper["lr"]) for o in line])
        points = self.field.points(line)
        draws = _draws(self.posterior.mean(points), self.posterior.covariance(points))
        low, high = np.quantile(xs[draws.argmin(axis=0)], [0.5 - level / 2, 0.5 + level / 2])
        return float(low), float(high)

    @cached_property
    def _places(self) -> dict[Key, int]:
        return {o.key: i for i, o in enumerate(self.options)}

    def _place(self, option: Option) -> int:
        return self._places[option.key]

    @cached_property
    def spreads(self) -> Vector:
        """Standard deviation of each option's gap at the real length, beside what all of them share."""
        return np.asarray((self.draws - self.draws.min(axis=0)).std(axis=1))

    def best(
        self,
        wanted: Callable[[Option], bool],
        allowed: Callable[[Option], bool] = lambda _option: True,
        doubt: float = 0.0,
    ) -> Option | None:
        """The wanted and allowed option with the lowest expected gap; `doubt` standard deviations count against it."""
        values = self.means + doubt * self.spreads if doubt else self.means
        for i in np.argsort(values, kind="stable"):
            option = self.options[int(i)]
            if wanted(option) and allowed(option):
                return option
        return None


def _draws(means: Vector, covariance: Matrix) -> Matrix:
    """(n, draws) of a multivariate normal, the same for the same arguments."""
    root = np.linalg.cholesky(covariance + 1e-6 * np.eye(len(means)))
    return np.asarray(means[:, None] + root @ _normal(len(means)))


@lru_cache(maxsize=4)
def _normal(number: int) -> Matrix:
    return np.random.default_rng(number).standard_normal((number, _DRAWS))
