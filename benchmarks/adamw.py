"""The rivals: AdamW as people leave it, and AdamW tuned by full-length runs for as long as autoopt had.

They run in autoopt's own workers, loop and schedule, so nothing but the choice of settings differs.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from autoopt.records import Hyper, Outcome, Settings, TrialResult, TrialSpec
from autoopt.trials.runner import Runner

GRID = (1e-3, 3e-3, 3e-4, 1e-2, 1e-4, 3e-2, 1e-1)
"""Learning rates tried first, the usual ones before the unusual."""
DECAYS = (0.0, 0.01, 0.1)
_NEAR = 0.25
"""Decades (standard deviation) around the best rate in which the second half searches."""
TUNING_SEED = 0


@dataclass(frozen=True)
class Tuned:
    hyper: Hyper
    trials: int
    seconds: float


def run_seeds(runner: Runner, hyper: Hyper, settings: Settings, seeds: list[int]) -> list[TrialResult]:
    """AdamW with `hyper` over the real run's length, one run a seed, in the order of `seeds`."""
    todo = iter([_spec(hyper, settings, seed, number) for number, seed in enumerate(seeds)])
    results = run_all(runner, lambda _: next(todo, None))
    return sorted(results, key=lambda result: result.spec.id)


def tune(runner: Runner, settings: Settings, budget: float, begin: float) -> Tuned:
    """Grid over the rate, then random search around the best of it with the weight decay, until `budget`.

    Args:
        budget: seconds from `begin` (of `time.monotonic`); a run that is not expected to end in time is not started.
    """
    rng, ids, grid = random.Random(0), count(), list(GRID)

    def ask(done: list[TrialResult]) -> TrialSpec | None:
        # The median, not the longest: where that is wrong it is wrong in the rival's favour.
        run = statistics.median([result.seconds.get("total", 0.0) for result in done] or [0.0])
        if time.monotonic() - begin + run > budget:
            return None
        if grid:
            hyper = {"lr": grid.pop(0), "weight_decay": 0.01}
        else:
            base = best(done, settings).spec.hyper
            hyper = {"lr": base["lr"] * 10 ** rng.gauss(0, _NEAR), "weight_decay": rng.choice(DECAYS)}
        return _spec(hyper, settings, TUNING_SEED, next(ids))

    results = run_all(runner, ask)
    return Tuned(best(results, settings).spec.hyper, len(results), time.monotonic() - begin)


def best(results: list[TrialResult], settings: Settings) -> TrialResult:
    """By the metric that the file names, ties by loss; otherwise by loss. Raises ValueError: none finished."""

    def key(result: TrialResult) -> tuple[float, float]:
        loss = result.loss if result.loss is not None else float("inf")
        if settings.metric is None or result.metric is None:
            return 0.0, loss
        return (-result.metric if settings.metric[1] == "max" else result.metric), loss

    finished = [result for result in results if result.outcome is Outcome.COMPLETED]
    if not finished:
        raise ValueError(f"none of {len(results)} runs of AdamW finished: give a larger budget")
    return min(finished, key=key)


def run_all(runner: Runner, ask: Callable[[list[TrialResult]], TrialSpec | None]) -> list[TrialResult]:
    """Keeps every slot busy with what `ask(results so far)` gives, until it gives nothing more."""
    results: list[TrialResult] = []
    running, more = 0, True
    while True:
        for slot in runner.idle() if more else ():
            spec = ask(results)
            if spec is None:
                more = False
                break
            runner.submit(slot, spec)
            running += 1
        if not more and not running:
            return results
        ended = [item for item in runner.wait(0.5) if isinstance(item, TrialResult)]
        results += ended
        running -= len(ended)


def _spec(hyper: Hyper, settings: Settings, seed: int, number: int) -> TrialSpec:
    return TrialSpec(
        id=number, stage="benchmark", optimizer="adamw", hyper=hyper, steps=settings.steps, seed=seed
    )
