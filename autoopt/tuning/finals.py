"""Who is measured on fresh seeds, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

from autoopt.records import BASELINE
from autoopt.tuning.option import Option
from autoopt.tuning.plan import MOST_FRESH
from autoopt.tuning.race import FRESH_SEEDS, Race
from autoopt.tuning.view import View

_FINALISTS = 3
_MOST_EVER = 5
"""Configurations that may get fresh seeds in all: who leads changes with every result."""
_OF_ONE = 2


def finalists(view: View, race: Race, steps: int) -> list[Option]:
    """Configurations worth fresh seeds: those believed to be best of what was run at a length, two of one optimizer."""
    first = race.seed + FRESH_SEEDS
    measured = race.all_measured(steps)
    begun = {
        key for key, some in measured.items() if key[0] != BASELINE and any(t.seed >= first for t in some)
    }
    taken: list[Option] = []
    for option in view.ranked():
        arm = race.arms[option.optimizer]
        if option.key not in measured:
            continue
        if option.optimizer == BASELINE or arm.dropped or race.diverged(option.key):
            continue
        if len(begun) >= _MOST_EVER and option.key not in begun:
            continue
        same = sum(o.optimizer == option.optimizer for o in taken)
        if same < _OF_ONE and len(taken) < _FINALISTS:
            taken.append(option)
    return taken


def fresh_trials(view: View, race: Race, steps: int) -> Iterator[tuple[Option, int]]:
    """(configuration, seed) not run yet: finalists and the user's own, seed by seed, so that pairs are complete."""
    final, own = finalists(view, race, steps), race.arms.get(BASELINE)
    if not final:
        return
    order = [final[0], *([Option(BASELINE, dict(own.start))] if own else []), *final[1:]]
    for fresh in range(MOST_FRESH):
        seed = race.seed + FRESH_SEEDS + fresh
        for option in order:
            if option.optimizer == BASELINE and (
                (fresh and race.far_behind(steps))
                # On a seed that the first finalist has no time for, the user's own would meet nobody.
                or not race.ran(final[0].key, steps, seed)
            ):
                continue
            if not race.ran(option.key, steps, seed):
                yield option, seed
