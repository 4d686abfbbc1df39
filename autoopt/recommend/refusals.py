"""When there is nothing to recommend: why, and the way out."""

from __future__ import annotations

from autoopt.errors import NoResult
from autoopt.recommend.evidence import Evidence
from autoopt.records import BASELINE, Outcome
from autoopt.trials.shortage import way_out
from autoopt.tuning.limits import OVER


def refuse_if_nothing_is_within(e: Evidence, *, final: bool = False) -> None:
    """Nothing that may be recommended: the limits say why.

    Args:
        final: no candidate is left, whatever became of the others; else it takes that all are known to be over.

    Raises:
        NoResult: with the limits, and the optimizer that is nearest to them.
    """
    arms = [a for a in e.planner.arms.values() if a.tunable and not a.dropped.startswith("cut")]
    over = [a for a in arms if a.dropped.startswith(OVER)]
    tried = any(r.spec.optimizer == BASELINE for r in e.planner.results)
    if not over or (len(over) < len(arms) and not final) or (tried and not e.planner.over(BASELINE)):
        return

    def factor(name: str) -> float:
        excess = e.planner.over(name)
        return excess.factor if excess else e.planner.pace.typical(name)

    nearest = min(over, key=lambda a: factor(a.name))
    raise NoResult(
        f"No optimizer that can be used is within the limit {e.policy.limits.words()}. The nearest is "
        f"{e.title(nearest.name)}, {nearest.dropped.removeprefix(OVER + ': ')}.",
        "Raise the limit, or make a step cheaper: a smaller batch, or fewer parameters.",
    )


def nothing_usable(e: Evidence) -> NoResult:
    """The error for trials of which every one failed or diverged."""
    return NoResult(_why(e), _what_to_do(e))


def _why(e: Evidence) -> str:
    results = e.planner.results
    failed = [r for r in results if r.outcome not in (Outcome.DIVERGED, Outcome.COMPLETED)]
    if not failed:
        return f"All {len(results)} trials diverged: no learning rate that was tried trains this model."
    return f"No trial of {len(results)} can be used; the last failure: {failed[-1].message or failed[-1].outcome}."


def _what_to_do(e: Evidence) -> str:
    short = [r.shortage for r in e.planner.results if r.shortage is not None]
    if short:
        # What the most frugal of them found: the batch that the most optimizers can have.
        return way_out(max(short, key=lambda s: s.fits or 0))
    return "The logs folder beside the events has what your code printed."
