from __future__ import annotations

import pytest
import torch

from autoopt.optim import AdaHessian
from autoopt.optim.period import period


def weight() -> torch.Tensor:
    return torch.zeros(2, requires_grad=True)


@pytest.mark.parametrize("each", [1, 4])
def test_adahessian_repeats_after_update_each(each: int) -> None:
    assert period(AdaHessian([weight()], update_each=each)) == each


def test_groups_of_different_periods_repeat_after_their_multiple() -> None:
    optimizer = torch.optim.SGD([{"params": [weight()]}, {"params": [weight()]}], lr=0.1)
    optimizer.param_groups[0]["precondition_frequency"] = 4
    optimizer.param_groups[1]["precondition_frequency"] = 6
    assert period(optimizer) == 12


@pytest.mark.parametrize("value", [True, 0, -3, 10**6, 2.5, None])
def test_what_is_no_number_of_steps_is_no_period(value: object) -> None:
    optimizer = torch.optim.SGD([weight()], lr=0.1)
    optimizer.param_groups[0]["update_each"] = value
    assert period(optimizer) == 1
