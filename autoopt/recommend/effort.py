"""What the trials took, by optimizer and stage, and where the budget went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from autoopt.recommend.evidence import Evidence
from autoopt.records import Effort, Spent, TrialResult


def stage_of(name: str) -> str:
    """The stage of a trial, without the number of its round.

    >>> stage_of("race 3"), stage_of("confirm")
    ('race', 'confirm')
    """
    return "race" if name.startswith("race ") else name


def efforts(results: Iterable[TrialResult]) -> list[Effort]:
    """Trials, steps and seconds of each optimizer in each stage, in the order of their first trials."""
    grouped: dict[tuple[str, str], list[TrialResult]] = defaultdict(list)
    for result in results:
        grouped[stage_of(result.spec.stage), result.spec.optimizer].append(result)
    return [
        Effort(
            optimizer=optimizer,
            stage=stage,
            trials=len(some),
            steps=sum(r.steps_done for r in some),
            seconds=round(sum(r.seconds.get("total", 0.0) for r in some), 3),
        )
        for (stage, optimizer), some in grouped.items()
    ]


def spent(e: Evidence) -> Spent:
    """The budget: the start, and what the trials' seconds went into."""
    planner = e.planner

    def total(part: str) -> float:
        return round(sum(r.seconds.get(part, 0.0) for r in planner.results), 3)

    return Spent(
        budget_seconds=planner.plan.budget_seconds,
        startup_seconds=round(planner.begin, 3),
        workers=planner.costs.workers,
        train=total("train"),
        data=total("data"),
        build=total("build"),
        evaluate=total("evaluate"),
        compile=round(e.report.seconds.get("compile", 0.0), 3),
        compiling=total("compile"),
    )
