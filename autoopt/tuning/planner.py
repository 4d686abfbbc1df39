"""Which trial next: a machine fed with results, that decides from the trials so far and the time left.

Everything it knows is in the trials that it was told, so a resume is a replay of them (a round that was under way begins
anew). It never blocks: a free slot gets the best trial that can be decided now, with trials in flight taken as unknown.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from autoopt.optim.spec import OptimSpec
from autoopt.options import multiple
from autoopt.records import BASELINE, Hyper, Outcome, Plan, TrialResult, TrialSpec
from autoopt.tuning.arm import Arm, Tried
from autoopt.tuning.asking import Moment, Proposal
from autoopt.tuning.belief import Prior
from autoopt.tuning.earlier import Earlier
from autoopt.tuning.entry import enter
from autoopt.tuning.field import Field
from autoopt.tuning.leaders import Leaders
from autoopt.tuning.limits import Excess, Limits
from autoopt.tuning.moves import Moves
from autoopt.tuning.option import Option
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import Costs, Layout
from autoopt.tuning.proposals import Proposals
from autoopt.tuning.race import Race
from autoopt.tuning.rounds import Rounds
from autoopt.tuning.score import Score, make
from autoopt.tuning.view import View

_HANG_SHARE = 0.2
"""Share of the budget that a trial may be silent for, in short budgets."""


class Planner:
    """Race, then confirm.

    Args:
        arms: by name, the baseline among them; in the order of the plan.
        specs: registry name -> spec.
        layout: lengths and shares.
        plan: what the user was shown.
        costs: the calibrated costs; corrected by what trials really take.
        score: turns results into y.
        prior: what is expected before the first trial.
        total: steps of the real run.
        deadline: seconds since the start of the run at which the last trial must have ended.
        begin: seconds since the start of the run at which trials begin.
        seed: the run's seed; tuning trains with it, finalists with fresh ones.
        own: registry name and settings of the user's own optimizer, where it is one that we know.
        chosen_by_user: whether the baseline is what the user wrote, not a default.
        epoch: steps of an epoch, where known: shorter trials cannot judge weight decay.
        no_decay: kinds of parameters without weight decay, from the policy.
        limits: from the policy.
        timed: registry name -> seconds of a step over AdamW's, where they were timed before the trials.
        rounds_timed: registry name -> how many timed steps that rests on.
        earlier: runs whose trials inform the belief, so that the budget is not spent on what is known.
        paired: whether trials of one seed see the same weights and data.
        midrun: whether the question is to keep the user's own optimizer or to leave it, so that it is tried first.
    """

    def __init__(
        self,
        arms: dict[str, Arm],
        specs: dict[str, OptimSpec],
        layout: Layout,
        plan: Plan,
        costs: Costs,
        score: Score,
        prior: Prior,
        *,
        total: int,
        deadline: float,
        begin: float,
        seed: int = 0,
        own: tuple[str, Hyper] | None = None,
        chosen_by_user: bool = False,
        epoch: int | None = None,
        no_decay: list[str] | None = None,
        limits: Limits | None = None,
        timed: Mapping[str, float] | None = None,
        rounds_timed: Mapping[str, int] | None = None,
        earlier: Sequence[Earlier] = (),
        paired: bool = True,
        midrun: bool = False,
    ) -> None:
        self.arms, self.specs, self.layout, self.plan = arms, specs, layout, plan
        self.costs, self.score = costs, score
        self.deadline, self.begin, self.seed, self.epoch = deadline, begin, seed, epoch
        self.no_decay = no_decay if no_decay is not None else ["bias", "norm", "embedding"]
        self.limits = limits or Limits()
        self.results: list[TrialResult] = []
        self.pace = Pace(costs, specs, timed, rounds_timed)
        self.race = Race(arms, seed)
        self.field = Field(prior, arms, total, own, earlier, paired=paired)
        self.moves = Moves(self.field, self.race, layout, self.pace, epoch)
        self.informed = any(run.trials for run in earlier)
        self.leaders = Leaders(self.field, self.race, total)
        self.rounds = Rounds(
            self.leaders, self.race, self.moves, self.pace, layout.confirm_seconds, costs.workers
        )
        brackets = enter(
            self.field,
            self.pace,
            layout,
            self.limits,
            step=plan.step_seconds,
            seconds=deadline - begin,
            informed=self.informed,
        )
        self.proposals = Proposals(
            self.leaders,
            self.field,
            self.race,
            self.moves,
            self.pace,
            layout,
            self.rounds,
            workers=costs.workers,
            brackets=brackets,
            chosen_by_user=chosen_by_user,
            midrun=midrun,
        )
        self._next_id = 1

    # --- told ---------------------------------------------------------------------------------------------

    def start(self, spec: TrialSpec) -> None:
        """A trial that is now in flight."""
        self._next_id = max(self._next_id, spec.id + 1)
        self.leaders.forget()
        self.rounds.reached(spec.stage)
        self.arms[spec.optimizer].tried[spec.id] = Tried(
            spec.id, spec.stage, spec.steps, spec.seed, spec.hyper
        )

    def tell(self, result: TrialResult) -> None:
        """A trial that ended, however it ended."""
        spec = result.spec
        self._next_id = max(self._next_id, spec.id + 1)
        self.leaders.forget()
        self.rounds.reached(spec.stage)
        first = not any(r.outcome is Outcome.COMPLETED for r in self.results)
        self.results.append(result)
        if first:  # the first one decides how a metric is compared
            self.score = make(self.score.initial, self.score.metric, self.results, self.score.best)
        arm = self.arms.get(spec.optimizer)
        if arm is None:
            return
        y = self.score.y(result)
        if multiple(spec.hyper) != 1 and self.limits.excess([result], 0.0) is not None:
            y = None  # that batch costs more than is allowed; the optimizer may do with the run's own
        if result.outcome is Outcome.CANCELLED:
            arm.tried.pop(spec.id, None)
            return
        arm.tried[spec.id] = Tried(
            spec.id,
            spec.stage,
            spec.steps,
            spec.seed,
            spec.hyper,
            y,
            self.score.diverged(result),
            y is None,
            told=len(self.results),
        )
        self.pace.observe(result)
        self._judge(arm, result)

    def _judge(self, arm: Arm, result: TrialResult) -> None:
        """Drops an optimizer that cannot be used or exceeds the policy's limits."""
        if arm.name == BASELINE or multiple(result.spec.hyper) != 1:
            return
        # A second trial would ask for the same bytes, unless somebody else held them.
        if result.shortage is not None and not result.disturbed and not arm.dropped:
            arm.dropped = f"failed: {result.message}"
        if arm.failures() >= 2 and not arm.dropped:  # one in flight may still end well, without a message
            arm.dropped = f"failed twice: {result.message}"
        over = self.over(arm.name)
        if over is not None:
            arm.dropped = over.words

    def over(self, name: str) -> Excess | None:
        """By how much an optimizer exceeds the limits, as far as its trials tell."""

        def trials(of: str) -> list[TrialResult]:
            return [r for r in self.results if r.spec.optimizer == of and multiple(r.spec.hyper) == 1]

        adamw = [r.step_seconds for r in trials("adamw") if r.step_seconds]
        reference = statistics.median(adamw) if adamw else self.plan.step_seconds
        return self.limits.excess(trials(name), reference, self.pace.timed(name))

    # --- asked --------------------------------------------------------------------------------------------

    @property
    def history(self) -> list[tuple[int, dict[str, float]]]:
        """(round, optimizer -> its chance of being the best when the round began)."""
        return self.rounds.history

    @property
    def view(self) -> View:
        """The belief after all that was told."""
        return self.leaders.view

    def ask(self, elapsed: float) -> TrialSpec | None:
        """The next trial, given the seconds since the start of the run; `None`: nothing to start now."""
        if not self.layout.lengths:
            return None
        for proposal in self.proposals.at(Moment(elapsed, self.begin, self.deadline), self.results):
            if self.pace.in_time(proposal.option.optimizer, proposal.steps, elapsed, self.deadline):
                return self._spec(proposal)
        return None

    def standing(self) -> tuple[list[str], dict[str, str]]:
        """Optimizers still in the race, the likeliest first, and why the others are not."""
        return self.leaders.standing()

    def choice(self, optimizer: str | None = None) -> Option | None:
        """The best of the sound configurations, of one optimizer or of all but the user's own; `None`: none is sound."""
        return self.leaders.choice(optimizer)

    def worth(self, option: Option) -> float:
        """Its expected gap at the real length, doubt counted against it."""
        return self.leaders.worth(option)

    def _spec(self, proposal: Proposal) -> TrialSpec:
        batches, longer = self.costs.eval_batches(proposal.steps), max(1.0, multiple(proposal.option.hyper))
        return TrialSpec(
            id=self._next_id,
            stage=proposal.stage,
            optimizer=proposal.option.optimizer,
            hyper=proposal.option.hyper,
            steps=proposal.steps,
            seed=proposal.seed,
            eval_batches=batches,
            no_decay=self.no_decay,
            # The last evaluation is one long silence.
            hang_seconds=max(min(60.0, _HANG_SHARE * self.deadline), 200 * longer * self.costs.step)
            + 10 * self.costs.batch * (batches or self.costs.batches or 0),
        )
