"""The recommendation where the budget is too small to try what is likeliest to be best.

What other networks speak for, and the trials of others here do not speak against, is handed on although its shortest
trial would not have fitted: a choice among the cheap ones that were tried is mostly a worse one. Replayed (RESULTS.md,
"budgets below a full run"), it is on the workloads open to tuning, and now better, now worse on the two held out; none
diverged. It is said in every place that nobody has tried it. Whoever has an optimizer of their own, a limit of memory or
a half-trained net gets only what was tried.
"""

from __future__ import annotations

from autoopt.recommend import believed
from autoopt.recommend.account import account
from autoopt.recommend.assumed import assumed
from autoopt.recommend.evidence import Evidence
from autoopt.recommend.handed import beside, handed_on
from autoopt.recommend.rate_curves import rate_curves
from autoopt.recommend.rounds import rounds
from autoopt.recommend.rows import rows
from autoopt.recommend.untuned import source, unmeasured
from autoopt.records import BASELINE, Confidence, Gain, Recommendation, Row
from autoopt.tuning import options as offered
from autoopt.tuning.entry import NO_TRIAL_FITS
from autoopt.tuning.leaders import DOUBT
from autoopt.tuning.option import Option
from autoopt.tuning.verdict import Verdict
from autoopt.tuning.view import View

_DEAREST = 12.0
"""Times of AdamW's step: who has minutes for a choice does not expect a run that takes dozens of times as long."""


def favourite(e: Evidence, verdict: Verdict) -> tuple[Option, View] | None:
    """What no trial of fitted the budget and is still believed to be better than the best that was tried.

    Doubt is counted against both. With it the belief that speaks of both; `None`: there is no such.
    """
    kept = e.report.baseline.source != "default" or e.report.checkpoint is not None
    if kept or e.planner.limits.memory is not None or e.policy.objective != "loss_at_steps":
        return None
    names = {name for name, arm in e.planner.arms.items() if _too_dear(e, name) and not arm.tried}
    if not names:
        return None
    view = e.planner.field.everybody()
    option = view.best(lambda o: o.optimizer in names, doubt=DOUBT)
    tried = believed.option(verdict.chosen.key)
    if option is None or view.expected(option, DOUBT) >= view.expected(tried, DOUBT):
        return None
    return option, view


def _too_dear(e: Evidence, name: str) -> bool:
    """Whether the budget alone kept an optimizer from being tried, and no limit would."""
    timed = e.planner.pace.timed(name)
    over = timed is not None and (
        timed > _DEAREST or e.planner.limits.foreseen(timed, e.planner.plan.step_seconds)
    )
    return e.planner.arms[name].dropped.startswith(NO_TRIAL_FITS) and not over


def untried(e: Evidence, verdict: Verdict, option: Option, view: View) -> Recommendation:
    """Hands on a configuration that was not tried, and says so."""
    name, best = e.title(option.optimizer), verdict.chosen.key
    sure = view.difference(option, believed.option(best)).probability_below(0.0)
    own = Option(BASELINE, dict(e.planner.arms[BASELINE].start)) if BASELINE in e.planner.arms else None
    gain = (
        view.difference(option, own).probability_below(0.0)
        if own and e.planner.field.own is not None
        else None
    )
    known = (
        ""
        if gain is None
        else f"; better than AdamW at its default with {believed.percent(gain)} probability"
    )
    over_tried = (
        f"better than {e.title(best[0])}, the best that was, with {believed.percent(sure)} probability"
    )
    return Recommendation(
        **account(e),
        recommendation=handed_on(e, option.optimizer, option.hyper, None, tuned=False),
        expected=unmeasured(e),
        against_yours=Gain(
            verdict="unknown",
            yours=None,
            chosen=None,
            probability=gain,
            sentence=f"not tried here: {name}, the best {source(e)} that we measured, is too dear for the budget{known}",
        ),
        confidence=Confidence(
            label="low", reasons=["it was not tried here: its shortest trial is too dear for the budget"]
        ),
        reason=f"{name} was not tried here: its shortest trial is too dear for the budget. By what it did elsewhere and "
        f"what others did here it is {over_tried}. A larger budget would try it.{beside(e, option.hyper)}",
        optimizers=[
            _row(row, best[0], f"the best that was tried; {name} was not") for row in rows(e, verdict)
        ],
        cut=e.planner.plan.cut
        | {a.name: a.dropped for a in e.planner.arms.values() if a.dropped.startswith("cut")},
        race=rounds(e.planner),
        rates=rate_curves(e, verdict, []),
        notes=[*e.notes, *offered.of(e.policy.tune, e.report).notes, *assumed(e)],
    )


def _row(row: Row, best: str, reason: str) -> Row:
    """A row of the table, in which the best that was tried is not what is recommended."""
    if row.optimizer != best:
        return row
    return row.model_copy(update={"status": "undecided", "reason": reason})
