from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.tuning.belief import CAP, SETTINGS, Points, Prior, along, soft
from autoopt.tuning.knowledge import NOTHING, Knowledge, Network, shipped

USUAL = {"adamw": -3.0, "sgd": -1.0, "muon": -2.0, "nadam": -3.0}
TWO = Knowledge(
    {"a": Network("A", 1000, 100), "b": Network("B", 1000, 100)},
    {
        ("a", "adamw"): {0.0: ((-3.0, 0.4), (-2.0, 0.0), (-1.0, 0.6)), 2.0: ((-3.0, 0.2), (-1.0, None))},
        ("b", "adamw"): {0.0: ((-3.0, 0.5), (-2.0, 0.1), (-1.0, None))},
    },
)


def prior(known: Knowledge = NOTHING, parameters: float = 0.0) -> Prior:
    return Prior(known, USUAL, parameters)


def everything(made: Prior) -> Points:
    """All optimizers at some rates, two lengths and some settings."""
    found: Points | None = None
    for name in USUAL:
        for s in (0.0, 2.0):
            for others in ((), (1.0, -0.5)):
                more = made.points(name, made.centre[name] + np.array([-1.0, 0.0, 0.7]), s, others)
                found = more if found is None else found + more
    assert found is not None
    return found


@given(st.floats(0, 50), st.floats(0, 50))
def test_a_capped_gap_keeps_the_order_and_stays_below_the_cap(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0 <= soft(low) <= soft(high) <= CAP == soft(None)
    assert soft(low) <= low + 1e-5


def test_a_small_gap_counts_as_itself_and_one_below_the_best_as_none() -> None:
    assert soft(0.001) == pytest.approx(0.001, abs=1e-5)
    assert soft(-3.0) == 0.0


def test_beyond_its_ends_a_curve_gets_worse_faster_above() -> None:
    curve = ((-3.0, 0.1), (-2.0, 0.0))
    below, inside, above = along(curve, np.array([-3.4, -2.5, -1.6]))
    assert inside == pytest.approx(soft(0.1) / 2, abs=1e-5)
    assert below == pytest.approx(soft(0.1) + 0.3 * 0.4)
    assert above == pytest.approx(1.0 * 0.4)
    assert along(curve, np.array([5.0]))[0] == CAP


def test_the_usual_rate_is_where_the_networks_were_best() -> None:
    made = prior(TWO)
    assert made.centre["adamw"] == -2.0
    assert made.centre["sgd"] == -1.0, "measured nowhere: its own start"


def test_a_larger_network_wants_a_lower_rate_and_a_smaller_one_the_same() -> None:
    assert prior(TWO, 100_000).centre["adamw"] == pytest.approx(-2.0 - 0.15 * 2)
    assert prior(TWO, 10).centre["adamw"] == -2.0


def test_what_was_measured_is_expected_and_what_was_not_is_expected_worse() -> None:
    made = prior(TWO)
    at = made.points("adamw", [-3.0, -2.0, -1.0], 0.0)
    mean = made.mean(at)
    assert mean[1] < mean[0] < mean[2]
    # Two networks, and once what is typical of all (here the same two), and half of what the unknown are behind.
    tables = np.array([[soft(0.4), soft(0.0), soft(0.6)], [soft(0.5), soft(0.1), CAP]])
    assert mean == pytest.approx((tables.sum(0) + tables.mean(0) + 0.05) / 3, abs=1e-6)
    rest = made.mean(made.points("sgd", [made.centre["sgd"]], 0.0))
    assert rest[0] == pytest.approx(tables.mean(0)[1] + 0.1, abs=1e-6)


def test_lengths_between_those_measured_are_between_and_beyond_are_as_the_last() -> None:
    made = prior(TWO)
    by = {s: made.mean(made.points("adamw", [-3.0], s))[0] for s in (0.0, 1.0, 2.0, 6.0)}
    assert by[1.0] == pytest.approx((by[0.0] + by[2.0]) / 2)
    assert by[6.0] == by[2.0] != by[0.0]


@pytest.mark.parametrize("known", [NOTHING, TWO, shipped()], ids=["nothing", "two", "shipped"])
def test_the_covariance_is_one(known: Knowledge) -> None:
    made = prior(known)
    at = everything(made)
    covariance = made.covariance(at, at, 2.0)
    assert covariance == pytest.approx(covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    assert made.between(at, at, 2.0) == pytest.approx(np.diag(covariance))
    other = made.points("sgd", np.linspace(-3, 0, len(at)), 1.0)
    assert made.between(at, other) == pytest.approx(np.diag(made.covariance(at, other)))


def test_relatives_and_near_rates_tell_more_of_one_another() -> None:
    made = prior()

    def tells(name: str, by: float, s: float = 0.0) -> float:
        here = made.points("adamw", [made.centre["adamw"]], 0.0)
        there = made.points(name, [made.centre[name] + by], s)
        spread = np.sqrt(made.between(here, here)[0] * made.between(there, there)[0])
        return float(made.covariance(here, there)[0, 0] / spread)

    assert pytest.approx(tells("adamw", 0.0)) == 1.0
    assert 1 > tells("nadam", 0.0) > tells("sgd", 0.0) > 0
    assert tells("adamw", 0.0) > tells("adamw", 0.5) > tells("adamw", 1.0)
    assert tells("adamw", 0.0) > tells("adamw", 0.0, 1.0) > tells("adamw", 0.0, 3.0)


def test_points_can_be_moved_to_another_length_and_put_together() -> None:
    made = prior()
    a, b = made.points("adamw", [-3.0], 0.0, [1.0]), made.points("sgd", [-1.0, 0.0], 2.0)
    both = a + b
    assert len(both) == 3
    assert both.u.tolist() == [0.0, 0.0, 1.0]
    assert both.s.tolist() == [0.0, 2.0, 2.0]
    assert both.at(5.0).s.tolist() == [5.0] * 3
    assert both.others.shape == (3, SETTINGS)
    assert both.others[0].tolist() == [1.0] + [0.0] * (SETTINGS - 1)
