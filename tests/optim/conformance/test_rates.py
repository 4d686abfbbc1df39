"""Schedulers drive the rate, whether it is a float or a tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as schedules

from tests.optim._sequences import gradients, parameters
from tests.optim.conformance.cases import SHAPES, Case, close, copies, finite, same
from tests.optim.conformance.deviations import conforms, demand

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: schedules.StepLR(o, 1, 0.5),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, 5),
    "LinearLR": lambda o: schedules.LinearLR(o, 0.1, total_iters=3),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o, 0.5, 2), schedules.ExponentialLR(o, 0.9)], [2]
    ),
}


def follow(case: Case, make: Callable[[Any], Any] | None, rates: list[float]) -> list[torch.Tensor]:
    """Five steps under a scheduler, or by `rates` set by hand."""
    params = parameters(SHAPES)
    grads = gradients(params, 5)
    optimizer = case.make(params)
    schedule = make(optimizer) if make else None
    for i in range(5):
        if make:
            rates.append(float(optimizer.param_groups[0]["lr"]))
        for group in optimizer.param_groups:
            group["lr"] = rates[i]
        case.drive(optimizer, params, [grads[i]])
        if schedule:
            schedule.step()
    return params


@conforms("schedulers")
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduler_does_what_setting_the_rate_by_hand_does(case: Case, name: str) -> None:
    rates: list[float] = []
    scheduled = follow(case, SCHEDULES[name], rates)
    demand(len(set(rates)) > 1, "the scheduler did not change the rate")
    demand(same(scheduled, follow(case, None, rates)), "a scheduler gives another result")


@conforms("OneCycleLR")
def test_one_cycle_moves_rate_and_momentum(case: Case) -> None:
    params = parameters(SHAPES)
    optimizer = case.make(params)
    has = "betas" if "betas" in optimizer.defaults else "momentum" if "momentum" in optimizer.defaults else ""
    schedule = schedules.OneCycleLR(
        optimizer, case.spec.defaults["lr"], total_steps=6, cycle_momentum=bool(has)
    )
    rates, momenta = [], []
    for step in gradients(params, 5):
        group = optimizer.param_groups[-1]
        rates.append(float(group["lr"]))
        momenta.append(float(group[has][0] if has == "betas" else group[has]) if has else 0.0)
        case.drive(optimizer, params, [step])
        schedule.step()
    demand(rates[0] < max(rates) > rates[-1], "the rate does not rise and fall")
    demand(not has or momenta[0] > min(momenta) < momenta[-1], "the momentum does not fall and rise")
    betas = case.spec.defaults.get("betas", ())
    demand(all(len(g.get("betas", betas)) == len(betas) for g in optimizer.param_groups), "a beta is lost")
    demand(finite(params), "parameters are no longer finite")


@conforms("rate 0")
def test_at_rate_0_nothing_moves(case: Case) -> None:
    params = parameters(SHAPES)
    grads = gradients(params, 5)
    optimizer = case.make(params)
    schedule = schedules.LambdaLR(optimizer, lambda k: 1.0 if k < 3 else 0.0)
    for step in grads[:3]:
        case.drive(optimizer, params, [step])
        schedule.step()
    before = copies(params)
    case.drive(optimizer, params, grads[3:])
    demand(same(params, before), "parameters move at rate 0")


@conforms("a tensor as rate")
def test_a_tensor_rate_is_a_rate(case: Case) -> None:
    tensor_rate(case, ())


@conforms("a tensor of shape (1,) as rate")
def test_a_tensor_rate_may_have_a_dimension(case: Case) -> None:
    tensor_rate(case, (1,))


def tensor_rate(case: Case, shape: tuple[int, ...]) -> None:
    """Compares a tensor as rate with a float."""
    one, two = parameters(SHAPES), parameters(SHAPES)
    grads = gradients(one, 4)
    rate = case.spec.defaults["lr"]
    case.drive(case.make(one), one, grads)
    optimizer = case.make(two, lr=torch.full(shape, rate, dtype=torch.float64))
    case.drive(optimizer, two, grads)
    demand(close(one, two, 1e-6), "a tensor gives another result")
    demand(isinstance(optimizer.param_groups[0]["lr"], torch.Tensor), "the rate is no longer a tensor")
