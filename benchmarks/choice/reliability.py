"""How far the labels can be trusted: replayed tunings, what they said of themselves, and what their choice was worth.

    python -m benchmarks.choice.reliability             # printed
    python -m benchmarks.choice.reliability --record    # and added to benchmarks/RESULTS.md

Every tuning knows only other networks. The product says how probable it is that nothing is better by more than 5 %
(`within_5_percent`); "high" asks for a threshold of it. The threshold is chosen here with one workload left out, as the
lowest from which 90 % of the choices on the others are within 5 % of the best known, and judged on the one left out.
It also says how probable it is that the choice is better than AdamW at its default (`against_yours.probability`).
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from autoopt.records import BASELINE
from benchmarks.choice import WORKLOADS, replay, telling
from benchmarks.choice.regret import regret
from benchmarks.choice.surface import DEFAULT_RATE, Surface, surfaces
from benchmarks.choice.world import Choice, World

COMMAND = "python -m benchmarks.choice.reliability"
CLOSE = 0.05
WANTED = 0.9
_BINS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.01)
_BETTER = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.01)
_FEWEST = 10
"""Choices that a threshold must rest on."""


@dataclass(frozen=True)
class Said:
    """One tuning: the length of the choice's longest trial over the real run's, what it said, and what came of it.

    `better` is the probability of being better than AdamW at its default, where one was said; `is_better`, whether it was.
    """

    workload: str
    budget: float
    share: float
    within: float
    label: str
    regret: float
    diverged: bool
    better: float | None = None
    is_better: bool = False

    @property
    def close(self) -> bool:
        return self.regret <= CLOSE and not self.diverged


def play(surface: Surface, budgets: Iterable[float], tunings: int) -> list[Said]:
    """Tunings of one workload at some budgets, in full runs."""
    found = []
    yours, _ = regret(surface, Choice(BASELINE, DEFAULT_RATE))
    for budget in budgets:
        for tuning in range(tunings):
            made, _ = replay.tune(World(surface, tuning), budget * surface.full_run)
            if made is None:
                continue
            chosen = made.recommendation
            worth, diverged = regret(surface, Choice(chosen.optimizer, chosen.hyper.get("lr", DEFAULT_RATE)))
            share = made.expected.steps / surface.steps if made.expected.seeds else 0.0
            within = made.confidence.within_5_percent or 0.0
            label, better = made.confidence.label, made.against_yours.probability
            ahead = worth < yours and not diverged
            found.append(Said(surface.name, budget, share, within, label, worth, diverged, better, ahead))
    return found


def threshold(said: Sequence[Said]) -> float | None:
    """The lowest `within` from which WANTED of the choices are close; `None`: none rests on enough of them."""
    ranked = sorted(said, key=lambda s: -s.within)
    best, close = None, 0
    for number, one in enumerate(ranked, 1):
        close += one.close
        if number >= _FEWEST and close / number >= WANTED:
            best = one.within
    return best


def left_out(said: Sequence[Said]) -> list[tuple[Said, bool]]:
    """Each choice, and whether the threshold that the other workloads give calls it sure."""
    found = []
    for name in sorted({s.workload for s in said}):
        limit = threshold([s for s in said if s.workload != name])
        found += [(s, limit is not None and s.within >= limit) for s in said if s.workload == name]
    return found


def at_most(number: int, level: float = 0.95) -> float:
    """Upper bound of a probability of which none of `number` independent trials was seen.

    >>> round(at_most(59), 3)
    0.05
    """
    return 1.0 if number == 0 else 1 - (1 - level) ** (1 / number)


def bootstrapped(values: Sequence[Sequence[float]], draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean over workloads, workloads drawn with replacement."""
    means = np.array([statistics.fmean(v) for v in values])
    rng = np.random.default_rng(0)
    drawn = means[rng.integers(len(means), size=(draws, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def markdown(said: Sequence[Said]) -> str:
    """The tables: reliability by length of the longest trial, the labels, regrets with intervals, divergence."""
    full = [s for s in said if s.share >= 1]
    parts = [
        "Where the choice was trained in full:\n\n" + _reliability(full),
        "Where its longest trial was shorter:\n\n" + _reliability([s for s in said if s.share < 1]),
        "Better than AdamW at its default:\n\n" + _gains(said),
        _labels(said),
        _threshold(full),
        _regrets(said),
        _divergence(said),
    ]
    return "\n\n".join(parts) + "\n"


def _reliability(said: Sequence[Said]) -> str:
    lines = [
        "| said: within 5 % | choices | workloads | mean said | were | median regret |",
        "|---|---|---|---|---|---|",
    ]
    for low, high in itertools.pairwise(_BINS):
        some = [s for s in said if low <= s.within < high]
        if some:
            lines.append(
                f"| {100 * low:.0f} to {100 * min(high, 1):.0f} % | {len(some)} | {len({s.workload for s in some})} | "
                f"{100 * statistics.fmean(s.within for s in some):.0f} % | "
                f"{100 * statistics.fmean(s.close for s in some):.0f} % | "
                f"{statistics.median(s.regret for s in some):.3f} |"
            )
    return "\n".join(lines)


def _gains(said: Sequence[Said]) -> str:
    lines = ["| said: better | choices | workloads | mean said | were |", "|---|---|---|---|---|"]
    told = [(s, s.better) for s in said if s.better is not None]
    for low, high in itertools.pairwise(_BETTER):
        some = [(s, p) for s, p in told if low <= p < high]
        if some:
            lines.append(
                f"| {100 * low:.0f} to {100 * min(high, 1):.0f} % | {len(some)} | {len({s.workload for s, _ in some})} | "
                f"{100 * statistics.fmean(p for _, p in some):.0f} % | "
                f"{100 * statistics.fmean(s.is_better for s, _ in some):.0f} % |"
            )
    return "\n".join(lines)


def _labels(said: Sequence[Said]) -> str:
    lines = [
        "| label | choices | workloads | within 5 % of the best known | median regret |",
        "|---|---|---|---|---|",
    ]
    for label in ("low", "medium", "high"):
        some = [s for s in said if s.label == label]
        if some:
            lines.append(
                f"| {label} | {len(some)} | {len({s.workload for s in some})} | "
                f"{100 * statistics.fmean(s.close for s in some):.0f} % | {statistics.median(s.regret for s in some):.3f} |"
            )
    return "\n".join(lines)


def _threshold(full: Sequence[Said]) -> str:
    limit = threshold(full)
    judged = left_out(full)
    sure = [s for s, high in judged if high]
    words = (
        f"Threshold from all workloads: {limit:.2f}."
        if limit is not None
        else "No threshold reaches 90 % with enough choices."
    )
    if sure:
        words += (
            f" Chosen with one workload left out, it calls {len(sure)} of {len(judged)} full-length choices sure (refused "
            f"{100 * (1 - len(sure) / len(judged)):.0f} %), on {len({s.workload for s in sure})} workloads; of those "
            f"{100 * statistics.fmean(s.close for s in sure):.0f} % are within 5 % of the best known."
        )
    return words


def _regrets(said: Sequence[Said]) -> str:
    lines = ["| full runs | mean regret (95 %, workloads drawn anew) | worst workload |", "|---|---|---|"]
    for budget in sorted({s.budget for s in said}):
        by = _by_workload(said, lambda s, b=budget: s.budget == b)  # type: ignore[misc]
        low, high = bootstrapped(list(by.values()))
        means = {n: statistics.fmean(v) for n, v in by.items()}
        worst = max(means, key=lambda n: means[n])
        lines.append(
            f"| {budget:g} | {statistics.fmean(means.values()):.3f} ({low:.3f} to {high:.3f}) | {means[worst]:.3f} {worst} |"
        )
    return "\n".join(lines)


def _divergence(said: Sequence[Said]) -> str:
    seen, number = sum(s.diverged for s in said), len(said)
    names = len({s.workload for s in said})
    if seen:
        return f"Recommended configurations that diverged: {seen} of {number}, on {names} workloads."
    return (
        f"Recommended configurations that diverged: 0 of {number} (at most {100 * at_most(number):.1f} % with 95 % "
        f"confidence if tunings were independent; {names} workloads alone bound it by {100 * at_most(names):.0f} %)."
    )


def _by_workload(said: Iterable[Said], wanted: Callable[[Said], bool]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in said:
        if wanted(one):
            found.setdefault(one.workload, []).append(one.regret)
    return found


def main() -> None:
    flags = _flags()
    begin = time.monotonic()
    known = surfaces(names=flags.only)
    with ProcessPoolExecutor(flags.jobs) as pool:
        waiting = [pool.submit(play, s, flags.budgets, flags.tunings) for s in known.values()]
        said = [one for future in waiting for one in future.result()]
    parts = [f"### {telling.title(held, some)}\n\n{markdown(some)}" for held, some in telling.parts(said)]
    head = f"{len(said)} simulated tunings in {time.monotonic() - begin:.0f} s.\n\n"
    telling.tell("Choice: can the labels be trusted?", COMMAND, flags, head + "\n".join(parts))


def _flags() -> argparse.Namespace:
    parser = telling.parser(COMMAND, __doc__, budgets=[1.0, 3.0, 15.0, 30.0], jobs=2)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, help="workloads")
    return parser.parse_args()


if __name__ == "__main__":
    main()
