"""Hooks run once around a step; the closure is called as often as it should be and its value returned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from tests.optim.conformance.cases import Case, copies, net, regression, same
from tests.optim.conformance.deviations import conforms, demand


@conforms("hooks of a step")
def test_hooks_run_around_a_step(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    seen: list[str] = []
    before = copies(model.parameters())

    def check(*_: Any) -> None:
        seen.append("before" if same(model.parameters(), before) else "late")

    first = optimizer.register_step_pre_hook(check)
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    case.step(optimizer, regression(model))
    first.remove()
    case.step(optimizer, regression(model))
    demand(seen == ["before", "after", "after"], f"hooks ran as {seen}")


@conforms("hooks of all optimizers")
def test_hooks_of_all_optimizers_run_once_a_step(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    seen: list[str] = []
    handles = [
        register_optimizer_step_pre_hook(lambda o, *_: seen.append(type(o).__name__)),
        register_optimizer_step_post_hook(lambda o, *_: seen.append(type(o).__name__)),
    ]
    try:
        case.step(optimizer, regression(model))
    finally:
        for handle in handles:
            handle.remove()
    demand(seen == [type(optimizer).__name__] * 2, f"hooks ran for {seen}")


CALLS = {"adahessian-differences": 2}
"""Evaluations of the closure where it is not one: a difference needs two gradients."""


@conforms("closure")
def test_the_closure_is_called_as_documented_and_its_value_returned(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    loss = regression(model)
    calls: list[float] = []

    def closure() -> Tensor:
        demand(torch.is_grad_enabled(), "the closure runs without gradients")
        optimizer.zero_grad()
        value = loss()
        value.backward(create_graph=getattr(optimizer, "create_graph", False))
        calls.append(float(value.detach()))
        return value

    start = copies(model.parameters())
    with optimizer.graph_context() if case.second_order else torch.enable_grad():
        returned = optimizer.step(closure)
    demand(len(calls) == CALLS.get(case.name, 1), f"the closure is called {len(calls)} times")
    demand(float(returned.detach()) == calls[0], "the value is not the loss before the step")
    demand(not same(model.parameters(), start), "nothing moved")


@conforms("closure without grad mode")
def test_a_closure_has_gradients_where_the_caller_has_none(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    loss = regression(model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        if not case.second_order:
            value.backward()
        return value

    start = copies(model.parameters())
    with torch.no_grad():
        optimizer.step(closure)
    demand(not same(model.parameters(), start), "nothing moved")


@conforms("representation")
def test_it_shows_its_options(case: Case) -> None:
    optimizer = case.build(net())
    demand("lr" in repr(optimizer), f"it shows itself as {optimizer!r}")
