"""The recommendation of a run that compared nothing."""

from __future__ import annotations

from autoopt.errors import NoResult
from autoopt.recommend.account import account
from autoopt.recommend.evidence import Evidence
from autoopt.recommend.handed import beside, handed_on
from autoopt.records import BASELINE, Confidence, Expected, Gain, Recommendation, Row


def untuned(e: Evidence) -> Recommendation:
    """No budget for a comparison: the user's own where there is one, else what was best on other networks.

    Raises:
        NoResult: no optimizer is left.
    """
    own = e.report.baseline.source == "configure_optimizers"
    name, hyper = BASELINE, dict[str, float]()
    if not own:
        # What the budget is too small for is no worse for that.
        arms = [a for a in e.planner.arms.values() if a.tunable]
        names = [a.name for a in arms if not a.dropped or a.dropped.startswith("cut")]
        best = e.planner.view.best(lambda o: o.optimizer in names)
        if best is None:
            reasons = "; ".join(f"{a.name}: {a.dropped}" for a in arms if a.dropped)
            raise NoResult(
                f"No optimizer is left to recommend ({reasons}).",
                "Raise the limits, or give a larger --budget.",
            )
        name, hyper = best.optimizer, best.hyper
    what = "your own optimizer" if own else f"{e.title(name)}, the best {source(e)} that we measured,"
    why = (
        "no trial of a sensible length fits the budget"
        if e.complete
        else "the run was stopped before a comparison"
    )
    return Recommendation(
        **account(e),
        recommendation=handed_on(e, name, hyper, None, tuned=False),
        expected=unmeasured(e),
        against_yours=Gain(
            verdict="keep" if own else "unknown",
            yours=None,
            chosen=None,
            sentence=f"not tuned: {why}; {what} is handed on as it is",
        ),
        confidence=Confidence(label="low", reasons=["nothing was measured"]),
        reason=f"Not tuned: {what.rstrip(',')}, because {why}." + beside(e, hyper),
        optimizers=[Row(optimizer=n, status="not tried", reason=why) for n in e.specs],
        cut=e.planner.plan.cut,
        notes=e.notes,
    )


def source(e: Evidence) -> str:
    """What speaks for an optimizer that was not tried here."""
    return "by the earlier runs and on the networks" if e.planner.informed else "on the networks"


def unmeasured(e: Evidence) -> Expected:
    """What is expected of an optimizer that was not tried here."""
    return Expected(
        loss=None,
        low=None,
        high=None,
        steps=e.total,
        seeds=0,
        step_seconds=e.report.step_seconds,
        samples_per_second=None,
        state_bytes=None,
        peak_bytes=None,
    )
