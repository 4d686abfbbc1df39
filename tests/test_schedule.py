"""The laws of the schedules, for every kind and length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoopt.errors import UsageError
from autoopt.schedule import KINDS, multiplier, warmup_steps

DECAYING = [kind for kind in KINDS if kind != "constant"]


@given(
    kind=st.sampled_from(KINDS),
    total=st.integers(1, 300),
    share=st.floats(0, 1, exclude_max=True),
    data=st.data(),
)
def test_every_step_moves_and_none_exceeds_the_base_rate(
    kind: str, total: int, share: float, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total - 1))
    assert 0 < multiplier(kind, step, total, warmup_steps(share, total)) <= 1


@given(kind=st.sampled_from(KINDS), total=st.integers(1, 200), share=st.floats(0, 1, exclude_max=True))
def test_rises_in_warmup_and_never_after_it(kind: str, total: int, share: float) -> None:
    warm = warmup_steps(share, total)
    values = [multiplier(kind, step, total, warm) for step in range(total + 1)]
    assert values[:warm] == sorted(values[:warm])
    assert max(values) == 1
    assert values[warm] == 1
    assert values[warm:] == sorted(values[warm:], reverse=True)


@pytest.mark.parametrize("kind", DECAYING)
def test_a_decaying_schedule_ends_near_zero_but_above(kind: str) -> None:
    assert 0 < multiplier(kind, 999, 1000, 50) < 0.01
    assert multiplier(kind, 1000, 1000, 50) == 0


def test_values() -> None:
    assert multiplier("cosine", 0, 100, 10) == pytest.approx(0.1)
    assert multiplier("cosine", 55, 100, 10) == pytest.approx(0.5)
    assert multiplier("cosine", 5, 20) == pytest.approx((1 + 2**-0.5) / 2)
    assert multiplier("linear", 25, 100) == 0.75
    assert multiplier("constant", 99, 100, 10) == 1
    assert multiplier("wsd", 80, 100, 10) == 1
    assert multiplier("wsd", 90, 100, 10) == 0.5


def test_the_shape_does_not_depend_on_the_length() -> None:
    for kind in KINDS:
        short = [multiplier(kind, s, 100, warmup_steps(0.1, 100)) for s in range(10, 100)]
        long = [multiplier(kind, 10 * s, 1000, warmup_steps(0.1, 1000)) for s in range(10, 100)]
        assert short == pytest.approx(long)


def test_unknown_kind_and_impossible_warmup_are_refused() -> None:
    with pytest.raises(UsageError, match="'yours'"):
        multiplier("yours", 0, 10)
    with pytest.raises(UsageError, match=r"1\.5 is no share"):
        warmup_steps(1.5, 10)
