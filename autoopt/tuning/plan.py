"""The plan, made before anything is spent: how many trials of which length, and what they can show.

    screen    every optimizer, the same number of learning rates each, at a short length
    deepen    the best few at the longest length that the budget allows (the real one when it can)
    confirm   the finalists and the user's own optimizer with fresh seeds, at that length

When the budget is short, optimizers are cut, never trials below a minimum length: short trials mislead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoopt.optim.spec import Need, OptimSpec
from autoopt.records import Plan, StagePlan, WorkloadReport

SCREEN_RATES = 3
MIN_STEPS = 30
SHORTEST = 64
"""No trial is shorter than the real run divided by this."""
FINAL_TRIALS = 5
"""Trials at the final length that make it worth having one: two optimizers, a second rate, the user's own, a fresh seed."""
MOST_FRESH = 5
"""Fresh seeds of a finalist: more buy little."""
ROUND = 3
"""Trials of one fresh seed: the first, the second, and the user's own."""
_USEFUL = 0.92
"""Share of workers x budget that ends up inside trials; the rest is waiting for the last ones."""
_OVERHEAD = 0.05
"""Seconds per trial for restoring weights and reporting."""
_SECOND_ORDER = 3.5
_TYPICAL = 1.15
"""Step time of a typical optimizer against AdamW's, before any was measured."""
_CONTENTION = 1.1


@dataclass(frozen=True)
class Costs:
    """What things cost here, in seconds, from the calibration of the workload."""

    step: float
    batch: float
    batches: int | None
    workers: int

    @classmethod
    def of(cls, report: WorkloadReport, workers: int) -> Costs:
        slower = _CONTENTION if workers > 1 else 1.0
        return cls(
            step=slower * (report.step_seconds + report.data_seconds),
            batch=slower * report.eval_batch_seconds,
            batches=report.validation_batches,
            workers=workers,
        )

    def eval_batches(self, steps: int) -> int | None:
        """How many validation batches a trial of this length may look at: at most a fifth of its time."""
        if not self.batches or self.batch <= 0:
            return None
        affordable = int(0.25 * steps * self.step / self.batch)
        return None if affordable >= self.batches else max(1, affordable)

    def trial(self, steps: int, relative: float = 1.0) -> float:
        """Seconds of one trial on one worker."""
        batches = self.eval_batches(steps) or self.batches or 0
        return steps * self.step * relative + batches * self.batch + _OVERHEAD


def typical_cost(spec: OptimSpec | None) -> float:
    """Step time against AdamW's, before it was measured."""
    return _SECOND_ORDER if spec is not None and Need.SECOND_ORDER in spec.needs else _TYPICAL


@dataclass(frozen=True)
class Layout:
    """The numbers behind a plan. `screen_steps` 0: too short a budget for any trial."""

    screen_steps: int
    final_steps: int
    optimizers: list[str]
    deepened: int
    screen_seconds: float
    confirm_seconds: float


def lengths(total: int) -> list[int]:
    """Lengths that trials may have, longest first: the real one, a half, a quarter, ..."""
    shortest = min(total, max(MIN_STEPS, math.ceil(total / SHORTEST)))
    found, length = [], float(total)
    while length >= shortest:
        found.append(round(length))
        length /= 2
    return found or [total]


def layout(
    candidates: dict[str, OptimSpec],
    total: int,
    costs: Costs,
    seconds: float,
    split: tuple[float, float, float],
    most: int | None = None,
) -> Layout:
    """Lengths and optimizers that `seconds` of wall-clock buy.

    Args:
        candidates: registry name -> spec, the ones to keep longest first.
        total: steps of the real run.
        costs: what things cost.
        seconds: wall-clock left for trials.
        split: shares of screen, deepen, confirm.
        most: at most so many optimizers.
    """
    capacity = seconds * costs.workers * _USEFUL
    names = list(candidates)[: most or None]
    possible = lengths(total)

    def fitting(steps: int, money: float) -> list[str]:
        money -= costs.trial(steps)
        taken = []
        for name in names:
            money -= SCREEN_RATES * costs.trial(steps, typical_cost(candidates[name]))
            if money < 0:
                break
            taken.append(name)
        return taken

    screen, chosen = 0, list[str]()
    for steps in possible:
        wanted = len(names) if steps > total / 4 else min(len(names), 4 if steps > total / 8 else 3)
        chosen = fitting(steps, split[0] * capacity)
        if len(chosen) >= wanted:
            screen = steps
            break
    else:
        chosen = fitting(possible[-1], 0.8 * capacity)
        screen = possible[-1] if chosen else 0
    if not screen:
        return Layout(0, 0, [], 0, 0.0, 0.0)
    spent = costs.trial(screen) + sum(
        SCREEN_RATES * costs.trial(screen, typical_cost(candidates[n])) for n in chosen
    )
    final = screen
    for steps in possible:
        if steps > screen and FINAL_TRIALS * costs.trial(steps, _TYPICAL) <= capacity - spent:
            final = steps
            break
    trial = costs.trial(final, _TYPICAL)
    trials = max(0, int((capacity - spent) / trial))
    deepened = min(len(chosen), max(1, trials // 4), 4)
    share = split[2] / (split[1] + split[2])
    confirm = max(share * (capacity - spent), min(3, trials) * trial)
    return Layout(screen, final, chosen, deepened, spent / costs.workers, confirm / costs.workers)


def confidence(made: Layout, total: int, costs: Costs) -> str:
    """The label that a layout can reach; what is reached depends on the results too."""
    if not made.screen_steps or made.final_steps < total / 4:
        return "low"
    fresh = made.confirm_seconds * costs.workers / costs.trial(made.final_steps, _TYPICAL)
    return "high" if made.final_steps >= total and fresh >= 6 else "medium"


def describe(
    candidates: dict[str, OptimSpec],
    total: int,
    costs: Costs,
    seconds: float,
    budget: float,
    split: tuple[float, float, float],
    most: int | None,
    cut: dict[str, str],
) -> tuple[Layout, Plan]:
    """The layout and what the user is shown of it before anything is spent."""
    made = layout(candidates, total, costs, seconds, split, most)
    label = confidence(made, total, costs)
    stages = []
    if made.screen_steps:
        trial = costs.trial(made.final_steps, _TYPICAL)
        rest = max(0.0, seconds - made.screen_seconds - made.confirm_seconds)
        fresh = int(made.confirm_seconds * costs.workers / trial)
        stages = [
            StagePlan(
                name="screen",
                optimizers=made.optimizers,
                trials=SCREEN_RATES * len(made.optimizers) + 1,
                steps=made.screen_steps,
                seeds=1,
                seconds=made.screen_seconds,
            ),
            StagePlan(
                name="deepen",
                optimizers=[f"the best {made.deepened}"] if made.deepened > 1 else ["the best"],
                trials=int(rest * costs.workers / trial),
                steps=made.final_steps,
                seeds=1,
                seconds=rest,
            ),
            StagePlan(
                name="confirm",
                optimizers=["the finalists and yours"],
                trials=min(fresh, MOST_FRESH * ROUND),
                steps=made.final_steps,
                seeds=min(max(1, fresh // ROUND), MOST_FRESH),
                seconds=made.confirm_seconds,
            ),
        ]
    dropped = {n: "the budget does not reach it" for n in candidates if n not in made.optimizers}
    plan = Plan(
        budget_seconds=budget,
        workers=costs.workers,
        step_seconds=costs.step,
        full_run_seconds=costs.trial(total),
        affordable_steps=int(seconds * costs.workers * _USEFUL / costs.step),
        stages=stages,
        cut={**cut, **dropped},
        confidence=label,
        next_level_seconds=_next_level(candidates, total, costs, seconds, budget, split, most, label),
        notes=_notes(made, total),
    )
    return made, plan


def _next_level(
    candidates: dict[str, OptimSpec],
    total: int,
    costs: Costs,
    seconds: float,
    budget: float,
    split: tuple[float, float, float],
    most: int | None,
    label: str,
) -> float | None:
    if label == "high":
        return None
    more = max(seconds, costs.trial(MIN_STEPS))
    for _ in range(60):
        more *= 1.25
        if confidence(layout(candidates, total, costs, more, split, most), total, costs) != label:
            return budget - seconds + more
    return None


def _notes(made: Layout, total: int) -> list[str]:
    if not made.screen_steps:
        return ["the budget is too short for a single comparison; nothing will be tuned"]
    if made.final_steps < total:
        ratio = total / made.final_steps
        return [
            f"the longest trial is 1/{ratio:.0f} of the real run; the learning rate is carried over to its length"
        ]
    return []
