"""Which configurations may be handed to a user."""

from __future__ import annotations

import math

from autoopt.records import Hyper
from autoopt.tuning.arm import Arm
from autoopt.tuning.option import Option

EDGE_MARGIN = 0.3
"""Decades that an untrained rate keeps from the lowest one that diverged."""
_BELOW = 0.5
"""Decades below the trained rates that are still known, where trials were shorter than the real run."""


def sound(arm: Arm, option: Option, total: int) -> bool:
    """Whether a configuration was seen to train, or stands beside one that was.

    Between rates that were trained, or up to half a decade below where trials were shorter than the real run; never one
    that diverged, nor an untrained one near a rate that did.

    Args:
        arm: its optimizer's trials.
        option: the configuration.
        total: steps of the real run.
    """
    bad = {t.settings for t in arm.tried.values() if t.diverged}
    if arm.dropped or option.key[1] in bad:
        return False
    if "lr" not in option.hyper:
        return any(t.alive for t in arm.tried.values())
    same = [
        t for t in arm.tried.values() if t.alive and "lr" in t.hyper and _rest(t.hyper) == _rest(option.hyper)
    ]
    if all(t.settings in bad for t in same):  # what trained when short, and diverged when long
        return False
    if any(t.steps == total and t.hyper == option.hyper for t in same):
        return True
    x, rates, edge = math.log10(option.hyper["lr"]), [math.log10(t.hyper["lr"]) for t in same], arm.edge()
    low = min(rates) - (0.0 if any(t.steps == total for t in same) else _BELOW)
    return low - 1e-6 <= x <= max(rates) + 1e-6 and (edge is None or x <= edge - EDGE_MARGIN)


def _rest(hyper: Hyper) -> Hyper:
    return {k: v for k, v in hyper.items() if k != "lr"}
