"""The trials of earlier runs, as the belief of a new one takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from autoopt.records import BASELINE, Hyper, Outcome, TrialResult
from autoopt.tuning.arm import Key, key_of, lowest
from autoopt.tuning.belief import Points, soft
from autoopt.tuning.posterior import Seen
from autoopt.tuning.score import Score

MOST = 100
"""Trials of all earlier runs together that a belief takes: beyond, it costs more to compute than it gains."""


@dataclass(frozen=True)
class Past:
    """A finished trial of an earlier run; `y` is of no use where it diverged."""

    optimizer: str
    hyper: Hyper
    steps: int
    seed: int
    y: float
    diverged: bool = False


@dataclass(frozen=True)
class Earlier:
    """An earlier run.

    Args:
        trials: of optimizers by their registry names.
        zero: y of the best of each length, whoever reached it.
        total: steps of its real run.
        parameters: of its network.
        same: whether it trained the same model on the same data with the same settings.
        absolute: whether y of such a run can be compared with this one's as it is: of losses and shares it can.
    """

    trials: Sequence[Past]
    zero: Mapping[int, float]
    total: int
    parameters: float = 0.0
    same: bool = False
    absolute: bool = True

    @property
    def one_zero(self) -> bool:
        """Whether its gaps are to the best of both runs."""
        return self.same and self.absolute


def earlier(
    results: Sequence[TrialResult],
    score: Score,
    total: int,
    *,
    own: tuple[str, Hyper] | None = None,
    parameters: float = 0.0,
    same: bool = False,
) -> Earlier:
    """What a run's trials say to later ones.

    Its user's own optimizer is told as the one of ours that it was. Where it was none, it sets the zero at most.

    Args:
        results: of the earlier run.
        score: of the earlier run; of this one where the workload is the same.
        total: steps of its real run.
        own: registry name and settings of its user's own optimizer, where it was one of ours.
        parameters: of its network.
        same: whether the workload is the same.
    """
    ended = [r for r in results if r.outcome in (Outcome.COMPLETED, Outcome.DIVERGED)]
    done = [(r, y) for r in ended if (y := score.y(r)) is not None]
    zero = lowest(
        (r.spec.steps, key_of(r.spec.optimizer, r.spec.hyper), y) for r, y in done if not score.diverged(r)
    )
    trials = []
    for r, y in done:
        name, hyper = r.spec.optimizer, r.spec.hyper
        if name == BASELINE:
            if own is None:
                continue
            name, hyper = own
        diverged = score.diverged(r)
        # Where everything diverged there is no best, and divergence is known without one.
        if diverged or r.spec.steps in zero:
            trials.append(Past(name, dict(hyper), r.spec.steps, r.spec.seed, y, diverged))
    return Earlier(trials, zero, total, parameters, same, score.metric is None or score.best is not None)


@dataclass(frozen=True)
class Memory:
    """Trials of earlier runs among the points of a belief.

    Args:
        runs: group 1, 2, ...
        at: where the trials are, with their groups.
        trials: at the places of `at`.
    """

    runs: Sequence[Earlier]
    at: Points
    trials: Sequence[Past]

    @cached_property
    def comparable(self) -> list[tuple[int, Key, float]]:
        """(steps, configuration, y) of those that this run's zero counts as well."""
        return [
            (p.steps, key_of(p.optimizer, p.hyper), p.y)
            for p, group in zip(self.trials, self.at.group, strict=True)
            if self.runs[group - 1].one_zero and not p.diverged
        ]

    def seen(self, zero: Mapping[int, float]) -> Seen:
        """The trials with their gaps; `zero` is this run's, and theirs where they have one."""
        gaps = []
        for p, group in zip(self.trials, self.at.group, strict=True):
            run = self.runs[group - 1]
            base = zero if run.one_zero else run.zero
            gaps.append(soft(None if p.diverged else p.y - base[p.steps]))
        seeds = np.array([p.seed for p in self.trials], dtype=np.int64)
        return Seen(self.at, np.array(gaps), seeds)
