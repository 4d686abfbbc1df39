"""Optuna, and the only file that knows it: one study per optimizer, by ask and tell.

The study is rebuilt from the finished trials at each ask, with a sampler seeded by (run, optimizer, trial): so a
resume is a replay, and no sampler state has to survive a crash. The distributions never change inside a study.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

with warnings.catch_warnings():
    # In a notebook, its progress bar, which is not used here, asks for a package of widgets.
    warnings.filterwarnings("ignore", message="IProgress not found")
    import optuna
from optuna.distributions import FloatDistribution

from autoopt.optim.spec import Range
from autoopt.records import Hyper
from autoopt.tuning.space import from_coordinate, to_coordinate

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Told:
    """A finished trial: `value` is its score less the best of the same length, so lengths can be mixed."""

    hyper: Hyper
    value: float


def suggest(
    name: str,
    ranges: Mapping[str, Range],
    told: Sequence[Told],
    pending: Sequence[Hyper],
    *,
    seed: int,
    number: int,
    enqueue: Hyper | None = None,
) -> Hyper:
    """The next point of this optimizer's study.

    Args:
        name: registry name; part of the sampler's seed.
        ranges: flat name -> range, the widest that the study will ever use.
        told: finished trials.
        pending: trials in flight; the sampler keeps away from them.
        seed: the run's seed.
        number: the trial's number in the run.
        enqueue: a point to take as it is (completed by the sampler where it names no value).

    Returns:
        A value for every name in `ranges`.
    """
    space = {key: _distribution(span) for key, span in ranges.items()}
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=6,
        multivariate=True,
        constant_liar=True,
        seed=zlib.crc32(f"{seed}/{name}/{number}".encode()),
    )
    study = optuna.create_study(direction="minimize", sampler=sampler, study_name=name)
    for item in told:
        study.add_trial(
            optuna.trial.create_trial(
                params=_coordinates(item.hyper, ranges), distributions=dict(space), value=item.value
            )
        )
    for hyper in pending:
        study.enqueue_trial(_coordinates(hyper, ranges))
        study.ask(dict(space))
    if enqueue is not None:
        study.enqueue_trial(_coordinates(enqueue, ranges))
    trial = study.ask(dict(space))
    values = {k: float(f"{from_coordinate(v, ranges[k].scale):.6g}") for k, v in trial.params.items()}
    return {**values, **({k: v for k, v in enqueue.items()} if enqueue else {})}


def _distribution(span: Range) -> FloatDistribution:
    return FloatDistribution(to_coordinate(span.low, span.scale), to_coordinate(span.high, span.scale))


def _coordinates(hyper: Hyper, ranges: Mapping[str, Range]) -> dict[str, float]:
    """The searched part of `hyper` in coordinates, clipped into the ranges (a user's value may lie outside)."""
    return {
        key: to_coordinate(min(max(hyper[key], span.low), span.high), span.scale)
        for key, span in ranges.items()
        if key in hyper
    }
