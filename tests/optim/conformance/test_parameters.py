"""Parameters that come late, never get a gradient, are frozen, empty, scalar, or lie elsewhere in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.optim._sequences import gradients, parameters
from tests.optim.conformance.cases import SHAPES, Case, close, copies, finite, net, regression, same
from tests.optim.conformance.deviations import conforms, demand


def alone(case: Case, params: list[Tensor], grads: list[list[Tensor]], **over: Any) -> None:
    """Trains these by an optimizer of their own."""
    case.drive(case.make(params, **over), params, grads)


@conforms("a parameter added later")
def test_a_parameter_added_later_trains_as_if_it_were_alone(case: Case) -> None:
    one, two = parameters(SHAPES), parameters(SHAPES)
    grads = gradients(one, 6)
    optimizer = case.make(one[:2])
    case.drive(optimizer, one[:2], [g[:2] for g in grads[:3]])
    optimizer.add_param_group({"params": one[2:]})
    case.drive(optimizer, one, grads[3:])
    alone(case, two[:2], [g[:2] for g in grads])
    alone(case, two[2:], [g[2:] for g in grads[3:]])
    demand(close(one[:2], two[:2], 1e-6), "the first ones went elsewhere")
    demand(close(one[2:], two[2:], 1e-6), "those added went elsewhere")


@conforms("a group of an added parameter")
def test_an_added_group_has_its_own_rate(case: Case) -> None:
    one, start = parameters(SHAPES), parameters(SHAPES)
    grads = gradients(one, 4)
    optimizer = case.make(one[:2])
    optimizer.add_param_group({"params": one[2:], "lr": 0.0, "weight_decay": 0.0})
    case.drive(optimizer, one, grads)
    demand(not same(one[:2], start[:2]), "the others did not move")
    demand(same(one[2:], start[2:]), "it moved at rate 0")


@conforms("a gradient that comes late")
def test_a_gradient_that_comes_late_finds_a_fresh_state(case: Case) -> None:
    one, two = parameters(SHAPES), parameters(SHAPES)
    grads = gradients(one, 6)
    late: list[list[Any]] = [[g[0], g[1], None, None] for g in grads[:3]]
    case.drive(case.make(one), one, late + grads[3:])
    alone(case, two[:2], [g[:2] for g in grads])
    alone(case, two[2:], [g[2:] for g in grads[3:]])
    demand(close(one, two, 1e-6), "late parameters went elsewhere")


@conforms("a parameter without gradient")
@pytest.mark.parametrize("requires_grad", [True, False], ids=["unused", "frozen"])
def test_what_has_no_gradient_stays(case: Case, requires_grad: bool) -> None:
    params = parameters(SHAPES)
    params[2] = params[2].detach().requires_grad_(requires_grad)
    start = copies(params)
    grads = gradients(params, 3)
    case.drive(case.make(params), params, [[g[0], g[1], None, g[3]] for g in grads])
    demand(torch.equal(params[2], start[2]), "it moved")
    demand(not torch.equal(params[3], start[3]), "the others did not move")


@conforms("no gradient at all")
def test_a_step_without_any_gradient_moves_nothing(case: Case) -> None:
    params = parameters(SHAPES)
    start = copies(params)
    optimizer = case.make(params)
    optimizer.step()
    demand(same(params, start), "something moved")
    case.drive(optimizer, params, gradients(params, 1))
    demand(not same(params, start), "the next step moved nothing")


@conforms("frozen layers")
def test_frozen_layers_are_left_out_as_the_product_builds_it(case: Case) -> None:
    model = net()
    model[2].requires_grad_(False)
    start = copies(model.parameters())
    optimizer = case.build(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    demand(all(p.requires_grad for p in held), "a frozen parameter is held")
    for _ in range(3):
        case.step(optimizer, regression(model))
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), start, strict=True)]
    demand(moved == [p.requires_grad for p in model.parameters()], "what is frozen moved, or nothing did")


@conforms("empty tensors")
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)], ids=str)
def test_an_empty_tensor_disturbs_nothing(case: Case, shape: tuple[int, ...]) -> None:
    one, two = parameters(((3,), (4, 5))), parameters(((3,), (4, 5)))
    grads = gradients(one, 3)
    empty = torch.zeros(shape, dtype=one[0].dtype).requires_grad_()
    with_empty = [[*g, torch.zeros(shape, dtype=one[0].dtype)] for g in grads]
    case.drive(case.make([*one, empty]), [*one, empty], with_empty)
    alone(case, two, grads)
    demand(close(one, two, 1e-6), "the others went elsewhere")


@conforms("scalars")
def test_a_0d_parameter_moves_as_one_with_one_element(case: Case) -> None:
    scalar = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    vector = torch.tensor([1.5], dtype=torch.float64, requires_grad=True)
    grads = gradients([scalar], 5)
    alone(case, [scalar], grads)
    alone(case, [vector], [[g.reshape(1) for g in step] for step in grads])
    demand(scalar.shape == () and bool(scalar != 1.5), "it did not move")
    demand(close([scalar], [vector[0]], 1e-6), "a tensor of one element goes elsewhere")


@conforms("options of a group")
def test_groups_train_as_if_they_were_alone(case: Case) -> None:
    one, two = parameters(SHAPES), parameters(SHAPES)
    grads = gradients(one, 5)
    rate = case.spec.defaults["lr"]
    options = [{"lr": rate, "weight_decay": 0.1}, {"lr": rate / 4, "weight_decay": 0.0}]
    case.drive(case.make([{"params": one[:2], **options[0]}, {"params": one[2:], **options[1]}]), one, grads)
    alone(case, two[:2], [g[:2] for g in grads], **options[0])
    alone(case, two[2:], [g[2:] for g in grads], **options[1])
    demand(close(one, two, 1e-6), "groups with options of their own go elsewhere")


@conforms("a parameter held twice")
def test_a_parameter_in_two_groups_is_refused(case: Case) -> None:
    p = torch.ones(4, 3, requires_grad=True)
    with pytest.raises(ValueError, match="more than one parameter group"):
        case.make([{"params": [p]}, {"params": [p]}])


def layouts(values: Tensor) -> Tensor:
    """The same numbers, the first and the last dimension swapped in memory."""
    if values.ndim == 4:
        return values.to(memory_format=torch.channels_last)
    return values.transpose(0, -1).contiguous().transpose(0, -1)


@conforms("layouts in memory")
def test_strides_change_no_number(case: Case) -> None:
    strided(case, layouts)


@conforms("layouts in memory, a contiguous gradient")
def test_strides_of_a_parameter_and_its_gradient_may_differ(case: Case) -> None:
    strided(case, lambda g: g)


def strided(case: Case, of_gradient: Callable[[Tensor], Tensor]) -> None:
    """Compares parameters in another layout with contiguous ones."""
    one = parameters(((6, 5), (4, 3, 2, 5)))
    two = [layouts(p.detach()).requires_grad_() for p in one]
    demand(not any(p.is_contiguous() for p in two), "the test's tensors are contiguous")
    grads = gradients(one, 4)
    alone(case, one, grads)
    alone(case, two, [[of_gradient(g) for g in step] for step in grads])
    demand(close(one, two, 1e-6), "other strides give another result")
    demand(not any(p.is_contiguous() for p in two), "the parameters' strides changed")


@conforms("views")
def test_a_parameter_may_be_part_of_a_larger_tensor(case: Case) -> None:
    whole = torch.zeros(10, 12, dtype=torch.float64)
    one = parameters(((6, 5),))
    with torch.no_grad():
        whole[2:8, 3:8] = one[0]
    two = [nn.Parameter(whole[2:8, 3:8])]
    grads = gradients(one, 4)
    alone(case, one, grads)
    alone(case, two, grads)
    demand(close(one, two, 1e-6), "a part goes elsewhere")
    outside = whole.clone()
    outside[2:8, 3:8] = 0
    demand(not bool(outside.any()) and finite([whole]), "something outside of it moved")
