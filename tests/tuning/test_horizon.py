from __future__ import annotations

import math

import pytest

from autoopt.tuning.horizon import EDGE_MARGIN, PRIOR_SHIFT, Point, best_at, edge, minimum


def bowl(steps: int, centre: float, xs: list[float]) -> list[Point]:
    return [Point(steps, x, (x - centre) ** 2) for x in xs]


def test_the_minimum_of_a_parabola_is_found_between_points() -> None:
    assert minimum(bowl(100, -2.6, [-3.5, -3.0, -2.5, -2.0])) == pytest.approx(-2.6)


def test_a_minimum_at_the_end_stays_there() -> None:
    assert minimum(bowl(100, -5.0, [-3.0, -2.0])) == -3.0


def test_points_of_two_lengths_have_no_minimum() -> None:
    with pytest.raises(ValueError, match="one length"):
        minimum([Point(1, 0, 0), Point(2, 0, 0)])


def test_nothing_is_extrapolated_at_a_length_that_was_trained() -> None:
    found = best_at(bowl(125, -2.0, [-3, -2, -1]) + bowl(1000, -2.5, [-3, -2.5, -2]), 1000)
    assert found is not None
    assert found.x == pytest.approx(-2.5)
    assert found.low < -2.5 < found.high


def test_without_a_second_length_the_shift_is_the_prior() -> None:
    found = best_at(bowl(125, -2.0, [-3, -2, -1]), 1000)
    assert found is not None
    assert not found.measured
    assert found.x == pytest.approx(-2.0 + PRIOR_SHIFT)
    assert found.high - found.low > 0.8


def test_a_measured_shift_is_shrunk_to_the_prior() -> None:
    short = bowl(100, -2.0, [-3, -2.5, -2, -1.5, -1])
    long = bowl(800, -2.6, [-3.5, -3, -2.5, -2])
    found = best_at(short + long, 6400)
    assert found is not None
    assert found.measured
    assert -0.6 < found.shift < PRIOR_SHIFT


def test_a_rate_is_never_raised_beyond_what_was_trained() -> None:
    found = best_at(bowl(100, -3.0, [-4, -3, -2]) + bowl(800, -2.0, [-3, -2, -1]), 6400)
    assert found is not None
    assert found.x <= minimum(bowl(800, -2.0, [-3, -2, -1])) + 1e-9


def test_the_rate_keeps_away_from_the_edge_of_divergence() -> None:
    points = [*bowl(100, -1.2, [-2, -1.5, -1]), Point(100, -0.9, 5.0, diverged=True)]
    found = best_at(points, 1000)
    assert found is not None
    assert edge(points) == -0.9
    assert found.x <= -0.9 - EDGE_MARGIN + 1e-9


def test_when_all_diverged_there_is_no_rate() -> None:
    assert best_at([Point(10, 0.0, 5.0, diverged=True)], 100) is None


def test_the_interval_grows_with_the_distance() -> None:
    points = bowl(100, -2.0, [-3, -2, -1])
    near, far = best_at(points, 200), best_at(points, 6400)
    assert near is not None
    assert far is not None
    assert far.high - far.low > near.high - near.low
    assert math.isfinite(far.x)
