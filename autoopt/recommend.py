"""From the trials and the policy to a Recommendation with its reasons."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoopt.errors import NoResult
from autoopt.optim.spec import OptimSpec
from autoopt.policy import Policy
from autoopt.records import (
    BASELINE,
    Choice,
    Confidence,
    Expected,
    Gain,
    Hyper,
    Outcome,
    Recommendation,
    Row,
    TrialResult,
    WorkloadReport,
)
from autoopt.schedule import warmup_steps
from autoopt.tuning import horizon
from autoopt.tuning.arm import Arm, Key, key_of
from autoopt.tuning.planner import FRESH_SEEDS, Planner
from autoopt.tuning.ranking import Noise, difference, interval, pooled_noise
from autoopt.tuning.verdict import Candidate, Verdict, at_equal_time, decide, pareto

_EDGE_NOTE = 0.3


@dataclass(frozen=True)
class Evidence:
    """Everything a recommendation is made from.

    Args:
        paired: whether trials of one seed were proven to see the same batches.
        complete: False when the run was stopped early.
    """

    name: str
    report: WorkloadReport
    policy: Policy
    specs: Mapping[str, OptimSpec]
    planner: Planner
    ledger: dict[str, float]
    provenance: dict[str, Any]
    complete: bool
    notes: list[str]

    @property
    def paired(self) -> bool:
        return paired(self.planner.results)


def paired(results: list[TrialResult]) -> bool:
    """Whether all trials of a seed saw the same batches, as far as the shorter of each two went."""
    longest: dict[int, list[str]] = {}
    for result in results:
        known = longest.setdefault(result.spec.seed, [])
        shared = min(len(known), len(result.digests))
        if known[:shared] != result.digests[:shared]:
            return False
        if len(result.digests) > len(known):
            longest[result.spec.seed] = result.digests
    return True


def recommend(evidence: Evidence) -> Recommendation:
    """The recommendation that the evidence supports.

    Raises:
        NoResult: trials were run, and every one failed or diverged.
    """
    planner = evidence.planner
    if not planner.layout.screen_steps or not planner.results:
        return _untuned(evidence)
    steps = _longest(planner)
    if steps is None:
        raise NoResult(
            _why_nothing(planner.results),
            "See the logs folder beside the events; try a smaller learning rate.",
        )
    scores = planner.scores(steps)
    noise = pooled_noise(list(scores.values()), evidence.paired)
    candidates = _candidates(evidence, scores, steps)
    verdict = decide(
        candidates,
        noise,
        tolerance=evidence.policy.tolerance,
        tie_order=evidence.policy.tie_order,
        paired=evidence.paired,
    )
    return _Writer(evidence, verdict, noise, steps, scores).write()


def _longest(planner: Planner) -> int | None:
    """The longest length at which anything was completed without diverging."""
    lengths = {
        t.steps
        for arm in planner.arms.values()
        if not arm.dropped
        for t in arm.tried.values()
        if t.y is not None and not t.diverged
    }
    return max(lengths, default=None)


def _why_nothing(results: list[TrialResult]) -> str:
    kinds = {r.outcome for r in results}
    if kinds == {Outcome.DIVERGED} or all(
        r.outcome in (Outcome.DIVERGED, Outcome.COMPLETED) for r in results
    ):
        return f"All {len(results)} trials diverged: no learning rate that was tried trains this model."
    last = next(r for r in reversed(results) if r.outcome not in (Outcome.DIVERGED, Outcome.COMPLETED))
    return f"Every trial failed; the last one: {last.message or last.outcome}."


def _candidates(evidence: Evidence, scores: Mapping[Key, Mapping[int, float]], steps: int) -> list[Candidate]:
    planner = evidence.planner
    first_fresh = planner.seed + FRESH_SEEDS
    found = []
    for key, by_seed in scores.items():
        arm = planner.arms[key[0]]
        trials = [t for t in arm.tried.values() if t.steps == steps and key_of(arm.name, t.hyper) == key]
        if arm.dropped or any(t.diverged for t in trials):
            continue
        fresh = {s: y for s, y in by_seed.items() if s >= first_fresh}
        own = [r for r in planner.results if r.spec.optimizer == key[0]]
        cost = {
            "time": _median([r.step_seconds for r in own]),
            "memory": _median([r.peak_bytes for r in own]),
        }
        used = fresh or dict(by_seed)
        if evidence.policy.objective == "loss_at_time":
            used = {s: y + _time_shift(planner, key[0], steps) for s, y in used.items()}
        found.append(Candidate(key, used, bool(fresh), cost))
    return found


def _time_shift(planner: Planner, name: str, steps: int) -> float:
    """What y gains or loses when this optimizer trains as many seconds as AdamW would."""
    slope = _slope(planner, name, steps)
    mine = _median([r.step_seconds for r in planner.results if r.spec.optimizer == name])
    if slope is None or not mine:
        return 0.0
    return at_equal_time(0.0, slope, mine, _reference(planner))


def _reference(planner: Planner) -> float:
    """Seconds per step that others are compared with: AdamW's in these trials, else the calibrated ones."""
    return (
        _median([r.step_seconds for r in planner.results if r.spec.optimizer == "adamw"])
        or planner.plan.step_seconds
    )


def _slope(planner: Planner, name: str, steps: int) -> float | None:
    """dy / d log(steps) between this optimizer's best at the screen's length and at `steps`."""
    arm, short = planner.arms[name], planner.layout.screen_steps
    a, b = arm.best(short, planner.seed), arm.best(steps, planner.seed)
    if short == steps or a is None or b is None or a.y is None or b.y is None:
        return None
    return (b.y - a.y) / math.log(steps / short)


class _Writer:
    """Words and numbers of one recommendation."""

    def __init__(
        self,
        evidence: Evidence,
        verdict: Verdict,
        noise: Noise,
        steps: int,
        scores: Mapping[Key, Mapping[int, float]],
    ) -> None:
        self.e, self.v, self.noise, self.steps, self.scores = evidence, verdict, noise, steps, scores
        self.planner, self.score = evidence.planner, evidence.planner.score
        self.total = evidence.report.settings.steps

    def write(self) -> Recommendation:
        e, chosen = self.e, self.v.chosen
        arm = self.planner.arms[chosen.key[0]]
        estimate = horizon.best_at(arm.points([self.planner.seed]), self.total) if arm.tunable else None
        hyper = dict(chosen.key[1])
        notes = list(e.notes)
        if self.steps < self.total and estimate is not None:
            carried = min(estimate.x, math.log10(hyper["lr"]))
            if abs(carried - math.log10(hyper["lr"])) > 0.02:
                kind = (
                    "measured between two lengths here"
                    if estimate.measured
                    else "from a prior, not measured here"
                )
                notes.append(
                    f"learning rate carried from {hyper['lr']:.3g} at {self.steps} steps to {10**carried:.3g} at "
                    f"{self.total} ({kind}); betas and weight decay are those of the shorter trials"
                )
                hyper["lr"] = float(f"{10**carried:.4g}")
        limit = horizon.edge(arm.points()) if arm.tunable else None
        if limit is not None and "lr" in hyper and limit - math.log10(hyper["lr"]) <= _EDGE_NOTE:
            notes.append(
                f"a learning rate of {10**limit:.3g} diverged: the recommended one is close to the edge"
            )
        rows = self._rows()
        return Recommendation(
            name=e.name,
            recommendation=_choice(e, chosen.key[0], hyper, estimate, tuned=arm.tunable),
            expected=self._expected(chosen.key),
            against_yours=self._gain(),
            confidence=self._confidence(),
            reason=self._reason(),
            optimizers=rows,
            cut={
                **self.planner.plan.cut,
                **{a.name: a.dropped for a in self.planner.arms.values() if a.dropped.startswith("cut")},
            },
            settings=e.report.settings,
            workload=e.report,
            policy=e.policy.model_dump(mode="json"),
            ledger={k: round(v, 3) for k, v in e.ledger.items()},
            provenance=e.provenance,
            notes=notes,
            complete=e.complete,
        )

    # --- numbers ------------------------------------------------------------------------------------------

    def _used(self, key: Key) -> Mapping[int, float]:
        """y by seed: fresh seeds alone where there are any."""
        fresh = {s: y for s, y in self.scores[key].items() if s >= self.planner.seed + FRESH_SEEDS}
        return fresh or self.scores[key]

    def _expected(self, key: Key) -> Expected:
        name, steps = key[0], self.steps
        results = [
            r
            for r in self.planner.results
            if r.spec.steps == steps and r.outcome is Outcome.COMPLETED and key_of(name, r.spec.hyper) == key
        ]
        used = self._used(key)
        low, high = interval(used, self.noise)
        mean = statistics.fmean(used.values())
        counted = [r for r in results if r.spec.seed in used]
        losses = [r.loss for r in counted if r.loss is not None]
        own = [r for r in self.planner.results if r.spec.optimizer == name]
        by_metric = self.score.metric is not None
        loss = statistics.fmean(losses) if losses else None
        return Expected(
            loss=loss if by_metric else self.score.unit(mean),
            low=None if by_metric else self.score.unit(low),
            high=None if by_metric else self.score.unit(high),
            metric=_mean([r.metric for r in counted]),
            steps=steps,
            seeds=len(used),
            step_seconds=_median([r.step_seconds for r in own]),
            samples_per_second=_median([r.samples_per_second for r in own]),
            state_bytes=_largest([r.state_bytes for r in own]),
            peak_bytes=_largest([r.peak_bytes for r in own]),
            peak_source=next((r.peak_source for r in own if r.peak_bytes), "unknown"),
        )

    def _rows(self) -> list[Row]:
        chosen = self._expected(self.v.chosen.key)
        best: dict[str, Key] = {}
        for key in sorted(self.scores, key=lambda k: statistics.fmean(self._used(k).values())):
            better = key[0] in best and len(self._used(key)) <= len(self._used(best[key[0]]))
            if not better:
                best[key[0]] = key
        best[self.v.chosen.key[0]] = self.v.chosen.key
        expected = {name: self._expected(key) for name, key in best.items()}
        front = pareto({n: (x.loss, x.step_seconds, x.peak_bytes) for n, x in expected.items()})
        rows = []
        for arm in self.planner.arms.values():
            name = arm.name
            mine = [r for r in self.planner.results if r.spec.optimizer == name]
            key, seen = best.get(name), expected.get(name)
            status, reason = self._status(arm, key)
            hyper = dict(key[1]) if key else self._short_best(arm)
            rows.append(
                Row(
                    optimizer=name,
                    status=status,  # type: ignore[arg-type]
                    hyper=hyper,
                    expected=seen or self._at_screen(arm),
                    trials=len(mine),
                    seconds=round(sum(r.seconds.get("total", 0.0) for r in mine), 3),
                    relative_step_time=_ratio(_median([r.step_seconds for r in mine]), chosen.step_seconds),
                    relative_memory=_ratio(_largest([r.peak_bytes for r in mine]), chosen.peak_bytes),
                    loss_at_equal_time=self._at_equal_time(name, seen, chosen),
                    pareto=name in front,
                    reason=reason,
                )
            )
        order = {
            "recommended": 0,
            "tie": 1,
            "undecided": 1,
            "worse": 1,
            "edge": 2,
            "dropped": 2,
            "failed": 3,
            "not tried": 4,
        }
        return sorted(
            rows,
            key=lambda r: (
                order[r.status],
                -(r.expected.steps if r.expected else 0),
                self._order(r),
            ),
        )

    def _order(self, row: Row) -> float:
        if row.expected is None:
            return math.inf
        if self.score.metric is not None and row.expected.metric is not None:
            return -row.expected.metric if self.score.metric[1] == "max" else row.expected.metric
        return row.expected.loss if row.expected.loss is not None else math.inf

    def _status(self, arm: Arm, key: Key | None) -> tuple[str, str]:
        if key is not None and key == self.v.chosen.key:
            return "recommended", ""
        if arm.dropped:
            return ("failed" if arm.dropped.startswith("failed") else "dropped"), arm.dropped
        if not arm.tried:
            return "not tried", "the time ran out before its turn"
        if key is None:
            short = arm.best(self.planner.layout.screen_steps, self.planner.seed)
            if short is None:
                return "failed", "every trial diverged or failed"
            if arm.tunable and arm.at_edge(self.planner.layout.screen_steps, self.planner.seed):
                return "edge", "not comparable: its best learning rate is at the edge of those tried"
            return "dropped", f"behind after the screen at {self.planner.layout.screen_steps} steps"
        if key in self.v.ties:
            return "tie", "no worse than the best by more than the tolerance, with 80 % probability"
        gap = difference(self._used(key), self._used(self.v.lowest.key), self.noise, self.e.paired)
        if gap.probability_below(0.0) < 0.1:
            return "worse", ""
        return "undecided", "neither better nor worse can be shown with these seeds"

    def _short_best(self, arm: Arm) -> Hyper:
        best = arm.best(self.planner.layout.screen_steps, self.planner.seed)
        return dict(best.hyper) if best else {}

    def _at_screen(self, arm: Arm) -> Expected | None:
        best = arm.best(self.planner.layout.screen_steps, self.planner.seed)
        if best is None:
            return None
        result = next(r for r in self.planner.results if r.spec.id == best.id)
        return Expected(
            loss=result.loss,
            low=None,
            high=None,
            metric=result.metric,
            steps=best.steps,
            seeds=1,
            step_seconds=result.step_seconds,
            samples_per_second=result.samples_per_second,
            state_bytes=result.state_bytes,
            peak_bytes=result.peak_bytes,
            peak_source=result.peak_source,
        )

    def _at_equal_time(self, name: str, seen: Expected | None, chosen: Expected) -> float | None:
        slope = _slope(self.planner, name, self.steps)
        if self.score.metric is not None or seen is None or seen.loss is None or slope is None:
            return None
        if not seen.step_seconds or not chosen.step_seconds:
            return None
        y = self.score.of_loss(seen.loss)
        return self.score.unit(at_equal_time(y, slope, seen.step_seconds, chosen.step_seconds))

    # --- words --------------------------------------------------------------------------------------------

    def _gain(self) -> Gain:
        planner, chosen = self.planner, self.v.chosen.key
        baseline = planner.arms.get(BASELINE)
        own = key_of(BASELINE, baseline.start) if baseline else None
        after = self._expected(chosen)
        what = self.score.metric[0] if self.score.metric else "loss"
        if own is None or own not in self.scores:
            return Gain(
                verdict="unknown",
                yours=None,
                chosen=self._value(after),
                sentence=f"against yours: not known, yours has no finished trial of {self.steps} steps",
            )
        before = self._expected(own)
        if chosen == own:
            return Gain(
                verdict="keep",
                yours=self._value(before),
                chosen=self._value(before),
                low=before.low,
                high=before.high,
                sentence=f"keep what you have ({_named(self.e.report)}): {what} {_number(self._value(before))}, "
                "and nothing that was tried is shown to be better",
            )
        gap = difference(self.scores[chosen], self.scores[own], self.noise, self.e.paired)
        same, unit = self.e.report.baseline.registry_name, self.score.unit
        base = statistics.fmean(
            [self.scores[own][s] for s in sorted(set(self.scores[own]) & set(self.scores[chosen]))]
            or self._used(own).values()
        )
        yours, ours = unit(base), unit(base + gap.mean)
        tuned = min(
            (k for k in self.scores if k[0] == same), key=lambda k: self._against(k, own), default=None
        )
        middle = unit(base + min(0.0, self._against(tuned, own))) if tuned is not None else None
        if chosen[0] == same:
            middle = ours
        low, high = gap.interval()
        sign = -1 if self.score.metric and self.score.metric[1] == "max" else 1
        tuning = None if middle is None else sign * (yours - middle)
        switching = None if middle is None else sign * (middle - ours)
        parts = (
            f", of which {_number(tuning)} from tuning and {_number(switching)} from switching"
            if tuning is not None and switching is not None
            else ""
        )
        source = (
            "yours" if self.e.report.baseline.source == "configure_optimizers" else "AdamW at its default"
        )
        ends = sorted((unit(base + low), unit(base + high)))
        return Gain(
            verdict="tune" if chosen[0] == same else "switch",
            yours=yours,
            chosen=ours,
            low=ends[0],
            high=ends[1],
            from_tuning=tuning,
            from_switching=switching,
            paired=gap.paired,
            sentence=f"against {source}: {what} {_number(yours)} -> {_number(ours)} "
            f"[{_number(ends[0])}, {_number(ends[1])}]{parts}",
        )

    def _against(self, key: Key, own: Key) -> float:
        return difference(self.scores[key], self.scores[own], self.noise, self.e.paired).mean

    def _value(self, expected: Expected) -> float | None:
        return expected.metric if self.score.metric else expected.loss

    def _confidence(self) -> Confidence:
        chosen = self.v.chosen
        ratio = self.steps / self.total
        reasons = [
            "the longest trials have the length of the real run"
            if ratio >= 1
            else f"the longest trials have {100 * ratio:.3g} % of the real run's length"
        ]
        seeds = len(chosen.scores)
        reasons.append(
            f"measured on {seeds} fresh seed{'s' * (seeds > 1)}"
            if chosen.fresh
            else "measured on the seed that it was tuned on"
        )
        settled = self.v.decided
        reasons.append(
            "ahead of every other optimizer, or shown to tie with it"
            if settled
            else "the order of the first ones is undecided"
        )
        label = "low"
        if ratio >= 0.25 and chosen.fresh:
            label = "medium"
            if ratio >= 1 and seeds >= 3 and settled:
                label = "high"
        if self.e.report.validation == "prequential":
            label = "low"
            reasons.append("there is no held-out data: batches were scored before they were trained on")
        if not self.e.paired:
            label = "low" if label == "low" else "medium"
            reasons.append("trials did not see the same batches, so the intervals are unpaired")
        if not self.e.complete:
            label = "low" if label == "low" else "medium"
            reasons.append("the run was stopped early")
        return Confidence(label=label, reasons=reasons)  # type: ignore[arg-type]

    def _reason(self) -> str:
        chosen, lowest = self.v.chosen, self.v.lowest
        name = _title(self.e, chosen.key[0])
        if chosen is not lowest:
            other = _title(self.e, lowest.key[0])
            return f"{name} ties with {other} within {100 * self.e.policy.tolerance:.3g} % and is cheaper."
        rivals = sorted((gap.mean, key) for key, gap in self.v.gaps.items() if key[0] != chosen.key[0])
        at = "at the real length" if self.steps >= self.total else f"at {self.steps} of {self.total} steps"
        if not rivals:
            return f"{name} is the only optimizer with a finished comparison {at}."
        gap = self.v.gaps[rivals[0][1]]
        second = _title(self.e, rivals[0][1][0])
        sure = 100 * (1 - gap.probability_below(0.0))
        return f"{name} has the lowest expected {'loss' if not self.score.metric else self.score.metric[0] + ' (best)'} {at}; better than {second} with {sure:.0f} % probability."


def _choice(
    e: Evidence, name: str, hyper: Hyper, estimate: horizon.Estimate | None, *, tuned: bool
) -> Choice:
    settings, report = e.report.settings, e.report
    interval = (float(f"{10**estimate.low:.3g}"), float(f"{10**estimate.high:.3g}")) if estimate else None
    spec = e.specs.get(name)
    if spec is None:
        base = report.baseline
        spec_ = e.specs.get(base.registry_name or "")
        class_, arguments = (
            (spec_.target, spec_.arguments(base.hyper)) if spec_ else (base.optimizer, dict(base.hyper))
        )
        hyper = base.hyper if not hyper else hyper
    else:
        class_, arguments = spec.target, spec.arguments(hyper)
    return Choice(
        optimizer=name,
        class_=class_,
        arguments={k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()},
        hyper=hyper,
        lr_interval=interval,
        groups=report.groups,
        no_decay=list(e.policy.no_decay),
        schedule=settings.schedule,
        warmup_steps=warmup_steps(settings.warmup, settings.steps),
        steps=settings.steps,
        tuned=tuned,
    )


def _untuned(e: Evidence) -> Recommendation:
    """No budget for a comparison: the user's own where there is one, else a setting from the policy."""
    planner = e.planner
    own = e.report.baseline.source == "configure_optimizers"
    name = BASELINE if own else "adamw" if "adamw" in e.policy.candidates else next(iter(e.policy.candidates))
    hyper = {} if own else e.policy.candidates[name].start(e.specs[name])
    what = "your own optimizer" if own else f"{_title(e, name)} at the policy's starting point"
    return Recommendation(
        name=e.name,
        recommendation=_choice(e, name, hyper, None, tuned=False),
        expected=Expected(
            loss=None,
            low=None,
            high=None,
            steps=e.report.settings.steps,
            seeds=0,
            step_seconds=e.report.step_seconds,
            samples_per_second=None,
            state_bytes=None,
            peak_bytes=None,
        ),
        against_yours=Gain(
            verdict="keep" if own else "unknown",
            yours=None,
            chosen=None,
            sentence=f"not tuned: the budget does not reach one comparison; {what} is handed on as it is",
        ),
        confidence=Confidence(label="low", reasons=["nothing was measured"]),
        reason=f"Not tuned: {what}, because no trial of a sensible length fits the budget.",
        optimizers=[
            Row(optimizer=n, status="not tried", reason="the budget does not reach one trial")
            for n in planner.arms
        ],
        cut=planner.plan.cut,
        settings=e.report.settings,
        workload=e.report,
        policy=e.policy.model_dump(mode="json"),
        ledger={k: round(v, 3) for k, v in e.ledger.items()},
        provenance=e.provenance,
        notes=e.notes,
        complete=e.complete,
    )


def _title(e: Evidence, name: str) -> str:
    if name == BASELINE:
        return (
            "your own optimizer"
            if e.report.baseline.source == "configure_optimizers"
            else "AdamW at its default"
        )
    return e.specs[name].title


def _named(report: WorkloadReport) -> str:
    rate = report.baseline.hyper.get("lr")
    return f"{report.baseline.optimizer}" + (f" at {rate:.3g}" if rate else "")


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def _known(values: list[Any]) -> list[Any]:
    return [v for v in values if v is not None]


def _median(values: list[Any]) -> float | None:
    known = _known(values)
    return float(statistics.median(known)) if known else None


def _mean(values: list[Any]) -> float | None:
    known = _known(values)
    return float(statistics.fmean(known)) if known else None


def _largest(values: list[Any]) -> int | None:
    return max(_known(values), default=None)


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a is not None and b else None
