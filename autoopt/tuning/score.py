"""One number to minimise from a trial's result.

A validation loss l becomes y = asinh(l / 2c), c = 1 % of the validation loss at initialization. For l >> c
that is log(l / c), so differences of y are log ratios and a tolerance of 2 % is 0.02; below c, where
differences are of no use to anybody, it is linear, and it is defined for losses of either sign. A metric to
maximise that lies in [0, 1], such as an accuracy, is compared by its error 1 - m in the same way: from 98 to
99 % halves the error, which a difference of 1 % would hide. So is any other whose best value the user has told, as 100 of
an accuracy in percent: by what it lacks of that value. All others are compared relative to their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from autoopt.records import Outcome, TrialResult

_FLOOR = 0.01
"""Share of the initial loss below which differences do not count."""


@dataclass(frozen=True)
class Score:
    """Turns results into y (lower is better) and back into the user's unit.

    Args:
        initial: validation loss before training, in the user's unit.
        metric: (name, "min" or "max") when the user compares by a metric of their own.
        metric_scale: size of a typical metric value; of one whose best value is known, what counts as all of its error.
        best: the best value that the metric can have, where it is known: 1 of a share to maximise.
        positive: whether no loss below zero was seen, so that no interval should reach there.
    """

    initial: float
    metric: tuple[str, Literal["min", "max"]] | None = None
    metric_scale: float = 1.0
    best: float | None = None
    positive: bool = False

    @property
    def _c(self) -> float:
        return _FLOOR * max(abs(self.initial), 1e-12)

    def y(self, result: TrialResult) -> float | None:
        """The score of a finished trial; `None` when it says nothing about its settings (cancelled, crashed).

        A trial that diverged, or ended above the loss it began with, scores as no training at all: NaN would
        poison a sampler, and a huge number would flatten every other difference.
        """
        if result.outcome is Outcome.DIVERGED:
            return self.failed
        if result.outcome is not Outcome.COMPLETED:
            return None
        if self.metric is None:
            return None if result.loss is None else min(self.of_loss(result.loss), self.failed)
        if result.metric is None:
            return None
        if self.best is not None:
            lacks = self._sign * (result.metric - self.best) / self.metric_scale
            return math.asinh(lacks / (2 * _FLOOR))
        return self._sign * result.metric / self.metric_scale

    @property
    def _sign(self) -> float:
        return -1.0 if self.metric is not None and self.metric[1] == "max" else 1.0

    @property
    def failed(self) -> float:
        """The score of a trial that diverged."""
        if self.metric is None:
            return self.of_loss(self.initial)
        if self.best is not None:
            return math.asinh(1 / (2 * _FLOOR))
        return 0.0 if self.metric[1] == "max" else 2.0

    def diverged(self, result: TrialResult) -> bool:
        """Whether the trial blew up, or ended no better than it began."""
        if result.outcome is Outcome.DIVERGED:
            return True
        return (
            result.outcome is Outcome.COMPLETED
            and self.metric is None
            and result.loss is not None
            and result.loss >= self.initial
        )

    def of_loss(self, loss: float) -> float:
        return math.asinh(loss / (2 * self._c))

    def unit(self, y: float) -> float:
        """Back from y to the user's unit: the loss, or the metric."""
        if self.metric is None:
            value = 2 * self._c * math.sinh(y)
            return max(0.0, value) if self.positive else value
        if self.best is not None:
            lacks = max(0.0, 2 * _FLOOR * math.sinh(y) * self.metric_scale)
            return self.best + self._sign * lacks
        return self._sign * y * self.metric_scale


def make(
    initial: float,
    metric: tuple[str, Literal["min", "max"]] | None,
    results: Iterable[TrialResult] = (),
    best: float | None = None,
) -> Score:
    """The score for a run.

    How a metric is compared is decided by the first finished trial, so that it outlives a resume.

    Args:
        initial: validation loss before training.
        metric: what is compared, if not that loss.
        results: the trials so far.
        best: the best value that the metric can have, where the user has told it.
    """
    done = sorted((r for r in results if r.outcome is Outcome.COMPLETED), key=lambda r: r.spec.id)
    positive = bool(done) and all(r.loss is None or r.loss >= 0 for r in done)
    first = next((r.metric for r in done if r.metric is not None), None)
    if metric is None or first is None:
        return Score(initial, metric, best=None if metric is None else best, positive=positive)
    if best is None and metric[1] == "max" and 0 <= first <= 1:
        best = 1.0
    # From zero up to its best value is all of the error that there is; of one to be brought to zero it is the first value.
    scale = abs(first) if best is None else abs(best) or abs(first)
    return Score(initial, metric, max(scale, 1e-12), best, positive)
