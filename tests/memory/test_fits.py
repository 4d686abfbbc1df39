from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.memory.fits import MOST_SAMPLES, Growth

_MOMENTS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**6)), min_size=1, max_size=20)


@given(st.integers(1, 512), _MOMENTS, st.integers(0, 10**11))
def test_the_largest_batch_fits_and_one_more_does_not(
    n: int, moments: list[tuple[int, int]], room: int
) -> None:
    growth = Growth.of((n, [a + b * n for a, b in moments]), (2 * n, [a + b * 2 * n for a, b in moments]))
    most = growth.most(room)
    if all(b == 0 for _, b in moments):
        assert most is None
        return
    assert most is not None
    if most:
        assert growth.at(most) <= room
    if most < MOST_SAMPLES:
        assert growth.at(most + 1) > room


def test_gradients_that_do_not_grow_hide_activations_that_do() -> None:
    """At a small batch the peak is of gradients, at a large one of activations."""
    growth = Growth.of((1, [10, 1000]), (2, [20, 1000]))
    assert (growth.at(1), growth.at(50), growth.at(200)) == (1000, 1000, 2000)
    assert growth.most(1500) == 150


def test_courses_of_different_ways_are_compared_by_their_peaks() -> None:
    assert Growth.of((1, [5, 10]), (2, [5, 8, 12])).at(3) == 14


def test_one_size_tells_nothing_of_others() -> None:
    growth = Growth.of((8, [100]))
    assert (growth.at(8), growth.most(10**9)) == (100, None)
    with pytest.raises(ValueError, match="nothing of others"):
        growth.at(9)
