"""The answer to the user's question: is it better than mine, by how much, and what made the difference?

How sure that is, is one probability (`believed.difference`): of the real run, and from all trials. The losses beside it, and
their interval, are its evidence: what was measured on the seeds that both ran.
"""

from __future__ import annotations

import statistics

from autoopt.recommend import believed, midrun
from autoopt.recommend.evidence import Evidence
from autoopt.recommend.numbers import words
from autoopt.records import BASELINE, Gain, WorkloadReport
from autoopt.tuning.arm import Key, key_of
from autoopt.tuning.race import FRESH_SEEDS
from autoopt.tuning.ranking import Difference, difference
from autoopt.tuning.verdict import Verdict

_SHOWN = 0.9
"""Probability of being better from which it is called so."""


def gain(e: Evidence, verdict: Verdict) -> Gain:
    """Chosen against the user's own optimizer, over the seeds that both ran."""
    chosen, baseline = e.stand_in(verdict.chosen.key), e.planner.arms.get(BASELINE)
    own = key_of(BASELINE, baseline.start) if baseline else None
    what = e.score.metric[0] if e.score.metric else "loss"
    if own is None or own not in e.scores or (own != chosen and _shared_length(e, chosen, own) is None):
        sure = _untrained(e, verdict, own)
        return Gain(
            verdict="unknown",
            yours=None,
            chosen=_value(e, chosen),
            probability=sure,
            sentence="against yours: not known, no length was trained with both"
            + ("" if sure is None else f"; by what it was elsewhere {_better(e, sure)}"),
        )
    if chosen == own:
        before = e.expected(own)
        return Gain(
            verdict="keep",
            yours=_value(e, own),
            chosen=_value(e, own),
            low=before.low,
            high=before.high,
            sentence=midrun.keep(e.report, what, words(_value(e, own)))
            if e.report.checkpoint
            else f"keep what you have ({_named(e.report)}): {what} {words(_value(e, own))}"
            f"{_after(e, before.steps)}, and nothing that was tried is shown to be better",
        )
    return _against(e, verdict, chosen, own, what)


def _against(e: Evidence, verdict: Verdict, chosen: Key, own: Key, what: str) -> Gain:
    steps = _shared_length(e, chosen, own) or e.total
    gap, base = _compare(e, chosen, own)
    yours, ours = e.score.unit(base), e.score.unit(base + gap.mean)
    middle = _tuned_own(e, chosen, own, base)
    sign = -1 if e.score.metric and e.score.metric[1] == "max" else 1
    tuning = None if middle is None else sign * (yours - middle)
    switching = None if middle is None else sign * (middle - ours)
    low, high = sorted(e.score.unit(base + end) for end in gap.interval())
    same = chosen[0] == e.report.baseline.registry_name
    who = "yours" if e.report.baseline.source == "configure_optimizers" else "AdamW at its default"
    parts = (
        f", of which {words(tuning)} from tuning and {words(switching)} from switching"
        if middle is not None
        else ""
    )
    sure = believed.difference(e, verdict.chosen.key, own).probability_below(0.0)
    doubt = "" if sure >= _SHOWN else "not decided, "
    begin = midrun.switch(e.report, same) if e.report.checkpoint else f"against {who}"
    return Gain(
        verdict="tune" if same else "switch",
        yours=yours,
        chosen=ours,
        low=low,
        high=high,
        probability=sure,
        from_tuning=tuning,
        from_switching=switching,
        paired=gap.paired,
        sentence=f"{begin}: {what} {words(yours)} -> {words(ours)} [{words(low)}, {words(high)}]{parts} "
        f"({_where(e, chosen, own, steps)}); over all trials {doubt}{_better(e, sure)}",
    )


def _after(e: Evidence, steps: int | None) -> str:
    """A loss of a short trial is not that of the real run, whose promise stands elsewhere: says how short."""
    return "" if steps == e.total else f" after {steps} of {e.total} steps"


def _better(e: Evidence, probability: float) -> str:
    """The one sentence on how sure it is."""
    when = " after equal time" if e.policy.objective == "loss_at_time" else ""
    return f"better{when} with {believed.percent(probability)} probability"


def _untrained(e: Evidence, verdict: Verdict, own: Key | None) -> float | None:
    """Probability of being better than a known optimizer that was not tried here; `None` where nothing is known of it."""
    if own is None or e.planner.field.own is None or e.planner.arms[BASELINE].tried:
        return None
    return believed.difference(e, verdict.chosen.key, own).probability_below(0.0)


def _where(e: Evidence, chosen: Key, own: Key, steps: int) -> str:
    """What the two losses were measured on."""
    number, fresh = len(_seeds(e, chosen, own, steps)), bool(_fresh(e, chosen, own, steps))
    kind = "fresh seed" if fresh else "seed"
    on = f"{number} {kind}{'s' * (number > 1)}" if number else "seeds of their own"
    return f"{on},{after}" if (after := _after(e, steps)) else on


def _shared_length(e: Evidence, key: Key, own: Key) -> int | None:
    """The longest length at which both have a score."""
    lengths = {r.spec.steps for r in e.planner.results}
    return max((n for n in lengths if {key, own} <= set(e.planner.race.scores(n))), default=None)


def _fresh(e: Evidence, key: Key, own: Key, steps: int) -> set[int]:
    """Fresh seeds that both ran at a length."""
    scores = e.planner.race.scores(steps)
    return {s for s in set(scores[key]) & set(scores[own]) if s >= e.planner.seed + FRESH_SEEDS}


def _seeds(e: Evidence, key: Key, own: Key, steps: int) -> set[int]:
    """Seeds that both are compared on at a length: fresh ones where there are any."""
    scores = e.planner.race.scores(steps)
    return _fresh(e, key, own, steps) or set(scores[key]) & set(scores[own])


def _compare(e: Evidence, key: Key, own: Key) -> tuple[Difference, float]:
    """A configuration less the user's own at the longest length that both were trained at; and the own one's y there.

    On fresh seeds where both have any.
    """
    steps = _shared_length(e, key, own)
    if steps is None:
        raise ValueError("no length was trained with both")
    scores = e.planner.race.scores(steps)
    mine, theirs = scores[key], scores[own]
    if shared := _seeds(e, key, own, steps):
        mine, theirs = {s: mine[s] for s in shared}, {s: theirs[s] for s in shared}
    return difference(mine, theirs, e.noise, e.paired), statistics.fmean(theirs.values())


def _tuned_own(e: Evidence, chosen: Key, own: Key, base: float) -> float | None:
    """What the user's own optimizer reaches when tuned; `None` when it was not tuned at this length."""
    same = e.report.baseline.registry_name
    if chosen[0] == same:
        return e.score.unit(base + _compare(e, chosen, own)[0].mean)
    candidates = [k for k in e.scores if k[0] == same and _shared_length(e, k, own) is not None]
    if not candidates:
        return None
    # Its best is told by the seeds that count most; a lucky one on the seed of the tuning is not.
    best = min(candidates, key=lambda k: (not e.fresh(k), statistics.fmean(e.used(k).values())))
    return e.score.unit(base + min(0.0, _compare(e, best, own)[0].mean))


def _value(e: Evidence, key: Key) -> float | None:
    expected = e.expected(key)
    return expected.metric if e.score.metric else expected.loss


def _named(report: WorkloadReport) -> str:
    rate = report.baseline.hyper.get("lr")
    return report.baseline.optimizer + (f" at {rate:.3g}" if rate else "")
