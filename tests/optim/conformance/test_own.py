"""What only ours offer, or where only ours have a reason to differ."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.optim import Adan, SGDSaI
from tests.optim._sequences import gradients
from tests.optim.conformance.cases import CASES, Case, close, copies, same
from tests.optim.conformance.deviations import conforms, demand

OWN = ("adan", "adahessian", "sgd_sai")


@conforms("layouts larger than a block", where=lambda case: case.spec.name in OWN)
def test_strides_of_a_tensor_larger_than_a_block_change_no_number(case: Case) -> None:
    weight = torch.randn(140, 10, 12, 9, generator=torch.Generator().manual_seed(0))
    one = [weight.clone().requires_grad_()]
    two = [weight.clone().to(memory_format=torch.channels_last).requires_grad_()]
    grads = gradients(one, 2)
    case.drive(case.make(one), one, grads)
    case.drive(case.make(two), two, [[g.to(memory_format=torch.channels_last) for g in s] for s in grads])
    demand(close(one, two, 1e-4), "other strides give another result")


@pytest.mark.parametrize(
    ("make", "options"),
    [(Adan, {}), (Adan, {"no_prox": True, "weight_decay": 0.1, "max_grad_norm": 1.0}), (SGDSaI, {})],
)
def test_autograd_runs_through_a_differentiable_step(make: Any, options: dict[str, Any]) -> None:
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    grads = gradients([start], 3)

    def end(rate: Tensor) -> Tensor:
        p = start.clone()
        optimizer = make([p], lr=rate, differentiable=True, **options)
        for (g,) in grads:
            p.grad = g
            optimizer.step()
        return p

    assert torch.autograd.gradcheck(end, (torch.tensor(0.1, dtype=torch.float64, requires_grad=True),))


def test_muon_refuses_a_sparse_gradient_before_a_matrix_moves() -> None:
    model = nn.Sequential(nn.Embedding(5, 4, sparse=True), nn.Linear(4, 4), nn.Linear(4, 2))
    optimizer = next(case for case in CASES if case.name == "muon").build(model)
    before = copies(model.parameters())
    model(torch.arange(5)).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        optimizer.step()
    assert same(model.parameters(), before)
