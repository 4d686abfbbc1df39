"""Settings beside the learning rate: what to try next around a configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from autoopt.options import chosen
from autoopt.records import Hyper
from autoopt.tuning import options, study
from autoopt.tuning.arm import Arm
from autoopt.tuning.space import shift

_NUDGES: Mapping[str, tuple[float, float]] = {
    "log": (0.5, -0.5),
    "one_minus_log": (0.4, -0.4),
    "linear": (0.05, -0.05),
}


def proposals(arm: Arm, best: Hyper, steps: int, seed: int, decay: bool) -> Iterator[Hyper]:
    """One setting moved at a time, options last, then what Optuna's sampler makes of all that was seen, at the same rate.

    Args:
        best: the configuration to start from.
        steps: length at which they will be compared.
        seed: of the run.
        decay: whether weight decay can be judged at that length.
    """
    searched = {n: r for n, r in arm.ranges.items() if n != "lr" and (decay or n != "weight_decay")}
    for name, span in searched.items():
        for by in _NUDGES[span.scale]:
            if name in best and (moved := shift(best[name], by, span)) != best[name]:
                yield {**best, name: moved}
    yield from options.others(arm.ladders, best, arm.start)
    for scaled in options.scaled_rates(arm.ladders, arm.name, best):
        yield arm.with_rate(scaled, math.log10(scaled["lr"]))
    # What these do is nothing that the sampler knows of, so it sees those as they are here.
    done = [t for t in arm.at(steps, seed) if chosen(t.hyper) == chosen(best)]
    told = [study.Told(t.hyper, t.y) for t in done if t.y is not None and set(searched) <= set(t.hyper)]
    if searched and len(told) > len(searched):
        found = study.suggest(arm.name, searched, told, [], seed=seed, number=len(told))
        yield {**best, **found}
