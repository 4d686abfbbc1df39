"""Learning-rate schedules: one definition for trials, `Recommendation.build` and the generated script.

Every schedule lives inside its own length, so a short trial warms up and decays just as the real run does.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from autoopt.errors import UsageError

Kind = Literal["cosine", "linear", "constant", "wsd"]
KINDS: tuple[str, ...] = get_args(Kind)

WSD_DECAY_SHARE = 0.2
"""Share of the run in which `wsd` decays (Haegele 2024, arXiv 2405.18392, on the length of the cooldown)."""


def multiplier(kind: str, step: int, total: int, warmup_steps: int = 0) -> float:
    """Share of the base rate that step `step` is taken with.

    Warm-up, for step < w: (step + 1) / w, so the first step moves. After it, with
    p = (step - w) / (total - w) in [0, 1): cosine (1 + cos(pi p)) / 2, linear 1 - p, constant 1, and wsd 1
    until the last fifth of the run, then linear. The last step (total - 1) is taken above zero; zero is
    reached at `total`, where the run is over.

    Args:
        kind: cosine, linear, constant or wsd (warm-up, stable, decay).
        step: counted from 0, the step about to be taken.
        total: steps of the run, at least 1.
        warmup_steps: steps of linear warm-up, below `total`.

    Raises:
        UsageError: the kind is unknown ("yours" is the user's own scheduler and cannot be computed here).

    >>> [round(multiplier("linear", s, 6, 2), 2) for s in range(7)]
    [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """
    if kind not in KINDS:
        raise UsageError(
            f"There is no learning-rate schedule {kind!r}.", f"Choose one of {', '.join(KINDS)}."
        )
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if kind == "constant":
        return 1.0
    if step >= total:
        return 0.0
    remaining = total - step
    if kind == "wsd":
        decay_steps = min(math.ceil(WSD_DECAY_SHARE * total), total - warmup_steps)
        return min(1.0, remaining / decay_steps)
    share_left = remaining / (total - warmup_steps)
    if kind == "linear":
        return share_left
    return (1.0 - math.cos(math.pi * share_left)) / 2


def warmup_steps(share: float, total: int) -> int:
    """Steps of warm-up for a run of `total` steps; always leaves at least one step after it.

    Raises:
        UsageError: `share` is not in [0, 1).

    >>> warmup_steps(0.05, 1000), warmup_steps(0.05, 4), warmup_steps(0.9, 1)
    (50, 0, 0)
    """
    if not 0 <= share < 1:
        raise UsageError(
            f"A warm-up of {share:g} is no share of the run.", "Give a number from 0 up to, but not, 1."
        )
    return min(round(share * total), total - 1)
