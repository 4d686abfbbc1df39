from __future__ import annotations

import math

import pytest

from benchmarks.table import Arm, Line, compare, markdown, noise


def test_a_difference_within_the_seeds_is_the_same_and_a_larger_one_is_not() -> None:
    low, high = Arm("", [1.0, 1.2, 1.1]), Arm("", [1.5, 1.7, 1.6])
    assert compare(low, high) == "better"
    assert compare(high, low) == "worse"
    assert compare(low, Arm("", [1.1, 1.3, 1.2])) == "same"


def test_the_interval_is_welchs() -> None:
    # sd 0.1 and 0.2 over three seeds each: 2.78 * sqrt(0.01 / 3 + 0.04 / 3)
    width = noise(Arm("", [0.9, 1.0, 1.1]), Arm("", [0.8, 1.0, 1.2]))
    assert width == pytest.approx(2.78 * math.sqrt(0.05 / 3))


def test_a_diverged_seed_makes_the_arm_worse_than_any_loss() -> None:
    assert compare(Arm("", [1.0, None, 1.0]), Arm("", [50.0, 51.0, 52.0])) == "worse"
    assert compare(Arm("", [None]), Arm("", [None])) == "same"
    assert "diverged in 1 of 3" in str(Arm("", [1.0, None, 1.0]))


def test_one_seed_proves_nothing() -> None:
    assert compare(Arm("", [1.0]), Arm("", [9.0])) == "same"


def test_the_row_has_losses_metric_verdict_and_times() -> None:
    ours = Arm("sgd, lr 0.1", [0.5, 0.51, 0.49], [0.9, 0.9, 0.9])
    default = Arm("lr 0.001", [0.8, 0.81, 0.79], [0.7, 0.7, 0.7])
    line = Line("digits", ours, default, default, ("accuracy", "max"), 61.23, 60.0)
    head, rule, row = markdown([line]).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    for part in ("0.5 ± 0.01; sgd", "1e-3: better", "accuracy (max): 0.9 / 0.7 / 0.7", "61.2 s"):
        assert part in row
