"""Trials with different batches, told in the steps of one run."""

from __future__ import annotations

from autoopt.options import multiple, stretched
from autoopt.records import TrialResult


def in_steps_of(result: TrialResult, times: float) -> TrialResult:
    """The trial in steps of a run whose batch is `times` the run's own: its length, and the places of its losses.

    A trial's `steps` count steps of the run's own batch, its curve those that it took.
    """
    own = multiple(result.spec.hyper)
    if own == times == 1:
        return result
    spec = result.spec.model_copy(update={"steps": max(1, round(result.spec.steps / times))})
    return result.model_copy(update={"spec": spec, "curve": stretched(result.curve, own / times)})
