"""Who leads, by what is believed now."""

from __future__ import annotations

from autoopt.records import BASELINE
from autoopt.tuning.field import Field
from autoopt.tuning.option import Option
from autoopt.tuning.race import Race
from autoopt.tuning.soundness import sound
from autoopt.tuning.view import View

IN_THE_RACE = 0.03
"""Chance of having the best configuration below which an optimizer leaves the race."""
DOUBT = 0.3
"""Standard deviations by which a configuration that is less well known has to be better."""


class Leaders:
    """The belief, made once for what was told, and those who lead by it.

    Args:
        field: the options.
        race: the trials.
        total: steps of the real run.
    """

    def __init__(self, field: Field, race: Race, total: int) -> None:
        self._field, self._race, self._total = field, race, total
        self._view: View | None = None

    @property
    def view(self) -> View:
        """The belief after all that was told."""
        if self._view is None:
            self._view = self._field.view()
        return self._view

    def forget(self) -> None:
        """Trials or options have changed: what is believed of them is made anew when it is next asked for."""
        self._view = None

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
        return sound(self._race.arms[option.optimizer], option, self._total)

    def standing(self) -> tuple[list[str], dict[str, str]]:
        """Optimizers still in the race, the likeliest first, and why the others are not."""
        racing = [a.name for a in self._race.racing() if a.tunable]
        chances = self.view.chances(racing) if racing else {}
        kept = sorted((n for n in racing if chances[n] >= IN_THE_RACE), key=lambda n: -chances[n])
        dropped = {
            n: a.dropped or f"{100 * chances.get(n, 0):.0f} % chance of being the best"
            for n, a in self._race.arms.items()
            if n not in kept and n != BASELINE
        }
        return kept, dropped
