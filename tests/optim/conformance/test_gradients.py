"""Odd gradients, what a step leaves behind, maximizing, and scaled losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.optim._sequences import gradients, parameters
from tests.optim.conformance.cases import (
    SHAPES,
    Case,
    close,
    copies,
    finite,
    net,
    quadratic,
    regression,
    same,
)
from tests.optim.conformance.deviations import conforms, demand


def odd(case: Case, kind: Callable[[Tensor], Tensor]) -> None:
    """Three odd gradients at the start, and three after healthy ones."""
    for before in (0, 2):
        params = parameters(SHAPES, torch.float32)
        plain = gradients(params, 7)
        sequence = [
            [kind(g) if before <= i < before + 3 else g for g in step] for i, step in enumerate(plain)
        ]
        case.drive(case.make(params), params, sequence)
        demand(finite(params), "parameters are no longer finite")


@conforms("odd gradients: zero")
def test_gradients_of_zero(case: Case) -> None:
    odd(case, torch.zeros_like)


@conforms("odd gradients: all equal")
def test_gradients_of_equal_elements(case: Case) -> None:
    odd(case, torch.ones_like)


@conforms("odd gradients: huge")
def test_gradients_whose_squares_overflow(case: Case) -> None:
    odd(case, lambda g: g * 1e20)


@conforms("odd gradients: tiny")
def test_gradients_whose_squares_are_nothing(case: Case) -> None:
    odd(case, lambda g: g * 1e-20)


@conforms("training after gradients of zero")
def test_gradients_of_zero_at_first_do_no_harm(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    for _ in range(3):
        case.step(optimizer, lambda: 0.0 * regression(model)())
    losses = [case.step(optimizer, regression(model)) for _ in range(60)]
    demand(losses[-1] < 0.7 * losses[0], f"the loss went from {losses[0]:.3g} to {losses[-1]:.3g}")


@conforms("NaN stays in its tensor")
def test_nan_in_one_gradient_leaves_the_other_parameters_alone(case: Case) -> None:
    one, two = parameters(SHAPES, torch.float32), parameters(SHAPES, torch.float32)
    grads = gradients(one, 4)
    case.drive(case.make(two), two, grads)
    grads[1][2][0, 0] = float("nan")
    case.drive(case.make(one), one, grads)
    others = [0, 1, 3]
    demand(close([one[i] for i in others], [two[i] for i in others], 1e-5), "other tensors changed")
    demand(not finite([one[2]]), "the NaN left no trace")


@conforms("sparse gradients")
def test_sparse_gradients_are_taken_or_refused_before_anything_moves(case: Case) -> None:
    dense = torch.ones(3, requires_grad=True)
    table = nn.Embedding(4, 2, sparse=True)
    before = table.weight.detach().clone()
    optimizer = case.make([{"params": [dense]}, {"params": [table.weight]}])
    (table(torch.tensor([1])).sum() + dense.sum()).backward()
    try:
        optimizer.step()
    except Exception as error:
        demand("sparse" in str(error), f"the refusal does not say why: {error}")
        demand(torch.equal(dense, torch.ones(3)), "the refused step moved what came before")
        demand(torch.equal(table.weight, before), "the refused step moved the embedding")
    else:
        demand(not torch.equal(table.weight[1], before[1]), "the row did not move")


@conforms("the gradient is left as it was")
def test_a_step_does_not_change_the_gradient(case: Case) -> None:
    params = parameters(SHAPES, torch.float32)
    optimizer = case.make(params)
    for step in gradients(params, 3):
        case.drive(optimizer, params, [step])
        found = [p.grad for p in params if p.grad is not None]
        demand(close(found, step, 1e-5), "p.grad is changed by the step")


@conforms("no graph is kept")
def test_a_step_keeps_no_graph(case: Case) -> None:
    model = net()
    optimizer = case.build(model)
    for _ in range(3):
        case.step(optimizer, regression(model))
    for p in model.parameters():
        demand(p.is_leaf and p.requires_grad, "a parameter is no leaf any more")
        demand(p.grad is None or not p.grad.requires_grad, "a gradient has a graph")
        for key, value in optimizer.state[p].items():
            demand(not (isinstance(value, Tensor) and value.requires_grad), f"{key} has a graph")


@conforms("grad mode")
def test_the_step_is_the_same_in_every_grad_mode(case: Case) -> None:
    ends = []
    for mode in (torch.enable_grad, torch.no_grad):
        model = net()
        optimizer = case.build(model)
        torch.manual_seed(5)
        for _ in range(3):
            loss = regression(model)
            if case.second_order:
                with mode():
                    optimizer.step(loss)
                    demand(torch.is_grad_enabled() == (mode is torch.enable_grad), "the mode was changed")
                continue
            optimizer.zero_grad()
            loss().backward()
            with mode():
                optimizer.step()
                demand(torch.is_grad_enabled() == (mode is torch.enable_grad), "the mode was changed")
        ends.append(copies(model.parameters()))
    demand(same(*ends), "the mode changes the result")


@conforms("maximize", where=lambda case: "maximize" in case.takes)
def test_maximizing_is_minimizing_the_negative(case: Case) -> None:
    one, two = parameters(SHAPES), parameters(SHAPES)
    up, down = case.make(one, maximize=True), case.make(two)
    for step in gradients(one, 5):
        if case.second_order:
            up.step(quadratic(one, step, -1.0))
            down.step(quadratic(two, step))
            continue
        case.drive(up, one, [[-g for g in step]])
        case.drive(down, two, [step])
    demand(close(one, two, 1e-9), "maximizing the negative gives another result")


@conforms("zero_grad")
@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad_clears(case: Case, to_none: bool) -> None:
    model = net()
    optimizer = case.build(model)
    regression(model)().backward()
    optimizer.zero_grad(set_to_none=to_none)
    for p in model.parameters():
        if to_none:
            demand(p.grad is None, "a gradient is left")
        else:
            demand(p.grad is not None and not bool(p.grad.any()), "a gradient is not zero")


def scaled_run(case: Case, scale: float | None, overflow_at: int = -1) -> tuple[list[list[Tensor]], Any]:
    """The parameters after each of five steps, with a loss scaled as the training loop scales it."""
    model = net()
    optimizer = case.build(model)
    torch.manual_seed(5)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000) if scale else None
    if case.second_order:
        optimizer.module, optimizer.scaler = model, scaler
    path = []
    for i in range(5):
        factor = float("inf") if i == overflow_at else 1.0

        def loss(factor: float = factor) -> Tensor:
            return factor * regression(model)()

        if case.second_order:
            optimizer.step(loss)
        else:
            optimizer.zero_grad()
            (scaler.scale(loss()) if scaler else loss()).backward()
            if scaler:
                scaler.step(optimizer)
            else:
                optimizer.step()
        if scaler:
            scaler.update()
        path.append(copies(model.parameters()))
    return path, scaler


@conforms("scaled losses")
def test_a_scaled_loss_gives_the_same_steps(case: Case) -> None:
    scaled, _ = scaled_run(case, 1024.0)
    plain, _ = scaled_run(case, None)
    demand(close(scaled[-1], plain[-1], 1e-4), "the scale changes the result")


@conforms("overflow")
def test_overflow_skips_the_step(case: Case) -> None:
    path, scaler = scaled_run(case, 1024.0, overflow_at=2)
    demand(same(path[1], path[2]), "the step with infinite gradients is taken")
    demand(scaler.get_scale() == 512.0, "the scale did not fall")
    demand(finite(path[4]) and not same(path[2], path[4]), "the next steps are not taken")
