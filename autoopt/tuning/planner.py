"""Which trial next: a machine fed with results, that decides from the trials so far and the time left.

Everything it knows is in the trials that it was told, so a resume is a replay of them (a round that was under way begins
anew). It never blocks: a free slot gets the best trial that can be decided now, with trials in flight taken as unknown.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from autoopt.optim.spec import OptimSpec
from autoopt.records import BASELINE, Hyper, Outcome, Plan, TrialResult, TrialSpec
from autoopt.tuning.arm import Arm, Tried, key_of
from autoopt.tuning.belief import STEP, Prior
from autoopt.tuning.earlier import Earlier
from autoopt.tuning.field import Field, Move, Option, View
from autoopt.tuning.finals import fresh_trials
from autoopt.tuning.limits import Excess, Limits
from autoopt.tuning.moves import Moves
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import Costs, Layout
from autoopt.tuning.race import Race
from autoopt.tuning.score import Score, make
from autoopt.tuning.soundness import sound

IN_THE_RACE = 0.03
"""Chance of having the best configuration below which an optimizer leaves the race."""
_ROUND_SHARE = 0.5
"""Of the worker seconds left that one round may take."""
_FIRST_SHARE = 0.4
"""Of the wall-clock left that the first trial of the leading configuration may take."""
_ENTRY_SHARE = 0.6
"""Of the wall-clock that the shortest trial of an optimizer may take, if it is to enter."""
_FEWEST_ARMS, _ARMS_PER_TRIAL = 3, 0.35
"""Optimizers that enter: so many, and more by the trials of the longest length that fit."""
CUT = "cut: the budget does not reach it, and other networks give it little hope"
DOUBT = 0.3
"""Standard deviations by which a configuration that is less well known has to be better."""
_WORTHLESS = 1e-3
"""Expected gain in y below which no trial is worth making: a thousandth of the loss, where seeds differ by hundredths."""
_MOST_TRIALS = 100
"""Trials of a race: beyond, a belief costs more to compute than it gains."""
_OWN_TRIALS = 6.0
"""Trials of the longest length that must fit before the user's own optimizer gets one of them."""
_ALWAYS = ("adamw", "sgd")
_ALWAYS_CAPACITY = 20.0
"""No comparison is worth much without these, tuned: a bracket of rates each, where so many longest trials fit."""
_BRACKET = (0.0, 0.5, -0.5)
_BRACKET_SHARE = 0.06
"""Of the budget that a trial of a bracket may take."""
_HANG_SHARE = 0.2
"""Share of the budget that a trial may be silent for, in short budgets."""
_LATE = 1.05


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
        earlier: runs whose trials inform the belief, so that the budget is not spent on what is known.
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
        earlier: Sequence[Earlier] = (),
    ) -> None:
        self.arms, self.specs, self.layout, self.plan = arms, specs, layout, plan
        self.costs, self.score = costs, score
        self.total, self.deadline, self.begin, self.seed = total, deadline, begin, seed
        self.chosen_by_user, self.epoch = chosen_by_user, epoch
        self.no_decay = no_decay if no_decay is not None else ["bias", "norm", "embedding"]
        self.limits = limits or Limits()
        self.results: list[TrialResult] = []
        self.pace = Pace(costs, specs, timed)
        self.race = Race(arms, seed)
        self.field = Field(prior, arms, total, own, earlier)
        self.moves = Moves(self.field, self.race, layout, self.pace, epoch)
        self.informed = any(run.trials for run in earlier)
        self.round = 0
        self.chances: dict[str, float] = {}
        self.history: list[tuple[int, dict[str, float]]] = []
        self._waiting: list[str] = []
        self._brackets: list[str] = []
        self._next_id = 1
        self._view: View | None = None
        self._enter()

    def _enter(self) -> None:
        """Keeps the optimizers that the budget reaches: the likeliest, by what other networks say, AdamW among them."""
        if not self.layout.lengths:
            return
        shortest, seconds = self.layout.lengths[-1], self.deadline - self.begin
        for arm in self.arms.values():
            if arm.tunable and self.pace.seconds(arm.name, shortest) > _ENTRY_SHARE * seconds:
                times = self.pace.typical(arm.name)
                arm.dropped = f"cut: no trial of it fits the budget, its step takes {times:.0f} times AdamW's"
            timed = self.pace.timed(arm.name)
            if arm.tunable and timed is not None and not arm.dropped:
                arm.dropped = self.limits.foreseen(timed, self.plan.step_seconds)
        names = [a.name for a in self.arms.values() if a.tunable and not a.dropped]
        if not names:
            return
        chances = self.view.chances(names)
        roomy = self.layout.capacity >= _ALWAYS_CAPACITY
        favourite = max(names, key=lambda n: chances[n])
        always = [favourite, *(n for n in (_ALWAYS if roomy else _ALWAYS[:1]) if n in names)]
        if self.informed:
            # What is known well has fewer chances to surprise, and yet what was best before has to be trained here.
            leading = self.view.best(lambda o: o.optimizer in names, doubt=DOUBT)
            always = [*([leading.optimizer] if leading else []), *always]
        number = max(_FEWEST_ARMS, round(_ARMS_PER_TRIAL * self.layout.capacity))
        ranked = sorted(names, key=lambda n: (n not in always, -chances[n] / self.pace.typical(n)))
        if roomy:
            self._brackets = list(dict.fromkeys(always))
        entered = ranked[:number]
        if self.informed:
            # An earlier run may have been unlucky with an optimizer: whom it speaks against may still race, if not for long.
            alone = self.field.uninformed().chances(names)
            entered += sorted(names, key=lambda n: -alone[n] / self.pace.typical(n))[:number]
        for name in ranked:
            if name not in entered:
                self.arms[name].dropped = CUT
        self.field.keep([n for n, a in self.arms.items() if not a.dropped])
        self._view = None

    # --- told ---------------------------------------------------------------------------------------------

    def start(self, spec: TrialSpec) -> None:
        """A trial that is now in flight."""
        self._next_id = max(self._next_id, spec.id + 1)
        self._view = None
        self.round = max(self.round, _round_of(spec.stage))
        self.arms[spec.optimizer].tried[spec.id] = Tried(
            spec.id, spec.stage, spec.steps, spec.seed, spec.hyper
        )

    def tell(self, result: TrialResult) -> None:
        """A trial that ended, however it ended."""
        spec = result.spec
        self._next_id = max(self._next_id, spec.id + 1)
        self._view = None
        self.round = max(self.round, _round_of(spec.stage))
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
            return [r for r in self.results if r.spec.optimizer == of]

        adamw = [r.step_seconds for r in trials("adamw") if r.step_seconds]
        reference = statistics.median(adamw) if adamw else self.plan.step_seconds
        return self.limits.excess(trials(name), reference, self.pace.timed(name))

    # --- asked --------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """The belief after all that was told."""
        if self._view is None:
            self._view = self.field.view()
        return self._view

    def ask(self, elapsed: float) -> TrialSpec | None:
        """The next trial, given the seconds since the start of the run; `None`: nothing to start now."""
        if not self.layout.lengths:
            return None
        for stage, option, steps, seed in self._proposals(elapsed):
            if self._fits(option.optimizer, steps, elapsed):
                return self._spec(stage, option, steps, seed)
        return None

    def standing(self) -> tuple[list[str], dict[str, str]]:
        """Optimizers still in the race, the likeliest first, and why the others are not."""
        racing = [a.name for a in self.race.racing() if a.tunable]
        chances = self.view.chances(racing) if racing else {}
        kept = sorted((n for n in racing if chances[n] >= IN_THE_RACE), key=lambda n: -chances[n])
        dropped = {
            n: a.dropped or f"{100 * chances.get(n, 0):.0f} % chance of being the best"
            for n, a in self.arms.items()
            if n not in kept and n != BASELINE
        }
        return kept, dropped

    def _proposals(self, elapsed: float) -> Iterator[tuple[str, Option, int, int]]:
        if elapsed >= self.deadline - self.layout.confirm_seconds:
            # What is new now could only be trained too short to overtake what was trained in full.
            yield from self._confirm()
            return
        if sum(len(arm.tried) for arm in self.arms.values()) < _MOST_TRIALS:
            yield from self._leading(elapsed)
            yield from self._own()
            yield from self._bracket()
            yield from self._next_of_round(elapsed)
        yield from self._confirm()

    def _leading(self, elapsed: float) -> Iterator[tuple[str, Option, int, int]]:
        """The configuration that is expected to be best has to be seen, at the longest length that is no gamble."""
        option = self.view.best(lambda o: o.optimizer != BASELINE and not self.arms[o.optimizer].dropped)
        if option is None or any(
            key_of(option.optimizer, t.hyper) == option.key
            for t in self.arms[option.optimizer].tried.values()
        ):
            return
        seen = self.view.best(lambda o: bool(self.race.measured(o.key, self.layout.longest)))
        if seen is not None and self.view.expected(seen) - self.view.expected(option) < _WORTHLESS:
            return
        left = self.deadline - elapsed
        lengths = self.layout.lengths if self.moves.at_start(option) else self.layout.lengths[:1]
        for steps in lengths:
            share = _ENTRY_SHARE if steps == self.layout.lengths[-1] else _FIRST_SHARE
            if self.pace.seconds(option.optimizer, steps) <= share * left:
                yield self._stage(), option, steps, self.seed
                return

    def _own(self) -> Iterator[tuple[str, Option, int, int]]:
        """The user's own optimizer once: at the longest length, or what a tenth of the budget pays for."""
        own = self.arms.get(BASELINE)
        started = any(a.tried for a in self.arms.values())
        if own is None or own.tried or not started:
            return
        worth = _OWN_TRIALS if self.chosen_by_user else 2 * _OWN_TRIALS
        for i, steps in enumerate(self.layout.lengths):
            if self.layout.capacity * 2**i >= worth:
                yield self._stage(), Option(BASELINE, dict(own.start)), steps, self.seed
                return

    def _bracket(self) -> Iterator[tuple[str, Option, int, int]]:
        """The likeliest optimizer, AdamW and SGD at three rates each: none of them may fail for want of tuning."""
        budget = (self.deadline - self.begin) * self.costs.workers
        for by in _BRACKET:
            for name in self._brackets:
                arm, prior = self.arms[name], self.field.prior
                if arm.dropped:
                    continue
                lengths = self.layout.lengths
                steps = next(
                    (n for n in lengths if self.pace.seconds(name, n) <= _BRACKET_SHARE * budget), lengths[-1]
                )
                x = prior.centre[name] + by
                if not any(abs(math.log10(t.hyper["lr"]) - x) < STEP / 2 for t in arm.tried.values()):
                    yield self._stage(), Option(name, arm.with_rate(arm.start, x)), steps, self.seed

    def _next_of_round(self, elapsed: float) -> Iterator[tuple[str, Option, int, int]]:
        """The same number of trials for every optimizer in the race: round by round, each its most useful one."""
        for _ in range(2):  # what waits may have nothing left to try: then a new round
            moves = self._possible(elapsed)
            while self._waiting:
                name = self._waiting.pop(0)
                mine = [m for m in moves if m.option.optimizer == name]
                move = self.moves.outwards(name, mine) or next(iter(mine), None)
                if move is not None:
                    yield (
                        self._stage(),
                        move.option,
                        move.steps,
                        self.race.next_seed(move.option.key, move.steps),
                    )
            self._begin_round(moves, elapsed)

    def _begin_round(self, moves: list[Move], elapsed: float) -> None:
        """Who is in the next round: the likeliest first, as many as a share of the time left pays for."""
        best: dict[str, Move] = {}
        for move in moves:
            best.setdefault(move.option.optimizer, move)
        racing = [a.name for a in self.race.racing() if a.tunable]
        if not racing or max((m.gain for m in best.values()), default=0.0) < _WORTHLESS:
            return
        self.chances = self.view.chances(racing)
        kept = [n for n in racing if self.chances[n] >= IN_THE_RACE]
        kept.sort(key=lambda n: -self.chances[n])
        left = (self.deadline - self.layout.confirm_seconds - elapsed) * self.costs.workers
        spent, entered = 0.0, list[str]()
        for name in kept or [max(racing, key=lambda n: self.chances[n])]:
            if name not in best:
                continue
            spent += self.pace.seconds(name, best[name].steps)
            if entered and spent > _ROUND_SHARE * left:
                break
            entered.append(name)
        if entered:
            self.round += 1
            self.history.append((self.round, self.chances))
            self._waiting = entered

    def _possible(self, elapsed: float) -> list[Move]:
        if self.moves.offer_settings(self.view):
            self._view = None
        race_ends = self.deadline - self.layout.confirm_seconds
        return self.moves.possible(self.view, lambda name, steps: self._fits(name, steps, elapsed, race_ends))

    def _confirm(self) -> Iterator[tuple[str, Option, int, int]]:
        """What would be handed over, where it was trained shorter; then finalists and the user's own with fresh seeds."""
        if not self.layout.confirm_seconds:
            return
        steps = max((r.spec.steps for r in self.results if r.outcome is Outcome.COMPLETED), default=0)
        chosen = self.choice()
        if chosen is not None and steps and not self.race.ran(chosen.key, steps, self.seed):
            yield "confirm", chosen, steps, self.seed
        for option, seed in fresh_trials(self.view, self.race, steps):
            yield "confirm", option, steps, seed

    def choice(self, optimizer: str | None = None) -> Option | None:
        """The best of the sound configurations, of one optimizer or of all but the user's own; `None`: none is sound."""
        return self.view.best(
            lambda o: o.optimizer != BASELINE if optimizer is None else o.optimizer == optimizer,
            self.sound,
            DOUBT,
        )

    def worth(self, option: Option) -> float:
        """Its expected gap at the real length, doubt counted against it."""
        return self.view.expected(option, DOUBT)

    def sound(self, option: Option) -> bool:
        """Whether a configuration may be handed to the user."""
        return sound(self.arms[option.optimizer], option, self.total)

    # --- details --------------------------------------------------------------------------------------------

    def _fits(self, name: str, steps: int, elapsed: float, until: float | None = None) -> bool:
        end = self.deadline if until is None else until
        return elapsed + _LATE * self.pace.seconds(name, steps) <= end

    def _stage(self) -> str:
        return f"race {max(1, self.round)}"

    def _spec(self, stage: str, option: Option, steps: int, seed: int) -> TrialSpec:
        batches = self.costs.eval_batches(steps)
        return TrialSpec(
            id=self._next_id,
            stage=stage,
            optimizer=option.optimizer,
            hyper=option.hyper,
            steps=steps,
            seed=seed,
            eval_batches=batches,
            no_decay=self.no_decay,
            # The last evaluation is one long silence.
            hang_seconds=max(min(60.0, _HANG_SHARE * self.deadline), 200 * self.costs.step)
            + 10 * self.costs.batch * (batches or self.costs.batches or 0),
        )


def _round_of(stage: str) -> int:
    return int(stage.removeprefix("race ")) if stage.startswith("race ") else 0
