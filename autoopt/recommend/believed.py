"""What is believed of two configurations: one probability, from every trial, their direct comparisons among them.

The belief (`tuning.posterior`) is conditioned on all trials. Two that were run on one seed share a part of their luck there,
so that their difference counts for more than either of them; trials of neighbours, other lengths and what is known of
other networks count as well. A comparison of the few shared seeds alone would be a second, poorer answer to the same
question, and is told as evidence only.
"""

from __future__ import annotations

from dataclasses import replace

from autoopt.recommend.evidence import Evidence
from autoopt.tuning.arm import Key
from autoopt.tuning.option import Option
from autoopt.tuning.ranking import Difference
from autoopt.tuning.verdict import at_equal_time


def difference(e: Evidence, a: Key, b: Key) -> Difference:
    """y of a less y of b in the real run, or after equal time where the policy decides by that."""
    gap = e.planner.view.difference(option(a), option(b))
    return replace(gap, mean=gap.mean + time_shift(e, a) - time_shift(e, b))


def time_shift(e: Evidence, key: Key) -> float:
    """What y gains or loses when this configuration trains for as many seconds as AdamW would; 0 at equal samples."""
    slope, mine = e.slope(key[0]), e.pace(key[0], key)
    if e.policy.objective != "loss_at_time" or slope is None or not mine:
        return 0.0
    return at_equal_time(0.0, slope, mine, e.pace("adamw") or e.planner.plan.step_seconds)


def option(key: Key) -> Option:
    """A configuration as the belief knows it."""
    return Option(key[0], dict(key[1]))


def percent(probability: float) -> str:
    """A probability in words; neither 0 nor 100 %, which no number of trials gives.

    >>> percent(0.937), percent(0.9999), percent(0.001)
    ('94 %', 'more than 99 %', 'less than 1 %')
    """
    if probability > 0.99:
        return "more than 99 %"
    return "less than 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"
