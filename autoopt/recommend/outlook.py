"""What a larger budget would buy."""

from __future__ import annotations

from autoopt.recommend.evidence import Evidence
from autoopt.records import More
from autoopt.tuning.plan import confidence, layout


def more(e: Evidence) -> More | None:
    """The plan's next level: its budget, confidence and longest trials; `None` where the plan reaches the highest."""
    plan, planner = e.planner.plan, e.planner
    if plan.next_level_seconds is None:
        return None
    # What is neither trials nor their share, the start and the end of a run, stays as it is.
    fixed = plan.budget_seconds - (planner.deadline - planner.begin)
    made = layout(
        dict(e.specs),
        e.total,
        planner.costs,
        plan.next_level_seconds - fixed,
        e.policy.confirm,
        e.policy.max_optimizers,
    )
    return More(
        budget_seconds=round(plan.next_level_seconds, 1),
        confidence=confidence(made, e.total),
        longest=made.longest,
    )
