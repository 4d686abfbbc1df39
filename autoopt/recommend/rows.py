"""The table of optimizers: what each reached, what it costs, and why it stands where it stands."""

from __future__ import annotations

import math
import statistics
from typing import Literal

from autoopt.recommend.believed import percent
from autoopt.recommend.equal_time import loss_at_equal_time
from autoopt.recommend.evidence import Evidence
from autoopt.recommend.numbers import largest, ratio
from autoopt.recommend.target import to_adamw
from autoopt.recommend.trade import ADAMW, trade
from autoopt.records import BASELINE, Expected, Row
from autoopt.tuning.arm import Arm, Key
from autoopt.tuning.verdict import Verdict, pareto

Status = Literal["recommended", "tie", "worse", "undecided", "dropped", "failed", "not tried", "edge"]
_WORSE = 0.9
_ORDER = {
    "recommended": 0,
    "tie": 1,
    "undecided": 1,
    "worse": 1,
    "edge": 2,
    "dropped": 2,
    "failed": 3,
    "not tried": 4,
}


def rows(e: Evidence, verdict: Verdict) -> list[Row]:
    """One row an optimizer, best first."""
    best = _best_keys(e, verdict)
    expected = {name: e.expected(key) for name, key in best.items()}
    chosen = expected[verdict.chosen.key[0]]
    pace = e.pace(verdict.chosen.key[0], best[verdict.chosen.key[0]])
    front = _front(e, expected, best)
    adamw = best.get(ADAMW)
    made = []
    for arm in e.planner.arms.values():
        mine, key, seen = e.results_of(arm.name), best.get(arm.name), expected.get(arm.name)
        over = e.planner.over(arm.name)
        status, reason = _status(verdict, arm, key, over.words if over else "")
        reached = to_adamw(e, key, adamw, untried="" if arm.tried else reason.removeprefix("cut: "))
        made.append(
            Row(
                optimizer=arm.name,
                status=status,
                hyper=dict(key[1]) if key else {},
                expected=seen,
                trials=len(mine),
                seconds=round(sum(r.seconds.get("total", 0.0) for r in mine), 3),
                relative_step_time=ratio(e.pace(arm.name, key), pace),
                relative_memory=ratio(
                    largest(r.peak_bytes for r in e.alike(arm.name, key)), chosen.peak_bytes
                ),
                loss_at_equal_time=loss_at_equal_time(e, arm.name, seen, e.pace(arm.name, key), chosen, pace),
                pareto=arm.name in front,
                seconds_to_adamw=reached.seconds,
                seconds_to_adamw_reason=reached.reason,
                trade=trade(e, key, seen, adamw, expected.get(ADAMW)),
                speed=e.speed(arm.name),
                reason=reason,
            )
        )
    return sorted(
        made, key=lambda r: (_ORDER[r.status], -(r.expected.steps if r.expected else 0), _place(e, r))
    )


def _front(e: Evidence, expected: dict[str, Expected], best: dict[str, Key]) -> set[str]:
    """The Pareto front of loss (or metric), step time and memory, of those that are within the limits.

    Only what was trained as long as the longest is compared. Where no peak is known, the state stands for the memory.
    """
    longest = max((x.steps for x in expected.values()), default=0)
    within = {n: x for n, x in expected.items() if x.steps == longest and not e.planner.over(n)}
    peaks = any(x.peak_bytes for x in within.values())
    metric = e.score.metric

    def worth(x: Expected) -> float | None:
        if metric is None or x.metric is None:
            return x.loss if metric is None else None
        return -x.metric if metric[1] == "max" else x.metric

    # Trials run among others; steps that were timed side by side are the fairer, where they are known of all.
    base = e.report.baseline.registry_name or ""
    timed = {n: e.planner.pace.timed(base if n == BASELINE else n) for n in within}
    fair = all(value is not None for value in timed.values())
    return pareto(
        {
            n: (
                worth(x),
                timed[n] if fair else e.pace(n, best[n]),
                x.peak_bytes if peaks else x.state_bytes,
            )
            for n, x in within.items()
        }
    )


def _best_keys(e: Evidence, verdict: Verdict) -> dict[str, Key]:
    """The configuration that speaks for each optimizer: the one that is believed to be its best.

    One that diverged speaks for none: the score that stands for it is no loss that anybody saw.
    """
    best = {c.key[0]: c.key for c in verdict.candidates}
    sound = [key for key in e.scores if not e.diverged(key)]
    for key in sorted(sound, key=lambda k: (-(e.length(k) or 0), statistics.fmean(e.used(k).values()))):
        best.setdefault(key[0], key)
    return best


def _place(e: Evidence, row: Row) -> float:
    if row.expected is None:
        return math.inf
    if e.score.metric is not None and row.expected.metric is not None:
        return -row.expected.metric if e.score.metric[1] == "max" else row.expected.metric
    return row.expected.loss if row.expected.loss is not None else math.inf


def _status(verdict: Verdict, arm: Arm, key: Key | None, over: str = "") -> tuple[Status, str]:
    if key is not None and key == verdict.chosen.key:
        return "recommended", ""
    if over:
        return "dropped", over
    if arm.dropped:
        return ("failed" if arm.dropped.startswith("failed") else "dropped"), arm.dropped
    if not arm.tried:
        return "not tried", "the time ran out before its turn"
    if key is None:
        return "failed", "every trial diverged or failed"
    if key in verdict.ties:
        return "tie", "no worse than the best by more than the tolerance, with 80 % probability"
    if key == verdict.lowest.key:
        return "tie", "the lowest loss, but no better than the tolerance, and dearer"
    gap = verdict.gaps.get(key)
    if gap is None:
        return "undecided", "never trained safely enough to be recommended"
    worse = 1 - gap.probability_below(0.0)
    if worse > _WORSE:
        return "worse", f"worse than the best with {percent(worse)} probability"
    return "undecided", f"worse than the best with only {percent(worse)} probability"
