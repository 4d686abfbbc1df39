"""From the trials and the policy to a Recommendation with its reasons."""

from __future__ import annotations

import math
from typing import Literal

from autoopt import options
from autoopt.recommend import believed, midrun
from autoopt.recommend.account import account
from autoopt.recommend.assumed import assumed
from autoopt.recommend.evidence import Evidence, paired
from autoopt.recommend.gain import gain
from autoopt.recommend.handed import beside, handed_on
from autoopt.recommend.numbers import largest
from autoopt.recommend.promise import promise
from autoopt.recommend.rate_curves import rate_curves
from autoopt.recommend.refusals import nothing_usable, refuse_if_nothing_is_within
from autoopt.recommend.rounds import rounds
from autoopt.recommend.rows import rows
from autoopt.recommend.untried import favourite, untried
from autoopt.recommend.untuned import untuned
from autoopt.records import BASELINE, Choice, Confidence, Outcome, Recommendation
from autoopt.tuning import options as offered
from autoopt.tuning.verdict import Candidate, Verdict, decide

__all__ = ["Evidence", "paired", "recommend"]

_NEAR_THE_EDGE = 0.3
_CLOSE = 0.05
_HIGH = 0.5
"""Probability of being within 5 % of the best from which a choice is called sure.

Measured (`python -m benchmarks.choice.reliability`): of the choices that are called so 95 % are within 5 % of the best
known on the networks that the tuner was tuned on, 100 % on the two others.
"""
_LEAVE_OWN_AT = 0.75
"""Probability of being better that it takes to leave an optimizer that the user has chosen."""


def recommend(e: Evidence) -> Recommendation:
    """The recommendation that the evidence supports.

    Raises:
        NoResult: trials were run, and every one failed or diverged.
    """
    refuse_if_nothing_is_within(e)
    counted = [r for r in e.planner.results if r.outcome is not Outcome.CANCELLED]
    if not e.planner.layout.lengths or not counted:
        return untuned(e)
    candidates = _candidates(e)
    if not candidates:
        refuse_if_nothing_is_within(e, final=True)
        raise nothing_usable(e)
    verdict = decide(
        candidates,
        lambda a, b: believed.difference(e, a.key, b.key),
        tolerance=e.policy.tolerance,
        tie_order=e.policy.tie_order,
        leave_at=_LEAVE_OWN_AT if e.report.baseline.source == "configure_optimizers" else 0.5,
    )
    if (found := favourite(e, verdict)) is not None:
        return untried(e, verdict, *found)
    choice, notes = _carried(e, verdict)
    promised = promise(
        # What a loop of the user's own reports beside a metric (the loss of a policy, of a generator) promises nothing.
        [] if e.report.kind == "own loop" and e.score.metric else e.planner.results,
        choice.optimizer,
        choice.hyper,
        e.total,
        e.score,
        schedule=choice.schedule,
        warmup=options.applied(choice.hyper, e.report.settings).warmup,
    )
    cut = {a.name: a.dropped for a in e.planner.arms.values() if a.dropped.startswith("cut")}
    return Recommendation(
        **account(e),
        recommendation=choice,
        expected=e.expected(verdict.chosen.key),
        promise=promised.bands,
        against_yours=gain(e, verdict),
        confidence=_confidence(e, verdict),
        reason=_reason(e, verdict) + beside(e, choice.hyper) + midrun.way(e.report, choice),
        optimizers=rows(e, verdict),
        cut={**e.planner.plan.cut, **cut},
        race=rounds(e.planner),
        rates=rate_curves(e, verdict, promised.bands),
        notes=[
            *e.notes,
            *offered.of(e.policy.tune, e.report).notes,
            *assumed(e),
            *notes,
            *(promised.notes if promised.bands or e.report.kind != "own loop" else []),
        ],
    )


def _candidates(e: Evidence) -> list[Candidate]:
    """Each optimizer's configuration that is believed to be best, of those that may be handed on."""
    found = []
    for name, arm in e.planner.arms.items():
        if arm.dropped and name != BASELINE:
            continue
        option = e.planner.choice(name)
        if option is None or e.planner.over(name):
            continue
        own = e.alike(name, option.key)
        cost = {"time": e.pace(name, option.key), "memory": largest(r.peak_bytes for r in own)}
        found.append(
            Candidate(option.key, e.planner.worth(option) + believed.time_shift(e, option.key), cost)
        )
    return found


def _carried(e: Evidence, verdict: Verdict) -> tuple[Choice, list[str]]:
    """The choice at the real run's length, and what the user should know about how it got there."""
    option, notes = believed.option(verdict.chosen.key), list[str]()
    arm = e.planner.arms[option.optimizer]
    if not arm.tunable:
        return handed_on(e, option.optimizer, option.hyper, None, tuned=True), notes
    tried = e.stand_in(option.key)
    length = e.length(tried) or 0
    if length < e.total:
        rate = dict(tried[1])["lr"]
        moved = "" if tried == option.key else f"; its rate was moved from {rate:.3g} towards that length"
        notes.append(
            f"{e.title(option.optimizer)} was trained for at most {length} of {e.total} steps at these settings{moved}; "
            "betas and weight decay are those of the shorter trials, and may want others in a longer run"
        )
    if "weight_decay" in arm.ranges and not e.planner.moves.judges_decay(length):
        notes.append(
            f"weight decay was not searched: its effect shows after about an epoch ({e.planner.epoch} steps), and the "
            f"longest trial had {length}"
        )
    limit = arm.edge()
    if limit is not None and limit - math.log10(option.hyper["lr"]) <= _NEAR_THE_EDGE:
        notes.append(
            f"a learning rate of {10**limit:.3g} diverged: the recommended one is close to that edge"
        )
    return handed_on(e, option.optimizer, option.hyper, e.planner.view.rates(option), tuned=True), notes


def _confidence(e: Evidence, verdict: Verdict) -> Confidence:
    chosen = e.stand_in(verdict.chosen.key)
    share, fresh = (e.length(chosen) or 0) / e.total, e.fresh(chosen)
    seeds = len(e.used(chosen))
    close = e.planner.view.within(believed.option(verdict.chosen.key), _CLOSE)
    reasons = [
        "its trials have the length of the real run"
        if share >= 1
        else f"its longest trial has {100 * share:.3g} % of the real run's length",
        f"{100 * close:.0f} % probability that nothing that could have been tried is better by more than 5 %",
        f"measured on {seeds} fresh seed{'s' * (seeds > 1)}"
        if fresh
        else "measured on the seed it was tuned on",
    ]
    label: Literal["low", "medium", "high"] = "medium" if share >= 0.25 and fresh else "low"
    if share >= 1 and close >= _HIGH and fresh:
        label = "high"
    if not e.paired:
        label = "low" if label == "low" else "medium"
        reasons.append("trials did not see the same batches, so the intervals are unpaired")
    if not e.complete:
        label = "low" if label == "low" else "medium"
        reasons.append("the run was stopped early")
    if e.report.validation == "prequential":
        label = "low"
        reasons.append("there is no held-out data: batches were scored before they were trained on")
    return Confidence(label=label, within_5_percent=round(close, 3), reasons=reasons)


def _reason(e: Evidence, verdict: Verdict) -> str:
    chosen, lowest = verdict.chosen, verdict.lowest
    name = e.title(chosen.key[0])
    if chosen.key[0] == BASELINE and chosen is not lowest:
        return f"Nothing that was tried is better than {name} clearly enough to leave it: {e.title(lowest.key[0])} is next."
    if chosen is not lowest:
        return f"{name} ties with {e.title(lowest.key[0])} within {100 * e.policy.tolerance:.3g} % and is cheaper."
    inferred = "" if (e.steps or 0) >= e.total else f", inferred from trials of at most {e.steps}"
    at = f"after {e.total} steps{inferred}"
    # Against the user's own the first line has said it.
    rivals = sorted(
        (gap.mean, key) for key, gap in verdict.gaps.items() if key[0] not in (chosen.key[0], BASELINE)
    )
    what = f"expected {e.score.metric[0]}" if e.score.metric else "expected loss"
    if not rivals:
        return (
            f"{name} has the best {what} {at}, and no other optimizer has a finished trial."
            if verdict.gaps
            else f"{name} is the only optimizer with a finished trial."
        )
    second = rivals[0][1]
    sure = believed.percent(1 - verdict.gaps[second].probability_below(0.0))
    return f"{name} has the best {what} {at}: better than {e.title(second[0])} with {sure} probability."
