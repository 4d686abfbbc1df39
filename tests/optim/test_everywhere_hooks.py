"""A step for each parameter within the backward pass, where the algorithm allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autoopt.optim import AdaHessian, Adan, SGDSaI
from tests.optim._workers import data, demand_close, network, whole

STEPS = 6
Make = Callable[[Any], Any]

ALONE: dict[str, Make] = {
    "adan": lambda params: Adan(params, lr=1e-2, weight_decay=0.1),
    "adan-no_prox": lambda params: Adan(params, lr=1e-2, weight_decay=0.1, no_prox=True, foreach=False),
    "adan-fused": lambda params: Adan(params, lr=1e-2, fused=True),
    "sgd_sai": lambda params: SGDSaI(params, lr=1e-2),
    "sgd_sai-bare": lambda params: SGDSaI(params, lr=1e-2, momentum=0.0),
    "sgd_sai-fused": lambda params: SGDSaI(params, lr=1e-2, fused=True),
}
"""Options with which a parameter's step depends on its own gradient only."""


def _loss(net: torch.nn.Module, dtype: torch.dtype) -> Tensor:
    x, y = data(dtype)
    loss: Tensor = (net(x) - y).square().mean()
    return loss


def _at_once(make: Make, dtype: torch.dtype) -> list[Tensor]:
    net = network(dtype)
    opt = make(net.parameters())
    for _ in range(STEPS):
        opt.zero_grad()
        torch.autograd.backward(_loss(net, dtype))
        opt.step()
    return whole(net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ALONE)
def test_one_optimizer_per_parameter_gives_the_same_bits(kind: str, dtype: torch.dtype) -> None:
    net = network(dtype)
    optimizers = {p: ALONE[kind]([p]) for p in net.parameters()}

    def hook(p: Tensor) -> None:
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in net.parameters():
        p.register_post_accumulate_grad_hook(hook)
    for _ in range(STEPS):
        torch.autograd.backward(_loss(net, dtype))
        assert all(p.grad is None for p in net.parameters())
    demand_close(whole(net.parameters()), _at_once(ALONE[kind], dtype), 0.0, kind)


# The import runs functions of torch that warn.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("cls", "options"), [(Adan, {"lr": 1e-2, "weight_decay": 0.1}), (SGDSaI, {"lr": 1e-2})]
)
def test_torchs_own_way_gives_the_same_bits(cls: Any, options: dict[str, Any]) -> None:
    from torch.distributed.optim import _apply_optimizer_in_backward

    net = network()
    _apply_optimizer_in_backward(cls, net.parameters(), options)
    for _ in range(STEPS):
        torch.autograd.backward(_loss(net, torch.float64))
    expected = _at_once(lambda params: cls(params, **options), torch.float64)
    demand_close(whole(net.parameters()), expected, 0.0, cls.__name__)


@pytest.mark.parametrize("hessian", ["auto", "double_backward", "finite_difference"])
def test_adahessian_says_that_it_needs_more_than_a_gradient(hessian: Any) -> None:
    net = network()
    before = whole(net.parameters())
    optimizers = {p: AdaHessian([p], hessian=hessian) for p in net.parameters()}
    for p in net.parameters():
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
    with pytest.raises(RuntimeError, match=r"step\(closure\)"):
        torch.autograd.backward(_loss(net, torch.float64))
    demand_close(whole(net.parameters()), before, 0.0, "after the error")
