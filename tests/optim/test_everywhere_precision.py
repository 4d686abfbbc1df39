"""Autocast and GradScaler on a CPU, in the loops that their documentation shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoopt.optim import AdaHessian, Adan, SGDSaI
from tests.optim._workers import data, demand_close, network, whole

Make = Callable[[nn.Module, torch.amp.GradScaler | None], Any]

KINDS: dict[str, Make] = {
    "adan": lambda net, scaler: Adan(net.parameters(), lr=1e-2),
    "sgd_sai": lambda net, scaler: SGDSaI(net.parameters(), lr=1e-2),
    "adahessian": lambda net, scaler: _hessian(net, scaler),
    "adahessian-exact": lambda net, scaler: _hessian(net, scaler, hessian="double_backward"),
}
STEPS = 12


def _hessian(net: nn.Module, scaler: torch.amp.GradScaler | None, **options: Any) -> AdaHessian:
    options = {"hessian": "finite_difference", **options}
    generator = torch.Generator().manual_seed(2)
    return AdaHessian(net.parameters(), lr=1e-2, module=net, scaler=scaler, generator=generator, **options)


def _step(opt: Any, net: nn.Module, scaler: torch.amp.GradScaler, *, autocast: bool, factor: float) -> float:
    x, y = data(torch.float32)

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = net(x)
        value: Tensor = (out.float() - y).square().mean()
        return value * factor

    def closure() -> Tensor:
        opt.zero_grad()
        value = loss()
        graph = getattr(opt, "create_graph", False)
        context = opt.graph_context() if graph else torch.enable_grad()
        with context:
            torch.autograd.backward(scaler.scale(value), create_graph=graph)
        return value.detach()

    if isinstance(opt, AdaHessian):
        value = opt.step(closure)
    else:
        value = closure()
        scaler.step(opt)
    scaler.update()
    return float(value)


@pytest.mark.parametrize("kind", KINDS)
def test_training_under_autocast_with_a_scaled_loss(kind: str) -> None:
    net, scaler = network(torch.float32), torch.amp.GradScaler("cpu", init_scale=1024.0)
    opt = KINDS[kind](net, scaler)
    losses = [_step(opt, net, scaler, autocast=True, factor=1.0) for _ in range(STEPS)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_changes_nothing(kind: str) -> None:
    ends = []
    for scale in (1024.0, 1.0):  # powers of two: the same bits
        net, scaler = network(torch.float32), torch.amp.GradScaler("cpu", init_scale=scale)
        opt = KINDS[kind](net, scaler)
        for _ in range(3):
            _step(opt, net, scaler, autocast=False, factor=1.0)
        ends.append(whole(net.parameters()))
    demand_close(ends[0], ends[1], 0.0, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_an_overflow_skips_the_step_and_the_next_one_is_as_if_it_had_not_been(kind: str) -> None:
    net, scaler = network(torch.float32), torch.amp.GradScaler("cpu", init_scale=1024.0)
    opt = KINDS[kind](net, scaler)
    before = whole(net.parameters())
    _step(opt, net, scaler, autocast=False, factor=1e38)
    demand_close(whole(net.parameters()), before, 0.0, "after the overflow")
    assert scaler.get_scale() == 512.0
    if isinstance(opt, AdaHessian) and opt.generator is not None:
        opt.generator.manual_seed(2)
    _step(opt, net, scaler, autocast=False, factor=1.0)
    other, unscaled = network(torch.float32), torch.amp.GradScaler("cpu", init_scale=512.0)
    _step(KINDS[kind](other, unscaled), other, unscaled, autocast=False, factor=1.0)
    demand_close(whole(net.parameters()), whole(other.parameters()), 0.0, "after the next step")
