"""Who enters the race: the optimizers that the budget reaches."""

from __future__ import annotations

from autoopt.tuning.field import Field
from autoopt.tuning.leaders import DOUBT
from autoopt.tuning.limits import Limits
from autoopt.tuning.pace import Pace
from autoopt.tuning.plan import Layout

ENTRY_SHARE = 0.6
"""Of the wall-clock that the shortest trial of an optimizer may take, if it is to enter."""
_FEWEST_ARMS, _ARMS_PER_TRIAL = 3, 0.35
"""Optimizers that enter: so many, and more by the trials of the longest length that fit."""
CUT = "cut: the budget does not reach it, and other networks give it little hope"
NO_TRIAL_FITS = "cut: no trial of it fits the budget"
"""How the reason begins of an optimizer whose shortest trial would take more than the budget has for it."""
_ALWAYS = ("adamw", "sgd")
_ALWAYS_CAPACITY = 20.0
"""No comparison is worth much without these, tuned: a bracket of rates each, where so many longest trials fit."""


def enter(
    field: Field, pace: Pace, layout: Layout, limits: Limits, *, step: float, seconds: float, informed: bool
) -> list[str]:
    """Keeps the likeliest optimizers, by what other networks say, AdamW among them; the others are dropped, with reasons.

    Args:
        field: the options; those of who does not enter are forgotten.
        pace: what trials cost.
        layout: the lengths; where there are none, nobody is judged.
        limits: from the policy.
        step: seconds of one of AdamW's steps.
        seconds: of wall-clock for all trials.
        informed: whether trials of earlier runs are known.

    Returns:
        The optimizers that are tried at a bracket of rates, whatever is believed of them.
    """
    if not layout.lengths:
        return []
    arms, shortest = field.arms, layout.lengths[-1]
    for arm in arms.values():
        if arm.tunable and pace.seconds(arm.name, shortest) > ENTRY_SHARE * seconds:
            times = pace.typical(arm.name)
            arm.dropped = (
                f"{NO_TRIAL_FITS}, its step takes {times:.0f} times AdamW's{_rests_on(pace, arm.name)}"
            )
        timed = pace.timed(arm.name)
        if arm.tunable and timed is not None and not arm.dropped:
            over = limits.foreseen(timed, step)
            arm.dropped = f"{over}{_rests_on(pace, arm.name)}" if over else ""
    names = [a.name for a in arms.values() if a.tunable and not a.dropped]
    if not names:
        return []
    view = field.view()
    chances = view.chances(names)
    roomy = layout.capacity >= _ALWAYS_CAPACITY
    favourite = max(names, key=lambda n: chances[n])
    always = [favourite, *(n for n in (_ALWAYS if roomy else _ALWAYS[:1]) if n in names)]
    if informed:
        # What is known well has fewer chances to surprise, and yet what was best before has to be trained here.
        leading = view.best(lambda o: o.optimizer in names, doubt=DOUBT)
        always = [*([leading.optimizer] if leading else []), *always]
    number = max(_FEWEST_ARMS, round(_ARMS_PER_TRIAL * layout.capacity))
    ranked = sorted(names, key=lambda n: (n not in always, -chances[n] / pace.typical(n)))
    entered = ranked[:number]
    if informed:
        # An earlier run may have been unlucky with an optimizer: whom it speaks against may still race, if not for long.
        alone = field.uninformed().chances(names)
        entered += sorted(names, key=lambda n: -alone[n] / pace.typical(n))[:number]
    for name in ranked:
        if name not in entered:
            arms[name].dropped = CUT
    field.keep([n for n, a in arms.items() if not a.dropped])
    return list(dict.fromkeys(always)) if roomy else []


def _rests_on(pace: Pace, name: str) -> str:
    words = pace.rests_on(name)
    return f" ({words})" if words else ""
