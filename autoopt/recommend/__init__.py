"""From the trials and the policy to a Recommendation with its reasons."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

from autoopt import options
from autoopt.errors import NoResult
from autoopt.optim.spec import Need
from autoopt.recommend.effort import efforts, spent
from autoopt.recommend.evidence import Evidence, paired
from autoopt.recommend.gain import gain
from autoopt.recommend.numbers import largest
from autoopt.recommend.outlook import more
from autoopt.recommend.promise import promise
from autoopt.recommend.rate_curves import rate_curves
from autoopt.recommend.rounds import rounds
from autoopt.recommend.rows import rows
from autoopt.records import BASELINE, Choice, Confidence, Expected, Gain, Hyper, Outcome, Recommendation, Row
from autoopt.schedule import warmup_steps
from autoopt.trials.shortage import way_out
from autoopt.tuning import options as offered
from autoopt.tuning.arm import Key
from autoopt.tuning.field import Option
from autoopt.tuning.limits import OVER
from autoopt.tuning.ranking import Difference
from autoopt.tuning.verdict import Candidate, Verdict, at_equal_time, decide

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
    _refuse_if_nothing_is_within(e)
    counted = [r for r in e.planner.results if r.outcome is not Outcome.CANCELLED]
    if not e.planner.layout.lengths or not counted:
        return _untuned(e)
    candidates = _candidates(e)
    if not candidates:
        _refuse_if_nothing_is_within(e, final=True)
        raise NoResult(_why_nothing(e), _way_out(e))
    verdict = decide(
        candidates,
        lambda a, b: _gap(e, a, b),
        tolerance=e.policy.tolerance,
        tie_order=e.policy.tie_order,
        leave_at=_LEAVE_OWN_AT if e.report.baseline.source == "configure_optimizers" else 0.5,
    )
    choice, notes = _carried(e, verdict)
    promised = promise(
        e.planner.results,
        choice.optimizer,
        choice.hyper,
        e.total,
        e.score,
        schedule=choice.schedule,
        warmup=options.applied(choice.hyper, e.report.settings).warmup,
    )
    cut = {a.name: a.dropped for a in e.planner.arms.values() if a.dropped.startswith("cut")}
    return Recommendation(
        name=e.name,
        recommendation=choice,
        expected=e.expected(verdict.chosen.key),
        promise=promised.bands,
        against_yours=gain(e, verdict),
        confidence=_confidence(e, verdict),
        reason=_reason(e, verdict) + _options(e, choice.hyper),
        optimizers=rows(e, verdict),
        cut={**e.planner.plan.cut, **cut},
        settings=e.report.settings,
        workload=e.report,
        policy=e.policy.model_dump(mode="json"),
        ledger={k: round(v, 3) for k, v in e.ledger.items()},
        spent=spent(e),
        more=more(e),
        effort=efforts(e.planner.results),
        race=rounds(e.planner),
        rates=rate_curves(e, verdict, promised.bands),
        provenance=e.provenance,
        notes=[*e.notes, *offered.of(e.policy.tune, e.report).notes, *_assumed(e), *notes, *promised.notes],
        complete=e.complete,
    )


def _assumed(e: Evidence) -> list[str]:
    """What the user did not say, or what was measured on less than everything."""
    notes = []
    if e.report.settings.origins.get("steps", "default") == "default":
        notes.append(
            f"the length of the real run was not given, so it is taken as {e.total} steps: a longer one mostly wants a "
            "lower learning rate, and may rank the optimizers otherwise (--steps)"
        )
    seen = e.planner.costs.eval_batches(e.steps or e.total)
    if seen is not None:
        notes.append(
            f"validation used {seen} of {e.report.validation_batches} batches, the same for all, so as not to take more "
            "than a fifth of a trial's time"
        )
    return [*notes, *_disturbed(e)]


def _disturbed(e: Evidence) -> list[str]:
    """Whose times say less because somebody else came onto the device."""
    again = [r for r in e.planner.results if r.repeated]
    kept = [r for r in e.planner.results if r.disturbed]
    notes = []
    if again:
        notes.append(
            f"{len(again)} trial{'s were' if len(again) > 1 else ' was'} repeated because somebody else came onto the "
            f"device: {again[0].repeated}"
        )
    if kept:
        names = sorted({r.spec.optimizer for r in kept if not _alone(e, r.spec.optimizer)})
        only = f"; {', '.join(names)} had no undisturbed trial, so their times are too long" if names else ""
        notes.append(
            f"{len(kept)} trial{'s' if len(kept) > 1 else ''} stayed disturbed ({kept[0].disturbed}): "
            f"their losses count, their times do not{only}"
        )
    return notes


def _alone(e: Evidence, optimizer: str) -> bool:
    return any(not r.disturbed for r in e.timed(optimizer))


def _candidates(e: Evidence) -> list[Candidate]:
    """Each optimizer's configuration that is believed to be best, of those that may be handed on."""
    found = []
    for name, arm in e.planner.arms.items():
        if arm.dropped and name != BASELINE:
            continue
        option = e.planner.choice(name)
        if option is None or e.planner.over(name):
            continue
        own = e.results_of(name)
        cost = {"time": e.step_seconds(name), "memory": largest(r.peak_bytes for r in own)}
        found.append(Candidate(option.key, e.planner.worth(option) + _time_shift(e, name), cost))
    return found


def _gap(e: Evidence, a: Candidate, b: Candidate) -> Difference:
    """y of a less y of b in the real run, or after equal time where the policy decides by that."""
    gap = e.planner.view.difference(_option(a.key), _option(b.key))
    return replace(gap, mean=gap.mean + _time_shift(e, a.key[0]) - _time_shift(e, b.key[0]))


def _option(key: Key) -> Option:
    return Option(key[0], dict(key[1]))


def _time_shift(e: Evidence, name: str) -> float:
    """What y gains or loses when this optimizer trains for as many seconds as AdamW would; 0 at equal steps."""
    slope, mine = e.slope(name), e.step_seconds(name)
    if e.policy.objective != "loss_at_time" or slope is None or not mine:
        return 0.0
    return at_equal_time(0.0, slope, mine, e.step_seconds("adamw") or e.planner.plan.step_seconds)


def _carried(e: Evidence, verdict: Verdict) -> tuple[Choice, list[str]]:
    """The choice at the real run's length, and what the user should know about how it got there."""
    option, notes = _option(verdict.chosen.key), list[str]()
    arm = e.planner.arms[option.optimizer]
    if not arm.tunable:
        return _choice(e, option.optimizer, option.hyper, None, tuned=True), notes
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
    return _choice(e, option.optimizer, option.hyper, e.planner.view.rates(option), tuned=True), notes


def _choice(
    e: Evidence, name: str, hyper: Hyper, rates: tuple[float, float] | None, *, tuned: bool
) -> Choice:
    settings, base = options.applied(hyper, e.report.settings), e.report.baseline
    around = None
    if rates is not None and "lr" in hyper:
        low, high = min(10 ** rates[0], hyper["lr"]), max(10 ** rates[1], hyper["lr"])
        around = (float(f"{low:.2g}"), float(f"{high:.2g}"))
    spec = e.specs.get(name)
    if spec is not None:
        class_, arguments = spec.target, spec.arguments(options.own(hyper))
    else:
        own = e.specs.get(base.registry_name or "")
        hyper = hyper or dict(base.hyper)
        class_, arguments = (own.target, own.arguments(hyper)) if own else (base.optimizer, dict(hyper))
    return Choice(
        optimizer=name,
        class_=class_,
        arguments={k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()},
        hyper=hyper,
        lr_interval=around,
        groups=e.report.groups,
        no_decay=list(e.policy.no_decay),
        schedule="constant" if spec and Need.OWN_SCHEDULE in spec.needs else settings.schedule,
        warmup_steps=warmup_steps(settings.warmup, settings.steps),
        steps=settings.steps,
        tuned=tuned,
    )


def _confidence(e: Evidence, verdict: Verdict) -> Confidence:
    chosen = e.stand_in(verdict.chosen.key)
    share, fresh = (e.length(chosen) or 0) / e.total, e.fresh(chosen)
    seeds = len(e.used(chosen))
    close = e.planner.view.within(_option(verdict.chosen.key), _CLOSE)
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
    rivals = sorted((gap.mean, key) for key, gap in verdict.gaps.items() if key[0] != chosen.key[0])
    if not rivals:
        return f"{name} is the only optimizer with a finished trial."
    second, what = rivals[0][1], f"expected {e.score.metric[0]}" if e.score.metric else "expected loss"
    sure = 100 * (1 - verdict.gaps[second].probability_below(0.0))
    return f"{name} has the best {what} {at}: better than {e.title(second[0])} with {sure:.0f} % probability."


def _options(e: Evidence, hyper: Hyper) -> str:
    """What it changes beside the optimizer."""
    said = offered.words(hyper, e.report.settings)
    return f" It trains with {said}." if said else ""


def _refuse_if_nothing_is_within(e: Evidence, *, final: bool = False) -> None:
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


def _why_nothing(e: Evidence) -> str:
    results = e.planner.results
    failed = [r for r in results if r.outcome not in (Outcome.DIVERGED, Outcome.COMPLETED)]
    if not failed:
        return f"All {len(results)} trials diverged: no learning rate that was tried trains this model."
    return f"No trial of {len(results)} can be used; the last failure: {failed[-1].message or failed[-1].outcome}."


def _way_out(e: Evidence) -> str:
    short = [r.shortage for r in e.planner.results if r.shortage is not None]
    if short:
        # What the most frugal of them found: the batch that the most optimizers can have.
        return way_out(max(short, key=lambda s: s.fits or 0))
    return "The logs folder beside the events has what your code printed."


def _untuned(e: Evidence) -> Recommendation:
    """No budget for a comparison: the user's own where there is one, else what was best on other networks."""
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
    source = "by the earlier runs and on the networks" if e.planner.informed else "on the networks"
    what = "your own optimizer" if own else f"{e.title(name)}, the best {source} that we measured,"
    why = (
        "no trial of a sensible length fits the budget"
        if e.complete
        else "the run was stopped before a comparison"
    )
    unknown = Expected(
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
    return Recommendation(
        name=e.name,
        recommendation=_choice(e, name, hyper, None, tuned=False),
        expected=unknown,
        against_yours=Gain(
            verdict="keep" if own else "unknown",
            yours=None,
            chosen=None,
            sentence=f"not tuned: {why}; {what} is handed on as it is",
        ),
        confidence=Confidence(label="low", reasons=["nothing was measured"]),
        reason=f"Not tuned: {what}, because {why}." + _options(e, hyper),
        optimizers=[Row(optimizer=n, status="not tried", reason=why) for n in e.specs],
        cut=e.planner.plan.cut,
        settings=e.report.settings,
        workload=e.report,
        policy=e.policy.model_dump(mode="json"),
        ledger={k: round(v, 3) for k, v in e.ledger.items()},
        spent=spent(e),
        more=more(e),
        effort=efforts(e.planner.results),
        provenance=e.provenance,
        notes=e.notes,
        complete=e.complete,
    )
