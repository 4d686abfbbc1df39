from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.optim.spec import Range
from autoopt.tuning.space import from_coordinate, shift, to_coordinate


@given(st.floats(1e-6, 0.999), st.sampled_from(["log", "linear", "one_minus_log"]))
def test_coordinates_round_trip(value: float, scale: str) -> None:
    assert from_coordinate(to_coordinate(value, scale), scale) == pytest.approx(value, rel=1e-9, abs=1e-12)


@given(st.floats(1e-7, 10), st.floats(-3, 3))
def test_a_shift_stays_in_the_range(value: float, by: float) -> None:
    span = Range(1e-4, 1.0)
    assert span.low <= shift(value, by, span) <= span.high


def test_a_shift_is_in_decades_where_the_scale_is_logarithmic() -> None:
    assert shift(1e-3, 0.5, Range(1e-5, 1)) == pytest.approx(10**-2.5, rel=1e-4)
    assert shift(0.99, 1, Range(0.5, 0.9999, "one_minus_log")) == pytest.approx(0.999)
    assert shift(0.5, 0.25, Range(0, 1, "linear")) == 0.75


def test_a_value_outside_is_brought_in_first() -> None:
    assert shift(0.0, 1.0, Range(1e-4, 1.0)) == pytest.approx(1e-3)
