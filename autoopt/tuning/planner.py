"""Which trial next: a machine fed with results, that decides from the trials so far and the time left.

Everything it knows is in the trials that it was told, so a resume is a replay of them. It never blocks: a free
slot gets the best trial that can be decided now, with trials in flight taken as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from autoopt.optim.spec import OptimSpec
from autoopt.records import BASELINE, Hyper, Outcome, Plan, TrialResult, TrialSpec
from autoopt.tuning.arm import WIDE_STEP, Arm, Tried, key_of
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import MOST_FRESH, ROUND, SCREEN_RATES, Costs, Layout, lengths
from autoopt.tuning.race import FRESH_SEEDS, Race
from autoopt.tuning.score import Score, make

_TRIES = 3
"""Trials at the final length that an optimizer should get to be worth deepening."""
_MOST_KEPT = 4
_FEWEST = 4
"""Trials at the final length without which there is no comparison: two of the best, the user's own, a fresh seed."""
_DEEP_PER_ARM = 12
_HANG_SHARE = 0.2
"""Share of the budget that a trial may be silent for, in short budgets."""
_LATE = 1.05
_BEHIND_WHEN_LATE = "behind when the screen took longer than planned"


@dataclass(frozen=True)
class Limits:
    """What the policy allows: bytes of peak memory, seconds per step."""

    memory: int | None = None
    step_time: float | None = None
    step_time_relative: float | None = None


class Planner:
    """Screen, deepen, confirm.

    Args:
        arms: by name, the baseline among them; in the order of the plan.
        specs: registry name -> spec.
        layout: lengths and shares.
        plan: what the user was shown.
        costs: the calibrated costs; corrected by what trials really take.
        score: turns results into y.
        total: steps of the real run.
        deadline: seconds since the start of the run at which the last trial must have ended.
        begin: seconds since the start of the run at which trials begin.
        seed: the run's seed; tuning trains with it, finalists with fresh ones.
        no_decay: kinds of parameters without weight decay, from the policy.
        limits: from the policy.
    """

    def __init__(
        self,
        arms: dict[str, Arm],
        specs: dict[str, OptimSpec],
        layout: Layout,
        plan: Plan,
        costs: Costs,
        score: Score,
        *,
        total: int,
        deadline: float,
        begin: float,
        seed: int = 0,
        no_decay: list[str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.arms, self.specs, self.layout, self.plan = arms, specs, layout, plan
        self.costs, self.score = costs, score
        self.total, self.deadline, self.begin, self.seed = total, deadline, begin, seed
        self.no_decay = no_decay if no_decay is not None else ["bias", "norm", "embedding"]
        self.limits = limits or Limits()
        self.results: list[TrialResult] = []
        self._next_id = 1
        self._keep = 0
        self.pace = Pace(costs, specs)
        self.race = Race(arms, seed)

    # --- told ---------------------------------------------------------------------------------------------

    def start(self, spec: TrialSpec) -> None:
        """A trial that is now in flight."""
        self._next_id = max(self._next_id, spec.id + 1)
        self.arms[spec.optimizer].tried[spec.id] = Tried(
            spec.id, spec.stage, spec.steps, spec.seed, spec.hyper
        )

    def tell(self, result: TrialResult) -> None:
        """A trial that ended, however it ended."""
        spec = result.spec
        self._next_id = max(self._next_id, spec.id + 1)
        first = not any(r.outcome is Outcome.COMPLETED for r in self.results)
        self.results.append(result)
        if first:  # the first one decides how a metric is compared
            self.score = make(self.score.initial, self.score.metric, self.results)
        arm = self.arms.get(spec.optimizer)
        if arm is None:
            return
        y = self.score.y(result)
        if result.outcome is Outcome.CANCELLED:
            arm.tried.pop(spec.id, None)
            return
        arm.tried[spec.id] = Tried(
            spec.id, spec.stage, spec.steps, spec.seed, spec.hyper, y, self.score.diverged(result), y is None
        )
        self.pace.observe(result)
        self._judge(arm, result)

    def _judge(self, arm: Arm, result: TrialResult) -> None:
        """Drops an optimizer that cannot be used or exceeds the policy's limits."""
        if arm.name == BASELINE:
            return
        if arm.failures() >= 2 and not arm.dropped:  # one in flight may still end well, without a message
            arm.dropped = f"failed twice: {result.message}"
        limit = self.limits
        if limit.memory and result.peak_bytes and result.peak_bytes > limit.memory:
            arm.dropped = f"needs {result.peak_bytes / 2**30:.2f} GiB, over the policy's limit"
        seconds = result.step_seconds
        if limit.step_time and seconds and seconds > limit.step_time:
            arm.dropped = f"takes {seconds:.3g} s a step, over the policy's limit"
        reference = self.plan.step_seconds
        if limit.step_time_relative and seconds and seconds > limit.step_time_relative * reference:
            arm.dropped = f"takes {seconds / reference:.1f} times AdamW's step, over the policy's limit"

    # --- asked --------------------------------------------------------------------------------------------

    def ask(self, elapsed: float) -> TrialSpec | None:
        """The next trial, given the seconds since the start of the run; `None`: nothing to start now."""
        if not self.layout.screen_steps:
            return None
        for stage, name, hyper, steps, seed in self._proposals(elapsed):
            if elapsed + _LATE * self.pace.seconds(name, steps) <= self.deadline:
                return self._spec(stage, name, hyper, steps, seed)
        return None

    def standing(self) -> tuple[list[str], dict[str, str]]:
        """Optimizers still in the race, best first, and why the others are not."""
        kept = [arm.name for arm in self._kept()]
        dropped = {n: a.dropped or "behind" for n, a in self.arms.items() if n not in kept and n != BASELINE}
        return kept, dropped

    def _proposals(self, elapsed: float) -> Iterator[tuple[str, str, Hyper, int, int]]:
        self._cut_what_does_not_fit(elapsed)
        late = elapsed > self.begin + 1.15 * self.layout.screen_seconds + 1
        screen = list(self._screen(late))
        yield from screen
        if not screen:
            if not self._keep:
                self._settle_final(elapsed)
                self._keep = self._affordable_arms(elapsed)
            final = self.layout.final_steps
            confirm = self.deadline - self._confirm_seconds()
            for proposal in self._deepen():
                if elapsed + self.pace.seconds(proposal[1], final) <= confirm:
                    yield proposal
            yield from self._confirm()
            yield from self._deepen()

    def _settle_final(self, elapsed: float) -> None:
        """Shortens the final length when trials turned out so slow that hardly one of the planned fits any more."""
        ran = [t.steps for a in self.arms.values() for t in a.tried.values() if t.stage != "screen"]
        screen = self.layout.screen_steps
        if ran:
            final = max(ran)
        else:
            left = (self.deadline - elapsed) * self.costs.workers
            fitting = (
                n
                for n in lengths(self.total)
                if screen < n <= self.layout.final_steps and _FEWEST * self.pace.seconds("", n) <= left
            )
            final = next(fitting, screen)
        self.layout = replace(self.layout, final_steps=final)

    def _affordable_arms(self, elapsed: float) -> int:
        """How many optimizers the time left deepens: two at least where it allows, so that there is a comparison."""
        left = (self.deadline - self._confirm_seconds() - elapsed) * self.costs.workers
        trials = int(left / self.pace.seconds("", self.layout.final_steps))
        return min(_MOST_KEPT, max(trials // _TRIES, min(2, trials), 1))

    def _cut_what_does_not_fit(self, elapsed: float) -> None:
        """Cuts optimizers that have not begun, last ones first, while the screen would end far too late."""
        steps, seed = self.layout.screen_steps, self.seed
        if not self.pace.known or self._keep:
            return

        def left(arm: Arm) -> float:
            wanted = 1 if arm.name == BASELINE else SCREEN_RATES
            return (
                max(0, wanted - len(arm.at(steps, seed)))
                * self.pace.seconds(arm.name, steps)
                / self.costs.workers
            )

        end = elapsed + sum(left(arm) for arm in self.race.racing())
        for arm in reversed(self.race.racing()):
            if end <= self.begin + 1.3 * self.layout.screen_seconds + 1:
                break
            if arm.name not in (BASELINE, "adamw", "sgd") and not arm.at(steps, seed):
                end -= left(arm)
                arm.dropped = "cut: the screen took longer than planned"

    def _screen(self, late: bool) -> Iterator[tuple[str, str, Hyper, int, int]]:
        """The same number of rates for every optimizer, round by round, in the order of the plan.

        When it takes longer than planned, the worse half and those that have not begun are cut.
        """
        steps, seed = self.layout.screen_steps, self.seed
        for round_ in range(SCREEN_RATES):
            for arm in self.race.racing():
                wanted = 1 if arm.name == BASELINE else SCREEN_RATES
                seen = arm.at(steps, seed)
                if len(seen) > round_ or len(seen) >= wanted or arm.failures() >= 2:
                    continue
                if late and arm.name != BASELINE and not self.race.promising(arm, self.layout.screen_steps):
                    arm.dropped = (
                        "cut: the screen took longer than planned" if not seen else _BEHIND_WHEN_LATE
                    )
                    continue
                move = arm.rate_move(steps, seed, WIDE_STEP) if arm.tunable else dict(arm.start)
                if move is not None:
                    yield "screen", arm.name, move, steps, seed
        # A best rate at the edge of what was tried is no comparison: one more step outwards.
        for arm in self.race.racing():
            if late or not arm.tunable or len(arm.at(steps, seed)) >= SCREEN_RATES + 1:
                continue
            if (
                not any(t.pending for t in arm.at(steps, seed))
                and arm.at_edge(steps, seed)
                and self.race.promising(arm, self.layout.screen_steps)
            ):
                move = arm.rate_move(steps, seed, WIDE_STEP)
                if move is not None:
                    yield "screen", arm.name, move, steps, seed

    def _deepen(self) -> Iterator[tuple[str, str, Hyper, int, int]]:
        """The best few at the final length, in equal numbers, until one falls behind."""
        steps, seed = self.layout.final_steps, self.seed
        baseline = self.arms.get(BASELINE)
        kept = self._kept()
        if baseline and not baseline.at(steps, seed) and any(arm.at(steps, seed) for arm in kept):
            yield "deepen", BASELINE, dict(baseline.start), steps, seed
        at_screen = SCREEN_RATES if steps == self.layout.screen_steps else 0
        for arm in sorted(kept, key=lambda a: len(a.at(steps, seed))):
            if len(arm.at(steps, seed)) - at_screen >= _DEEP_PER_ARM:
                continue
            move = arm.deep_move(steps, seed, self.seed, self._next_id)
            if move is not None:
                yield "deepen", arm.name, move, steps, seed

    def _confirm_seconds(self) -> float:
        """Time to keep for fresh seeds, by what trials really take: whole rounds of the finalists and the user's own."""
        leader = next((arm.name for arm in self._kept()), "")
        one = max(self.pace.seconds(name, self.layout.final_steps) for name in ("", leader))
        workers = self.costs.workers
        rounds = min(MOST_FRESH, max(1, round(self.layout.confirm_seconds * workers / one / ROUND)))
        # Trials come in whole rounds of the workers.
        return min(math.ceil(rounds * ROUND / workers) * one, 0.6 * (self.deadline - self.begin))

    def _confirm(self) -> Iterator[tuple[str, str, Hyper, int, int]]:
        """Finalists and the user's own with fresh seeds, seed by seed, so that every pair is complete."""
        steps = self.layout.final_steps
        finalists = self.race.finalists(steps)
        if not finalists:
            return
        for fresh in range(MOST_FRESH):
            seed = self.seed + FRESH_SEEDS + fresh
            for name, hyper in [finalists[0], (BASELINE, None), *finalists[1:]]:
                arm = self.arms.get(name)
                if arm is None:
                    continue
                if name == BASELINE and (
                    (fresh and self.race.far_behind(steps))
                    # On a seed that the first finalist has no time for, the user's own would meet nobody.
                    or not self.race.ran(key_of(*finalists[0]), steps, seed)
                ):
                    continue
                settings = dict(arm.start) if hyper is None else hyper
                if not self.race.ran(key_of(name, settings), steps, seed):
                    yield "confirm", name, settings, steps, seed

    def _kept(self) -> list[Arm]:
        layout = self.layout
        return self.race.kept(layout.screen_steps, layout.final_steps, self._keep or layout.deepened)

    def _spec(self, stage: str, name: str, hyper: Hyper, steps: int, seed: int) -> TrialSpec:
        batches = self.costs.eval_batches(steps)
        return TrialSpec(
            id=self._next_id,
            stage=stage,
            optimizer=name,
            hyper=hyper,
            steps=steps,
            seed=seed,
            eval_batches=batches,
            no_decay=self.no_decay,
            # The last evaluation is one long silence.
            hang_seconds=max(min(60.0, _HANG_SHARE * self.deadline), 200 * self.costs.step)
            + 10 * self.costs.batch * (batches or self.costs.batches or 0),
        )
