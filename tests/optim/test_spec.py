"""Descriptions of optimizers: illegal ones cannot be made, and hyperparameters find their argument."""

from __future__ import annotations

import pytest

from autoopt.errors import UsageError
from autoopt.optim.spec import OptimSpec, Range


def spec(**changes: object) -> OptimSpec:
    given: dict[str, object] = {
        "name": "x",
        "title": "X",
        "target": "m:X",
        "package": "p>=1.2",
        "defaults": {"lr": 0.1, "betas": (0.9, 0.99), "momentum": 0.5, "nesterov": True, "beta3": None},
        "space": {"lr": Range(1e-3, 1.0), "beta2": Range(0.9, 0.999, "one_minus_log")},
        "state_tensors": 2,
    }
    return OptimSpec(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "scale"),
    [(1.0, 1.0, "log"), (0.0, 1.0, "log"), (0.5, 1.0, "one_minus_log"), (2, 1, "linear")],
)
def test_a_range_that_cannot_be_searched_is_refused(low: float, high: float, scale: str) -> None:
    with pytest.raises(ValueError, match="range"):
        Range(low, high, scale)  # type: ignore[arg-type]


def test_a_range_contains_both_its_ends() -> None:
    assert 0.1 in Range(0.1, 1.0)
    assert 1.0 in Range(0.1, 1.0)
    assert 1.1 not in Range(0.1, 1.0)
    assert "0.5" not in Range(0.1, 1.0)


def test_a_description_needs_a_learning_rate() -> None:
    with pytest.raises(ValueError, match="learning rate"):
        spec(space={"beta2": Range(0.1, 0.2)})


def test_what_is_searched_needs_a_default() -> None:
    with pytest.raises(ValueError, match="gamma has a range but no default"):
        spec(space={"lr": Range(0.1, 1), "gamma": Range(0.1, 1)})


def test_start_is_the_defaults_of_what_is_searched() -> None:
    assert spec().start() == {"lr": 0.1, "beta2": 0.99}
    assert spec().flat() == {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "momentum": 0.5}


def test_hyperparameters_are_laid_over_the_defaults() -> None:
    arguments = spec().arguments({"lr": 0.2, "beta1": 0.8, "momentum": 0.0})
    assert arguments == {"lr": 0.2, "betas": (0.8, 0.99), "momentum": 0.0, "nesterov": True, "beta3": None}
    assert spec().defaults["betas"] == (0.9, 0.99)


def test_a_beta_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="x has no beta3"):
        spec().arguments({"beta3": 0.5})


def test_the_package_holds_name_and_version() -> None:
    assert (spec().distribution, spec().min_version) == ("p", "1.2")
    assert (spec(package="p").distribution, spec(package="p").min_version) == ("p", "")
