"""Which configuration wins, which ones tie with it, and whether the user's own should stay. Pure functions.

Each optimizer is spoken for by the configuration that is believed to be its best at the real length. A tie is shown
equivalence, and goes to the cheaper; the user's own counts as the cheapest, since keeping it costs nothing, and is left
only for what is probably better. Without evidence either way, the lowest expected loss wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoopt.records import BASELINE
from autoopt.tuning.arm import Key
from autoopt.tuning.ranking import Difference, decided, equivalent

_CHEAPER = 0.97
"""A cost counts as lower when it is at least 3 % lower: less is timing noise."""


@dataclass(frozen=True)
class Candidate:
    """A configuration, and what is believed of it.

    Args:
        key: its identity.
        expected: mean gap in y at the real length; lower is better.
        cost: time (s per step) and memory (bytes), where known.
    """

    key: Key
    expected: float
    cost: Mapping[str, float | None]


Gap = Callable[[Candidate, Candidate], Difference]
"""y of the first less y of the second at the real length."""


@dataclass(frozen=True)
class Verdict:
    """The winner, the lowest in expectation (another one when a tie went to the cheaper), and the ties."""

    candidates: Sequence[Candidate]
    chosen: Candidate
    lowest: Candidate
    ties: list[Key]
    decided: bool
    """Whether the lowest is better than every other optimizer that is no tie, with 90 % probability."""
    gaps: Mapping[Key, Difference]
    """key -> its y less the lowest's."""


def decide(
    candidates: Sequence[Candidate],
    gap: Gap,
    *,
    tolerance: float,
    tie_order: Sequence[str],
    leave_at: float = 0.5,
) -> Verdict:
    """Applies the rules above.

    Args:
        candidates: at least one, one an optimizer.
        gap: the belief.
        tolerance: of a tie, in y (0.02 is 2 %).
        tie_order: "time" and "memory", the first that differs decides.
        leave_at: probability of being better that it takes to leave the user's own optimizer.

    Raises:
        ValueError: no candidates.
    """
    if not candidates:
        raise ValueError("nothing to choose from")
    lowest = min(candidates, key=lambda c: (c.expected, c.key))
    others = [c for c in candidates if c is not lowest]
    gaps = {c.key: gap(c, lowest) for c in others}
    ties = [c for c in others if equivalent(gaps[c.key], tolerance)]
    chosen = lowest
    for rival in sorted(ties, key=lambda c: c.expected):
        if cheaper(rival, chosen, tie_order):
            chosen = rival
    own = next((c for c in candidates if c.key[0] == BASELINE), None)
    if own is not None and chosen is not own and gap(chosen, own).probability_below(0.0) < leave_at:
        chosen = own
    clear = all(decided(_negative(gaps[c.key])) for c in others if c not in ties)
    return Verdict(candidates, chosen, lowest, [c.key for c in ties], clear, gaps)


def cheaper(a: Candidate, b: Candidate, order: Sequence[str]) -> bool:
    """Whether a costs less than b: the first cost of `order` that differs decides; the user's own is free."""
    if b.key[0] == BASELINE:
        return False
    if a.key[0] == BASELINE:
        return True
    for what in order:
        mine, theirs = a.cost.get(what), b.cost.get(what)
        if mine is None or theirs is None:
            continue
        if mine < _CHEAPER * theirs:
            return True
        if theirs < _CHEAPER * mine:
            return False
    return False


def at_equal_time(y: float, slope: float, seconds: float, reference_seconds: float) -> float:
    """y after as many seconds as the reference takes, of a run that took `seconds`; or of a step, for as many steps.

    The loss of whole runs falls about as a power of their length, so y is linear in log(steps) with this
    workload's own slope between two lengths.

    >>> at_equal_time(1.0, -0.5, 2.0, 2.0)
    1.0
    """
    return y + slope * math.log(reference_seconds / seconds)


def pareto(points: Mapping[str, tuple[float | None, ...]]) -> set[str]:
    """Names of the points that no other one beats: no worse in every coordinate and better in one.

    A point with an unknown coordinate is not on the front.

    >>> sorted(pareto({"a": (1.0, 2.0), "b": (2.0, 1.0), "c": (2.0, 2.0)}))
    ['a', 'b']
    """
    known = {n: tuple(v for v in p if v is not None) for n, p in points.items() if None not in p}

    def beaten(name: str) -> bool:
        return any(
            all(o <= m for o, m in zip(known[other], known[name], strict=True))
            and known[other] != known[name]
            for other in known
            if other != name
        )

    return {n for n in known if not beaten(n)}


def _negative(gap: Difference) -> Difference:
    return Difference(-gap.mean, gap.se, gap.df, gap.seeds, gap.paired)
