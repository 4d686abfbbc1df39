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


def test_no_optimizer_may_have_a_setting_of_such_a_name() -> None:
    span = Range(0.1, 1.0)
    with pytest.raises(ValueError, match="clip is the training's"):
        OptimSpec("x", "X", "m:X", "p", {"lr": 1.0, "clip": 1.0}, {"lr": span, "clip": span}, 2)
