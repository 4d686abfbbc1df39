from __future__ import annotations

import pytest

from autoopt import options
from autoopt.optim.spec import OptimSpec, Range
from autoopt.records import Settings

SETTINGS = Settings(clip=2.0, warmup=0.05)
HYPER = {"lr": 0.1, "clip": 1.0, "warmup": 0.0, "beta1": 0.9}


def test_the_optimizer_is_told_its_own_settings_alone() -> None:
    assert options.own(HYPER) == {"lr": 0.1, "beta1": 0.9}
    assert options.chosen(HYPER) == {"clip": 1.0, "warmup": 0.0}


def test_what_a_configuration_names_holds_and_the_rest_is_the_real_runs() -> None:
    found = options.applied(HYPER, SETTINGS)
    assert (found.clip, found.warmup) == (1.0, 0.0)
    assert options.applied({"lr": 0.1}, SETTINGS) is SETTINGS
    assert options.applied({"warmup": 0.2}, SETTINGS).clip == 2.0


def test_a_norm_of_zero_is_no_clipping() -> None:
    assert options.applied({"clip": 0.0}, SETTINGS).clip is None


def test_with_a_larger_batch_a_run_takes_fewer_steps_of_more_batches() -> None:
    settings = Settings(steps=1001, accumulate=4, warmup=0.1)
    larger, smaller = (options.applied({"lr": 0.1, "batch": m}, settings) for m in (2.0, 0.25))
    assert (larger.steps, larger.accumulate, larger.warmup) == (500, 8, 0.1)
    assert (smaller.steps, smaller.accumulate) == (4004, 1)
    assert options.own({"lr": 0.1, "batch": 2.0}) == {"lr": 0.1}, "the optimizer never hears of it"


def test_curves_are_told_at_equal_samples() -> None:
    curve = [(1, 3.0), (2, 2.0), (4, 1.0)]
    assert options.in_own_steps(curve, {"lr": 0.1}) is curve
    assert options.in_own_steps(curve, {"batch": 4.0}) == [(4, 3.0), (8, 2.0), (16, 1.0)]
    assert options.in_own_steps(curve, {"batch": 0.5}) == [(1, 2.0), (2, 1.0)], "of two on one step the last"


def test_no_optimizer_may_have_a_setting_of_such_a_name() -> None:
    span = Range(0.1, 1.0)
    with pytest.raises(ValueError, match="clip is the training's"):
        OptimSpec("x", "X", "m:X", "p", {"lr": 1.0, "clip": 1.0}, {"lr": span, "clip": span}, 2)
