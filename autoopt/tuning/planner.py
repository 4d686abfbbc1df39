"""Which trial next: a machine fed with results, that decides from the trials so far and the time left.

Everything it knows is in the trials that it was told, so a resume is a replay of them (a round that was under way begins
anew). It never blocks: a free slot gets the best trial that can be decided now, with trials in flight taken as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from autoopt.optim.spec import OptimSpec
from autoopt.records import BASELINE, Hyper, Outcome, Plan, TrialResult, TrialSpec
from autoopt.tuning.arm import Arm, Key, Tried, key_of
from autoopt.tuning.belief import STEP, Prior
from autoopt.tuning.field import EDGE_MARGIN, Field, Move, Option, View
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import MOST_FRESH, Costs, Layout
from autoopt.tuning.race import FRESH_SEEDS, Race
from autoopt.tuning.score import Score, make
from autoopt.tuning.settings import proposals

IN_THE_RACE = 0.03
"""Chance of having the best configuration below which an optimizer leaves the race."""
_ROUND_SHARE = 0.5
"""Of the worker seconds left that one round may take."""
_FIRST_SHARE = 0.6
"""Of the wall-clock left that the first trial of the leading configuration may take."""
_FEWEST_ARMS, _ARMS_PER_TRIAL = 3, 0.35
"""Optimizers that enter: so many, and more by the trials of the longest length that fit."""
CUT = "cut: the budget does not reach it, and other networks give it little hope"
_OUTWARDS = 0.5
"""Decades beyond the best rate of an optimizer, where that is the last one tried."""
DOUBT = 0.3
"""Standard deviations by which a configuration that is less well known has to be better."""
_WORTHLESS = 1e-5
"""Expected gain in y below which no trial is worth making."""
_FINALISTS = 3
_REPEATS = 5
_OWN_TRIALS = 4.0
"""Trials of the longest length that must fit before the user's own optimizer gets one of them."""
_ALWAYS = ("adamw", "sgd")
_ALWAYS_CAPACITY = 20.0
"""No comparison is worth much without these, tuned: a bracket of rates each, where so many longest trials fit."""
_BRACKET = (0.0, 0.5, -0.5)
_BRACKET_SHARE = 0.06
"""Of the budget that a trial of a bracket may take."""
_SETTINGS_AFTER = 3
"""Trials at a length of an optimizer before its settings beside the rate are moved."""
_HANG_SHARE = 0.2
"""Share of the budget that a trial may be silent for, in short budgets."""
_LATE = 1.05


@dataclass(frozen=True)
class Limits:
    """What the policy allows: bytes of peak memory, seconds per step."""

    memory: int | None = None
    step_time: float | None = None
    step_time_relative: float | None = None


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
        self.field = Field(prior, arms, total, own)
        self.round = 0
        self.chances: dict[str, float] = {}
        self._waiting: list[str] = []
        self._brackets: list[str] = []
        self._next_id = 1
        self._view: View | None = None
        self._enter()

    def _enter(self) -> None:
        """Keeps the optimizers that the budget reaches: the likeliest, by what other networks say, AdamW among them."""
        names = [a.name for a in self.arms.values() if a.tunable]
        if not self.layout.lengths or not names:
            return
        chances = self.view.chances(names)
        roomy = self.layout.capacity >= _ALWAYS_CAPACITY
        favourite = max(names, key=lambda n: chances[n])
        always = [favourite, *(n for n in (_ALWAYS if roomy else _ALWAYS[:1]) if n in names)]
        number = max(_FEWEST_ARMS, round(_ARMS_PER_TRIAL * self.layout.capacity))
        ranked = sorted(names, key=lambda n: (n not in always, -chances[n] / self.pace.typical(n)))
        if roomy:
            self._brackets = list(dict.fromkeys(always))
        for name in ranked[number:]:
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
            yield from self._confirm()
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
        left = self.deadline - elapsed
        for steps in self.layout.lengths:
            if self.pace.seconds(option.optimizer, steps) <= _FIRST_SHARE * left:
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
            moves = self._moves(elapsed)
            while self._waiting:
                name = self._waiting.pop(0)
                mine = [m for m in moves if m.option.optimizer == name]
                move = self._outwards(name, mine) or next(iter(mine), None)
                if move is not None:
                    yield self._stage(), move.option, move.steps, self._seed_of(move)
            self._begin_round(moves, elapsed)

    def _outwards(self, name: str, moves: list[Move]) -> Move | None:
        """Beyond the edge, where the best rate of an optimizer is the highest or the lowest of two or more tried.

        The belief comes from other networks, and this one may want rates that none of them did.
        """
        arm = self.arms[name]
        steps = max((t.steps for t in arm.tried.values() if t.alive), default=0)
        seen = [t for t in arm.tried.values() if t.steps == steps and t.y is not None and t.seed == self.seed]
        rates = sorted({t.hyper["lr"] for t in seen})
        alive = [t for t in seen if t.alive]
        if len(rates) < 2 or not alive or any(t.pending for t in arm.tried.values()):
            return None
        best = min(alive, key=lambda t: (t.y, t.id)).hyper["lr"]
        if best not in (rates[0], rates[-1]):
            return None
        x = math.log10(best) + (_OUTWARDS if best == rates[-1] else -_OUTWARDS)
        near = [m for m in moves if m.steps == steps and abs(math.log10(m.option.hyper["lr"]) - x) < STEP / 2]
        return near[0] if near else None

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
            self._waiting = entered

    def _moves(self, elapsed: float) -> list[Move]:
        self._offer_settings()
        confirm = self.deadline - self.layout.confirm_seconds

        fits = {
            (name, steps): not arm.dropped and name != BASELINE and self._fits(name, steps, elapsed, confirm)
            for name, arm in self.arms.items()
            for steps in self.layout.lengths
        }
        known: dict[tuple[Key, int], list[Tried]] = {}
        for arm in self.arms.values():
            for t in arm.tried.values():
                known.setdefault((key_of(arm.name, t.hyper), t.steps), []).append(t)
        bad = {key for (key, _), some in known.items() if any(t.diverged for t in some)}

        def allowed(option: Option, steps: int) -> bool:
            if not fits[option.optimizer, steps] or option.key in bad:
                return False
            if not self._can_judge(self.arms[option.optimizer], option, steps):
                return False
            seen = known.get((option.key, steps), [])
            again = steps == self.layout.longest and len(seen) <= _REPEATS
            return not seen or (again and not any(t.pending or t.failed for t in seen))

        return self.view.moves(self.layout.lengths, self.pace.seconds, allowed)

    def _offer_settings(self) -> None:
        """Betas and weight decay of the leading optimizer's best configuration, once its rate is known."""
        longest = self.layout.longest
        best = self.view.best(lambda o: bool(self._measured(o, longest)))
        if best is None or best.optimizer == BASELINE:
            return
        arm = self.arms[best.optimizer]
        if len(arm.at(longest, self.seed)) < _SETTINGS_AFTER:
            return
        known = len(self.field.options)
        for hyper in proposals(arm, best.hyper, longest, self.seed, self.judges_decay(longest)):
            self.field.add(Option(arm.name, hyper))
        if len(self.field.options) > known:
            self._view = None

    def _can_judge(self, arm: Arm, option: Option, steps: int) -> bool:
        """Settings beside the rate are compared at the longest length alone."""
        same = all(option.hyper.get(k) == v for k, v in arm.start.items() if k != "lr")
        return same or steps == self.layout.longest

    def judges_decay(self, steps: int) -> bool:
        """What weight decay does is seen after an epoch or so."""
        return self.epoch is None or steps >= self.epoch

    def _measured(self, option: Option, steps: int) -> list[Tried]:
        return [
            t
            for t in self.arms[option.optimizer].tried.values()
            if t.alive and t.steps == steps and t.hyper == option.hyper
        ]

    def _seed_of(self, move: Move) -> int:
        return self.race.next_seed(move.option.key, move.steps)

    def _confirm(self) -> Iterator[tuple[str, Option, int, int]]:
        """Finalists and the user's own with fresh seeds, seed by seed, so that pairs are complete."""
        if not self.layout.confirm_seconds:
            return
        steps = max((r.spec.steps for r in self.results if r.outcome is Outcome.COMPLETED), default=0)
        finalists = self.finalists(steps)
        own = self.arms.get(BASELINE)
        for fresh in range(MOST_FRESH if finalists else 0):
            seed = self.seed + FRESH_SEEDS + fresh
            order = [finalists[0], *([Option(BASELINE, dict(own.start))] if own else []), *finalists[1:]]
            for option in order:
                if option.optimizer == BASELINE and (
                    (fresh and self.race.far_behind(steps))
                    # On a seed that the first finalist has no time for, the user's own would meet nobody.
                    or not self.race.ran(finalists[0].key, steps, seed)
                ):
                    continue
                if not self.race.ran(option.key, steps, seed):
                    yield "confirm", option, steps, seed

    def finalists(self, steps: int) -> list[Option]:
        """Configurations worth fresh seeds: those expected to be best of what was run at a length, two of one optimizer."""
        ranked = sorted(
            (mean, i)
            for i, (option, mean) in enumerate(zip(self.view.options, self.view.means, strict=True))
            if option.optimizer != BASELINE
            and not self.arms[option.optimizer].dropped
            and self._measured(option, steps)
            and not self.race.diverged(option.key)
        )
        taken: list[Option] = []
        for _, i in ranked:
            option = self.view.options[i]
            if sum(o.optimizer == option.optimizer for o in taken) < 2 and len(taken) < _FINALISTS:
                taken.append(option)
        return taken

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
        """Whether a configuration may be handed to the user: it was seen to train, or stands beside one that was.

        Between rates that were trained, or up to half a decade below where the longest trials were shorter than the real
        run; never near a rate that diverged, unless it was itself trained in full.
        """
        arm = self.arms[option.optimizer]
        if arm.dropped or self.race.diverged(option.key):
            return False
        if "lr" not in option.hyper:
            return any(t.y is not None for t in arm.tried.values())
        if any(
            t.steps == self.total for t in arm.tried.values() if t.hyper == option.hyper and t.y is not None
        ):
            return True
        x = math.log10(option.hyper["lr"])
        rest = {k: v for k, v in option.hyper.items() if k != "lr"}
        alive = [t for t in arm.tried.values() if t.alive and "lr" in t.hyper]
        same = [t for t in alive if {k: v for k, v in t.hyper.items() if k != "lr"} == rest]
        if not same:
            return False
        xs, edge = [math.log10(t.hyper["lr"]) for t in same], arm.edge()
        low = min(xs) - (0.0 if any(t.steps == self.total for t in same) else 0.5)
        return low - 1e-6 <= x <= max(xs) + 1e-6 and (edge is None or x <= edge - EDGE_MARGIN)

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
