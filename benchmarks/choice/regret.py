"""How far choices are from the best known: regret = log((final + c) / (best known + c)), c = 1 % of the initial loss."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.choice.peers import Tuner
from benchmarks.choice.surface import Surface
from benchmarks.choice.world import Choice, World


@dataclass(frozen=True)
class Outcome:
    """What one simulated tuning came to."""

    workload: str
    tuner: str
    budget: float
    tuning: int
    chosen: Choice
    regret: float
    diverged: bool


@dataclass(frozen=True)
class Summary:
    """Of one tuner at one budget.

    Args:
        mean: over workloads, each the mean of its tunings.
        spread: standard deviation of that mean from one tuning of everything to the next.
        worst: of the workloads' means; `where` is its name.
        diverged: tunings whose choice diverged, of `number`.
        by_workload: mean regret of each.
    """

    mean: float
    spread: float
    worst: float
    where: str
    diverged: int
    number: int
    by_workload: dict[str, float]


def regret(surface: Surface, choice: Choice) -> tuple[float, bool]:
    """The regret of a choice, and whether it diverges; 0 for the best known."""
    point = surface.score(choice.optimizer, choice.rate)
    return point.v - surface.best()[2], point.diverged


def play(
    surface: Surface, name: str, tuner: Tuner, budgets: Iterable[float], tunings: int, workers: int
) -> list[Outcome]:
    """Every tuning of one tuner on one workload; `budgets` in AdamW's full runs."""
    found = []
    for budget in budgets:
        for tuning in range(tunings):
            choice = tuner(World(surface, tuning), budget * surface.full_run, workers)
            found.append(Outcome(surface.name, name, budget, tuning, choice, *regret(surface, choice)))
    return found


def summarise(outcomes: Iterable[Outcome]) -> Summary:
    """Of the outcomes of one tuner at one budget."""
    by_workload: dict[str, list[float]] = defaultdict(list)
    by_tuning: dict[int, list[float]] = defaultdict(list)
    diverged = number = 0
    for outcome in outcomes:
        by_workload[outcome.workload].append(outcome.regret)
        by_tuning[outcome.tuning].append(outcome.regret)
        diverged += outcome.diverged
        number += 1
    means = {name: statistics.fmean(values) for name, values in by_workload.items()}
    rounds = [statistics.fmean(values) for values in by_tuning.values()]
    where = max(means, key=lambda name: means[name])
    return Summary(
        statistics.fmean(means.values()),
        statistics.stdev(rounds) if len(rounds) > 1 else 0.0,
        means[where],
        where,
        diverged,
        number,
        means,
    )
