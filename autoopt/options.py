"""What else moves a result beside the optimizer: clipping and warm-up, as settings of a configuration.

They travel in a configuration's `Hyper` under reserved names, so that whatever compares, keeps and hands on a
configuration does so with them. The optimizer never sees them: `own` leaves them out. Where a name is missing, the
real run's `Settings` hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoopt.records import Hyper, Settings

CLIP = "clip"
"""Largest norm of the gradient; 0: no clipping."""
WARMUP = "warmup"
"""Share of the run that warms up."""
NAMES = (CLIP, WARMUP)


def own(hyper: Mapping[str, float]) -> Hyper:
    """What the optimizer's constructor is told.

    >>> own({"lr": 0.1, "clip": 1.0})
    {'lr': 0.1}
    """
    return {name: value for name, value in hyper.items() if name not in NAMES}


def chosen(hyper: Mapping[str, float]) -> Hyper:
    """What is left: the options that a configuration sets otherwise than the real run's settings.

    >>> chosen({"lr": 0.1, "clip": 1.0})
    {'clip': 1.0}
    """
    return {name: value for name, value in hyper.items() if name in NAMES}


def applied(hyper: Mapping[str, float], settings: Settings) -> Settings:
    """The settings that a training with this configuration runs under.

    >>> applied({"lr": 0.1, "clip": 0.0, "warmup": 0.02}, Settings(clip=1.0)).clip is None
    True
    """
    mine = chosen(hyper)
    if not mine:
        return settings
    update = {"clip": mine[CLIP] or None} if CLIP in mine else {}
    return settings.model_copy(update=update | ({WARMUP: mine[WARMUP]} if WARMUP in mine else {}))
