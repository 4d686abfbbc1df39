"""The trials that could be next, the most urgent first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from autoopt.records import BASELINE, Outcome, TrialResult
from autoopt.tuning.arm import key_of
from autoopt.tuning.asking import Moment, Proposal
from autoopt.tuning.belief import STEP
from autoopt.tuning.entry import ENTRY_SHARE
from autoopt.tuning.field import Field
from autoopt.tuning.finals import fresh_trials
from autoopt.tuning.leaders import Leaders
from autoopt.tuning.moves import Moves
from autoopt.tuning.option import Option
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import MANY_WORKERS, Layout
from autoopt.tuning.race import Race
from autoopt.tuning.rounds import WORTHLESS, Rounds

_FIRST_SHARE = 0.4
"""Of the wall-clock left that the first trial of the leading configuration may take."""
_MOST_TRIALS = 2000
"""Trials of a race: beyond, a belief costs more to compute than it gains (`python -m benchmarks.planner`)."""
_OWN_TRIALS = 6.0
"""Trials of the longest length that must fit before the user's own optimizer gets one of them."""
_KEPT_TRIALS = 3.0
"""The same in mid-run."""
_BRACKET = (0.0, 0.5, -0.5)
_BRACKET_SHARE = 0.06
"""Of the budget that a trial of a bracket may take."""


class Proposals:
    """Race, then confirm.

    Args:
        leaders: the belief.
        field: the options.
        race: the trials so far.
        moves: what may be tried.
        pace: what trials cost.
        layout: lengths and shares.
        rounds: the race in rounds, which comes after all that is due at once.
        workers: trials at once.
        brackets: optimizers that are tried at a bracket of rates.
        chosen_by_user: whether the baseline is what the user wrote, not a default.
        midrun: whether it goes on with its state: then it is what all others are measured by, and comes first.
    """

    def __init__(
        self,
        leaders: Leaders,
        field: Field,
        race: Race,
        moves: Moves,
        pace: Pace,
        layout: Layout,
        rounds: Rounds,
        *,
        workers: int,
        brackets: list[str],
        chosen_by_user: bool,
        midrun: bool = False,
    ) -> None:
        self._leaders, self._field, self._race, self._moves = leaders, field, race, moves
        self._pace, self._layout, self._rounds, self._workers = pace, layout, rounds, workers
        self.brackets, self._chosen_by_user, self._midrun = brackets, chosen_by_user, midrun

    def at(self, now: Moment, results: Sequence[TrialResult]) -> Iterator[Proposal]:
        """All of them at a moment, whether or not they end in time, after the trials that have ended."""
        if now.elapsed >= now.deadline - self._layout.confirm_seconds:
            # What is new now could only be trained too short to overtake what was trained in full.
            yield from self._confirm(results)
            if self._workers >= MANY_WORKERS:  # finalists leave most of them free
                yield from self._rounds.proposals(now)
            return
        if sum(len(arm.tried) for arm in self._race.arms.values()) < _MOST_TRIALS:
            if self._midrun:
                yield from self._own()
            yield from self._leading(now)
            yield from self._own()
            yield from self._bracket(now)
            yield from self._rounds.proposals(now)
        yield from self._confirm(results)

    def _leading(self, now: Moment) -> Iterator[Proposal]:
        """The configuration that is expected to be best has to be seen, at the longest length that is no gamble."""
        view, arms = self._leaders.view, self._race.arms
        option = view.best(lambda o: o.optimizer != BASELINE and not arms[o.optimizer].dropped)
        if option is None or any(
            key_of(option.optimizer, t.hyper) == option.key for t in arms[option.optimizer].tried.values()
        ):
            return
        seen = view.best(lambda o: bool(self._race.measured(o.key, self._layout.longest)))
        if seen is not None and view.expected(seen) - view.expected(option) < WORTHLESS:
            return
        left = now.deadline - now.elapsed
        lengths = self._layout.lengths if self._moves.at_start(option) else self._layout.lengths[:1]
        for steps in lengths:
            share = ENTRY_SHARE if steps == self._layout.lengths[-1] else _FIRST_SHARE
            if self._pace.seconds(option.optimizer, steps) <= share * left:
                yield Proposal(self._rounds.stage, option, steps, self._race.seed)
                return

    def _own(self) -> Iterator[Proposal]:
        """The user's own optimizer once: at the longest length, or what a tenth of the budget pays for."""
        own = self._race.arms.get(BASELINE)
        started = any(a.tried for a in self._race.arms.values())
        if own is None or own.tried or not (started or self._midrun):
            return
        worth = _OWN_TRIALS if self._chosen_by_user else 2 * _OWN_TRIALS
        if self._midrun:
            worth = _KEPT_TRIALS
        for i, steps in enumerate(self._layout.lengths):
            if self._layout.capacity * 2**i >= worth:
                option = Option(BASELINE, dict(own.start))
                yield Proposal(self._rounds.stage, option, steps, self._race.seed)
                return

    def _bracket(self, now: Moment) -> Iterator[Proposal]:
        """The likeliest optimizer, AdamW and SGD at three rates each: none of them may fail for want of tuning."""
        budget = (now.deadline - now.begin) * self._workers
        for by in _BRACKET:
            for name in self.brackets:
                arm, prior = self._race.arms[name], self._field.prior
                if arm.dropped:
                    continue
                lengths = self._layout.lengths
                steps = next(
                    (n for n in lengths if self._pace.seconds(name, n) <= _BRACKET_SHARE * budget),
                    lengths[-1],
                )
                x = prior.centre[name] + by
                if not any(abs(math.log10(t.hyper["lr"]) - x) < STEP / 2 for t in arm.tried.values()):
                    option = Option(name, arm.with_rate(arm.start, x))
                    yield Proposal(self._rounds.stage, option, steps, self._race.seed)

    def _confirm(self, results: Sequence[TrialResult]) -> Iterator[Proposal]:
        """What would be handed over, where it was trained shorter; then finalists and the user's own with fresh seeds."""
        if not self._layout.confirm_seconds:
            return
        steps = max((r.spec.steps for r in results if r.outcome is Outcome.COMPLETED), default=0)
        chosen = self._leaders.choice()
        if chosen is not None and steps and not self._race.ran(chosen.key, steps, self._race.seed):
            yield Proposal("confirm", chosen, steps, self._race.seed)
        for option, seed in fresh_trials(self._leaders.view, self._race, steps):
            yield Proposal("confirm", option, steps, seed)
