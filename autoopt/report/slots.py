"""How busy the slots were, in words: whether more of them are worth having."""

from __future__ import annotations

from autoopt.records import SlotsUsed

_IDLE = 0.25
"""Share of the slots' time without a trial from which on it is worth a line."""
_REASON = 0.05
"""Share of it from which on a reason is told."""


def sentence(used: SlotsUsed | None) -> str:
    """Slots that were busy, and what the others waited for; empty where nearly all were busy, or there was only one.

    >>> times = {"wall": 100.0, "busy": 4100.0, "planner": 2000.0, "nothing": 300.0, "starting": 0.0}
    >>> sentence(SlotsUsed(slots=64, questions=510, question_seconds=0.21, trial_seconds=8.0, **times))
    '64 slots, of which 41 were busy on average: the planner needed 0.21 s a question for trials of 8 s, which keeps 38 busy'
    """
    if used is None or used.slots < 2 or used.total <= 0 or used.wall <= 0:
        return ""
    if used.busy >= (1 - _IDLE) * used.total:
        return ""
    most = used.most
    keeps = f", which keeps {int(most)} busy" if most is not None and most < used.slots else ""
    told = [
        (
            used.planner,
            f"the planner needed {used.question_seconds:.2g} s a question for trials of {used.trial_seconds:.2g} s{keeps}",
        ),
        (used.nothing, f"for {_share(used.nothing, used)} of the time nothing was worth starting"),
        (used.starting, f"for {_share(used.starting, used)} workers were starting"),
    ]
    told = sorted((t for t in told if t[0] >= _REASON * used.total), key=lambda t: -t[0])
    if not told:
        return ""
    return f"{used.slots} slots, of which {used.busy / used.wall:.2g} were busy on average: " + "; ".join(
        words for _, words in told
    )


def _share(seconds: float, used: SlotsUsed) -> str:
    return f"{100 * seconds / used.total:.0f} %"
