"""The trials that could be made next, and what each is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from autoopt.options import chosen, multiple
from autoopt.records import BASELINE
from autoopt.tuning.arm import Arm, Key, Tried
from autoopt.tuning.belief import STEP
from autoopt.tuning.field import Field
from autoopt.tuning.option import Option
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import Layout
from autoopt.tuning.race import Race
from autoopt.tuning.settings import proposals
from autoopt.tuning.view import Move, View

_REPEATS = 5
"""Further seeds of one configuration that a race may ask for."""
_SETTINGS_AFTER = 3
"""Trials at the longest length of an optimizer before its settings beside the rate are moved."""
_MOST_SETTINGS = 12
"""Configurations of one optimizer that differ from its start in more than the rate."""
_OUTWARDS = 0.5
"""Decades beyond the best rate of an optimizer, where that is the last one tried."""


class Moves:
    """What may be tried, from the trials so far.

    Args:
        field: the options.
        race: the trials.
        layout: the lengths.
        pace: what trials cost.
        epoch: steps of an epoch, where known: shorter trials cannot judge weight decay.
    """

    def __init__(self, field: Field, race: Race, layout: Layout, pace: Pace, epoch: int | None) -> None:
        self._field, self._race, self._layout, self._pace, self._epoch = field, race, layout, pace, epoch
        self._starts: dict[Key, bool] = {}

    @property
    def _arms(self) -> Mapping[str, Arm]:
        return self._race.arms

    def possible(self, view: View, fits: Callable[[str, int], bool]) -> list[Move]:
        """All of them, the one worth most first.

        Args:
            view: the belief now.
            fits: whether a trial of an optimizer at a length would end in time.
        """
        lengths, longest = self._layout.lengths, self._layout.longest
        able = {
            (name, steps): not arm.dropped and name != BASELINE and fits(name, steps)
            for name, arm in self._arms.items()
            for steps in lengths
        }
        known: dict[tuple[Key, int], list[Tried]] = {}
        for arm in self._arms.values():
            for t in arm.tried.values():
                known.setdefault(((arm.name, t.settings), t.steps), []).append(t)
        bad = {key for (key, _), some in known.items() if any(t.diverged for t in some)}

        def allowed(option: Option, steps: int) -> bool:
            if not able[option.optimizer, steps] or option.key in bad:
                return False
            # Settings beside the rate are compared at the longest length alone.
            if steps != longest and not self._plain(option):
                return False
            seen = known.get((option.key, steps), [])
            again = steps == longest and len(seen) <= _REPEATS
            return not seen or (again and not any(t.pending or t.failed for t in seen))

        return view.moves(lengths, self._pace.seconds, allowed)

    def outwards(self, name: str, moves: list[Move]) -> Move | None:
        """Beyond the edge, where the best rate of an optimizer is the highest or the lowest of two or more tried.

        The belief comes from other networks, and this one may want rates that none of them did.
        """
        arm, seed = self._arms[name], self._race.seed
        steps = arm.longest() or 0
        seen = [t for t in arm.tried.values() if t.steps == steps and t.y is not None and t.seed == seed]
        seen = [t for t in seen if multiple(t.hyper) == 1]  # another batch wants another rate
        rates = sorted({t.hyper["lr"] for t in seen})
        alive = [t for t in seen if t.alive]
        if len(rates) < 2 or not alive or any(t.pending for t in arm.tried.values()):
            return None
        best = min(alive, key=lambda t: (t.y, t.id)).hyper["lr"]
        if best not in (rates[0], rates[-1]):
            return None
        x = math.log10(best) + (_OUTWARDS if best == rates[-1] else -_OUTWARDS)
        own = (m for m in moves if m.steps == steps and multiple(m.option.hyper) == 1)
        return next((m for m in own if abs(math.log10(m.option.hyper["lr"]) - x) < STEP / 2), None)

    def offer_settings(self, view: View) -> bool:
        """Adds betas and weight decay around the leading configuration, once its rate is known; whether any was new."""
        longest = self._layout.longest
        best = view.best(lambda o: o.optimizer != BASELINE and bool(self._race.measured(o.key, longest)))
        if best is None:
            return False
        arm = self._arms[best.optimizer]
        if len(arm.at(longest, self._race.seed)) < _SETTINGS_AFTER:
            return False
        known = len(self._field.options)
        moved = sum(o.optimizer == arm.name and not self.at_start(o) for o in self._field.options)
        if moved >= _MOST_SETTINGS:
            return False
        for hyper in proposals(arm, best.hyper, longest, self._race.seed, self.judges_decay(longest)):
            self._field.add(Option(arm.name, hyper))
        return len(self._field.options) > known

    def judges_decay(self, steps: int) -> bool:
        """What weight decay does is seen after an epoch or so."""
        return self._epoch is None or steps >= self._epoch

    def _plain(self, option: Option) -> bool:
        """`at_start`, remembered: it is asked of every option, again and again."""
        if option.key not in self._starts:
            self._starts[option.key] = self.at_start(option)
        return self._starts[option.key]

    def at_start(self, option: Option) -> bool:
        """Whether only its rate differs from where its optimizer began."""
        start = self._arms[option.optimizer].start
        same = all(option.hyper.get(k) == v for k, v in start.items() if k != "lr")
        return same and chosen(option.hyper) == chosen(start)
