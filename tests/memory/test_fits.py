from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.memory.fits import MOST_SAMPLES, Line


@given(st.integers(1, 512), st.integers(0, 10**9), st.integers(1, 10**6), st.integers(0, 10**11))
def test_the_largest_batch_fits_and_one_more_does_not(n: int, base: int, slope: int, room: int) -> None:
    line = Line.through((n, base + n * slope), (2 * n, base + 2 * n * slope))
    most = line.most(room)
    assert most is not None
    if 0 < most < MOST_SAMPLES:
        assert line.at(most) <= room < line.at(most + 1)
    if most == 0:
        assert line.at(1) > room or base > room


def test_one_point_tells_nothing_of_other_sizes() -> None:
    line = Line.through((8, 100))
    assert (line.at(8), line.most(10**9)) == (100, None)
    with pytest.raises(ValueError, match="no line"):
        line.at(9)
