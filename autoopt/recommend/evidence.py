"""Everything a recommendation is made from, and what follows from it directly."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from autoopt.optim.spec import OptimSpec
from autoopt.options import multiple
from autoopt.policy import Policy
from autoopt.recommend.numbers import largest, mean, median
from autoopt.records import BASELINE, Expected, Outcome, SlotsUsed, Speed, TrialResult, WorkloadReport
from autoopt.tuning.arm import Key, key_of
from autoopt.tuning.planner import Planner
from autoopt.tuning.race import FRESH_SEEDS
from autoopt.tuning.ranking import Noise, interval, pooled_noise
from autoopt.tuning.score import Score, make

Scores = Mapping[Key, Mapping[int, float]]
"""configuration -> seed -> y."""


@dataclass(frozen=True)
class Evidence:
    """What a run has found out.

    Args:
        specs: registry name -> spec, of those that were planned.
        ledger: where the seconds went.
        complete: False when the run was stopped early.
        notes: what the report should say besides.
        slots: what they did while trials ran.
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
    slots: SlotsUsed | None = None

    @cached_property
    def paired(self) -> bool:
        """Whether trials of one seed were proven to see the same batches."""
        if self.report.pairing == "digests":
            return paired(self.planner.results)
        return self.report.pairing == "yours"

    @property
    def total(self) -> int:
        """Steps of the real run."""
        return self.report.settings.steps

    @cached_property
    def score(self) -> Score:
        """The planner's, which by now also knows whether losses go below zero."""
        positive = make(1.0, None, self.planner.results).positive
        return replace(self.planner.score, positive=positive)

    @cached_property
    def steps(self) -> int | None:
        """The longest length at which a trial ended without diverging."""
        return max((n for a in self.planner.arms.values() if (n := a.longest())), default=None)

    def length(self, key: Key) -> int | None:
        """The longest length at which a configuration ended; `None`: at none."""
        tried = self.planner.arms[key[0]].tried.values()
        return max(
            (t.steps for t in tried if t.y is not None and key_of(key[0], t.hyper) == key), default=None
        )

    @cached_property
    def scores(self) -> Scores:
        """y of every configuration, each at the longest length it was trained at."""
        keys = {
            key_of(arm.name, t.hyper)
            for arm in self.planner.arms.values()
            for t in arm.tried.values()
            if t.y is not None
        }
        at = {n: self.planner.race.scores(n) for n in {self.length(key) for key in keys} if n is not None}
        return {key: at[n][key] for key in sorted(keys) if (n := self.length(key)) is not None}

    def stand_in(self, key: Key) -> Key:
        """The configuration itself where it was trained, else the trained one of its optimizer with the nearest rate."""
        if key in self.scores:
            return key
        x = math.log10(dict(key[1])["lr"])
        same = [k for k in self.scores if k[0] == key[0] and not self.diverged(k)]
        same = [k for k in same if batch_of(k) == batch_of(key)] or same
        return min(same, key=lambda k: (abs(math.log10(dict(k[1])["lr"]) - x), k))

    @cached_property
    def noise(self) -> Noise:
        """Between seeds, pooled over all configurations that were repeated."""
        return pooled_noise(list(self.scores.values()), self.paired)

    @cached_property
    def confirmed(self) -> bool:
        """Whether anything but the user's own was measured on seeds that tuning never saw."""
        return any(key[0] != BASELINE and self._fresh_scores(key) for key in self.scores)

    def _fresh_scores(self, key: Key) -> Mapping[int, float]:
        first = self.planner.seed + FRESH_SEEDS
        return {s: y for s, y in self.scores[key].items() if s >= first}

    def used(self, key: Key) -> Mapping[int, float]:
        """y by seed at its longest length: fresh seeds alone where there is somebody to compare on them."""
        return (self._fresh_scores(key) if self.confirmed else {}) or self.scores[key]

    def fresh(self, key: Key) -> bool:
        """Whether a configuration is compared on seeds that tuning never saw."""
        return self.confirmed and bool(self._fresh_scores(key))

    def diverged(self, key: Key) -> bool:
        """Whether a configuration diverged on any seed and length."""
        return self.planner.race.diverged(key)

    def results_of(self, optimizer: str) -> list[TrialResult]:
        return [r for r in self.planner.results if r.spec.optimizer == optimizer]

    def alike(self, optimizer: str, key: Key | None = None) -> list[TrialResult]:
        """An optimizer's trials with the batch of a configuration, or with the run's own: those whose costs compare."""
        times = batch_of(key)
        return [r for r in self.results_of(optimizer) if multiple(r.spec.hyper) == times]

    def step_seconds(self, optimizer: str, key: Key | None = None) -> float | None:
        """Of an optimizer step with the batch of a configuration, or with the run's own."""
        return median(r.step_seconds for r in self.timed(optimizer, key))

    def pace(self, optimizer: str, key: Key | None = None) -> float | None:
        """Seconds for as many samples as a step of the run's own batch sees: what is compared at equal samples."""
        seconds = self.step_seconds(optimizer, key)
        return None if seconds is None else seconds / batch_of(key)

    def timed(self, optimizer: str, key: Key | None = None) -> list[TrialResult]:
        """Trials whose times count: those that had their device for themselves, where there are such."""
        mine = [r for r in self.alike(optimizer, key) if r.step_seconds is not None]
        return [r for r in mine if not r.disturbed] or mine

    def speed(self, optimizer: str) -> Speed | None:
        """Where the time of its steps went, in the trial with the most of them measured with the run's own batch."""
        told = [r.speed for r in self.alike(optimizer) if r.speed is not None]
        return max(told, key=lambda s: s.steps, default=None)

    def tokens_per_second(self, samples_per_second: float | None) -> float | None:
        """Tokens, where the batches are made of them, as many in each sample as in the first batch."""
        report = self.report
        if samples_per_second is None or not report.tokens_per_batch or not report.samples_per_batch:
            return None
        return samples_per_second * report.tokens_per_batch / report.samples_per_batch

    def title(self, optimizer: str) -> str:
        """An optimizer in words."""
        if optimizer != BASELINE:
            return self.specs[optimizer].title
        own = self.report.baseline.source == "configure_optimizers"
        if own and self.report.checkpoint is not None and self.report.checkpoint.optimizer:
            return "your own optimizer with its state"
        return "your own optimizer" if own else "AdamW at its default"

    def slope(self, optimizer: str) -> float | None:
        """dy / d log(steps) between an optimizer's best at the shortest and at the longest length it was trained at."""
        arm = self.planner.arms[optimizer]
        lengths = sorted({t.steps for t in arm.tried.values() if t.alive and t.seed == self.planner.seed})
        if len(lengths) < 2:
            return None
        a, b = (arm.best(n, self.planner.seed) for n in (lengths[0], lengths[-1]))
        if a is None or b is None or a.y is None or b.y is None:
            return None
        return (b.y - a.y) / math.log(lengths[-1] / lengths[0])

    def expected(self, key: Key) -> Expected:
        """What a configuration reached at its longest length, over the seeds that count, and what it costs."""
        key = self.stand_in(key)
        used, own, steps = self.used(key), self.alike(key[0], key), self.length(key)
        counted = [
            r
            for r in own
            if r.spec.steps == steps
            and r.spec.seed in used
            and r.outcome is Outcome.COMPLETED
            and key_of(key[0], r.spec.hyper) == key
        ]
        by_metric = self.score.metric is not None
        low, high = interval(used, self.noise)
        centre = statistics.fmean(used.values())
        rate = median(r.samples_per_second for r in self.timed(key[0], key))
        return Expected(
            loss=mean(r.loss for r in counted) if by_metric else self.score.unit(centre),
            low=None if by_metric else self.score.unit(low),
            high=None if by_metric else self.score.unit(high),
            metric=mean(r.metric for r in counted),
            steps=steps or 0,
            seeds=len(used),
            step_seconds=self.step_seconds(key[0], key),
            samples_per_second=rate,
            tokens_per_second=self.tokens_per_second(rate),
            state_bytes=largest(r.state_bytes for r in own),
            peak_bytes=largest(r.peak_bytes for r in own),
            peak_source=next((r.peak_source for r in own if r.peak_bytes), "unknown"),
            ranks=next((r.ranks for r in sorted(own, key=lambda r: -r.spec.steps) if r.ranks), None),
        )


def batch_of(key: Key | None) -> float:
    """Multiple of the run's own batch that a configuration trains with."""
    return 1.0 if key is None else multiple(dict(key[1]))


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
