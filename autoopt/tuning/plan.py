"""The plan, made before anything is spent: how many trials of which length, and what they can show.

    race      rounds: every optimizer in the race gets one trial a round, its most useful one by the belief of
              `field.py`, and leaves when it is hardly the best any more
    confirm   the finalists and the user's own optimizer with fresh seeds

Lengths are the real one, a half, a quarter, ..., never below a minimum: very short trials mislead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoopt.optim.spec import Need, OptimSpec
from autoopt.records import Plan, StagePlan, WorkloadReport

MIN_STEPS = 30
SHORTEST = 256
"""No trial is shorter than the real run divided by this."""
LENGTHS = 4
"""Lengths of trials in one run: the longest that fits, and the three below it."""
MOST_FRESH = 5
"""Fresh seeds of a finalist: more buy little."""
FEWEST_TO_CONFIRM = 8
"""Trials at the longest length that must fit before any is kept for fresh seeds."""
MANY_WORKERS = 16
"""From here on trials at once are so many that finalists get their fresh seeds beside the race, in full length."""
_ONE_TRIAL = 1.1
"""Times of a longest trial that are kept for that."""
_HIGH_TRIALS = 16
"""Full-length trials without which no choice is called sure."""
_LONGEST_SHARE = 0.6
"""Of the time left that a single trial may take."""
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
    """The numbers behind a plan.

    Args:
        optimizers: that may enter the race, the ones to keep longest first.
        lengths: of trials, in steps, longest first; none: too short a budget for any trial.
        capacity: trials of the longest length that the budget holds.
        confirm_seconds: wall-clock kept for fresh seeds at the end.
    """

    optimizers: list[str]
    lengths: list[int]
    capacity: float
    confirm_seconds: float

    @property
    def longest(self) -> int:
        return self.lengths[0] if self.lengths else 0


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
    confirm: float,
    most: int | None = None,
) -> Layout:
    """Lengths and optimizers that `seconds` of wall-clock buy.

    Args:
        candidates: registry name -> spec, the ones to keep longest first.
        total: steps of the real run.
        costs: what things cost.
        seconds: wall-clock left for trials.
        confirm: share of it for fresh seeds, where there is time for any.
        most: at most so many optimizers.
    """
    names = list(candidates)[: most or None]
    fitting = [n for n in lengths(total) if costs.trial(n, _TYPICAL) <= _LONGEST_SHARE * seconds]
    if not fitting or not names:
        return Layout(names, [], 0.0, 0.0)
    capacity = seconds * costs.workers * _USEFUL / costs.trial(fitting[0], _TYPICAL)
    kept = confirm * seconds if capacity >= FEWEST_TO_CONFIRM else 0.0
    if kept and costs.workers >= MANY_WORKERS:
        # A share in which no longest trial ends would be lost on all workers; a race of less than one such trial too.
        one = _ONE_TRIAL * costs.trial(fitting[0], _TYPICAL)
        kept = max(kept, one) if seconds >= 2 * one else kept
    return Layout(names, fitting[:LENGTHS], capacity, kept)


def confidence(made: Layout, total: int) -> str:
    """The label that a layout can reach; what is reached depends on the results too."""
    if made.longest < total / 4:
        return "low"
    return "high" if made.longest >= total and made.capacity >= _HIGH_TRIALS else "medium"


def describe(
    candidates: dict[str, OptimSpec],
    total: int,
    costs: Costs,
    seconds: float,
    budget: float,
    confirm: float,
    most: int | None,
    cut: dict[str, str],
) -> tuple[Layout, Plan]:
    """The layout and what the user is shown of it before anything is spent."""
    made = layout(candidates, total, costs, seconds, confirm, most)
    dropped = {n: "the policy's max_optimizers" for n in candidates if n not in made.optimizers}
    label = confidence(made, total)
    plan = Plan(
        budget_seconds=budget,
        workers=costs.workers,
        step_seconds=costs.step,
        full_run_seconds=costs.trial(total),
        affordable_steps=int(seconds * costs.workers * _USEFUL / costs.step),
        stages=_stages(made, costs, seconds),
        cut={**cut, **dropped},
        confidence=label,
        next_level_seconds=_next_level(candidates, total, costs, seconds, confirm, most, budget - seconds),
        notes=_notes(made, total),
    )
    return made, plan


def _stages(made: Layout, costs: Costs, seconds: float) -> list[StagePlan]:
    if not made.lengths:
        return []
    trial = costs.trial(made.longest, _TYPICAL)
    race = seconds - made.confirm_seconds
    stages = [
        StagePlan(
            name="race",
            optimizers=made.optimizers,
            trials=max(1, int(race * costs.workers * _USEFUL / trial)),
            steps=made.longest,
            seeds=1,
            seconds=race,
        )
    ]
    fresh = int(made.confirm_seconds * costs.workers / trial)
    if fresh:
        stages.append(
            StagePlan(
                name="confirm",
                optimizers=["the finalists and yours"],
                trials=fresh,
                steps=made.longest,
                seeds=min(max(1, fresh // 3), MOST_FRESH),
                seconds=made.confirm_seconds,
            )
        )
    return stages


def _next_level(
    candidates: dict[str, OptimSpec],
    total: int,
    costs: Costs,
    seconds: float,
    confirm: float,
    most: int | None,
    start: float,
) -> float | None:
    """The budget that reaches the next confidence, the start included."""
    label = confidence(layout(candidates, total, costs, seconds, confirm, most), total)
    if label == "high":
        return None
    more = max(seconds, costs.trial(MIN_STEPS))
    for _ in range(60):
        more *= 1.25
        if confidence(layout(candidates, total, costs, more, confirm, most), total) != label:
            return start + more
    return None


def _notes(made: Layout, total: int) -> list[str]:
    if not made.lengths:
        return ["the budget is too short for a single comparison; nothing will be tuned"]
    if made.longest < total:
        ratio = total / made.longest
        return [
            f"the longest trial is 1/{ratio:.0f} of the real run; what is best there is inferred from shorter ones"
        ]
    return []
