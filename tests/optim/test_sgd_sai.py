from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from autoopt.optim.sgd_sai import SGDSaI
from tests.optim._naive import ratio as naive_ratio
from tests.optim._sequences import gradients, numbers, parameters, run

SHAPES = ((3,), (4, 5), (2, 3, 2, 2))


def ratio(g: Tensor) -> float:
    return naive_ratio(numbers([g])[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_batched_and_single_steps_give_the_same_bits(dtype: torch.dtype) -> None:
    shapes = (*SHAPES, (400, 400))
    one, two = parameters(shapes, dtype), parameters(shapes, dtype)
    grads = gradients(one, 20)
    run(SGDSaI(one, foreach=True), one, grads)
    run(SGDSaI(two, foreach=False), two, grads)
    assert all(torch.equal(p, q) for p, q in zip(one, two, strict=True))


def test_ratio_is_about_the_root_of_the_number_of_elements() -> None:
    (p,) = parameters([(50, 50)], torch.float32)
    optimizer = SGDSaI([p])
    run(optimizer, [p], gradients([p], 1))
    assert optimizer.state[p]["ratio"].item() == pytest.approx(50.0, rel=0.05)
    assert optimizer.state[p]["ratio"].item() == pytest.approx(ratio(gradients([p], 1)[0][0]), rel=1e-5)


def test_a_single_element_has_ratio_one() -> None:
    p = torch.zeros(1, requires_grad=True)
    p.grad = torch.full((1,), 3.0)
    SGDSaI([p], lr=0.1).step()
    assert p.item() == pytest.approx(-0.3)  # the reference: -lr * 3 * 3 / 1e-8


def test_equal_elements_are_bounded() -> None:
    p = torch.zeros(16, requires_grad=True)
    p.grad = torch.ones(16)
    optimizer = SGDSaI([p], lr=0.1)
    optimizer.step()
    assert optimizer.state[p]["ratio"].item() == 40.0  # 10 sqrt(16), where the reference has 4e8
    q = torch.zeros(16, requires_grad=True)
    q.grad = torch.ones(16)
    plain = SGDSaI([q], max_ratio=None)
    plain.step()
    assert plain.state[q]["ratio"].item() == pytest.approx(4e8)


@pytest.mark.parametrize("first", [0.0, float("nan"), float("inf")])
def test_ratio_waits_for_a_gradient_that_says_something(first: float) -> None:
    (p,) = parameters([(4, 5)])
    fresh = (p.detach() * (1 - 1e-4) ** 2).requires_grad_()
    optimizer = SGDSaI([p])
    for _ in range(2):
        p.grad = torch.full_like(p, first)
        optimizer.step()
    grads = gradients([p], 5)
    run(optimizer, [p], grads)
    run(SGDSaI([fresh]), [fresh], grads)
    assert torch.allclose(p, fresh, rtol=1e-12)


def test_a_late_first_gradient_is_measured_then() -> None:
    early, late = parameters([(4,), (5,)])
    optimizer = SGDSaI([early, late])
    early.grad = torch.randn_like(early)
    optimizer.step()
    late.grad = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0], dtype=torch.float64)
    optimizer.step()
    assert optimizer.state[late]["ratio"].item() == pytest.approx(ratio(late.grad))


def test_ratio_is_kept_for_ever_and_through_a_checkpoint() -> None:
    (p,) = parameters([(4, 5)])
    grads = gradients([p], 3)
    optimizer = SGDSaI([p])
    run(optimizer, [p], grads[:1])
    kept = optimizer.state[p]["ratio"].item()
    other = SGDSaI([p])
    other.load_state_dict(optimizer.state_dict())
    run(other, [p], grads[1:])
    assert other.state[p]["ratio"].item() == kept == pytest.approx(ratio(grads[0][0]))


def test_the_closure_runs_once() -> None:
    (p,) = parameters([(3,)])
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        p.grad = torch.ones_like(p) * torch.arange(3)
        return p.sum()

    SGDSaI([p]).step(closure)
    assert calls == 1


def test_half_precision_measures_and_averages_in_float32() -> None:
    p = torch.ones(40, dtype=torch.bfloat16, requires_grad=True)
    q = torch.ones(40, requires_grad=True)
    grads = [[g.bfloat16() for g in step] for step in gradients([p], 10)]
    narrow, wide = SGDSaI([p]), SGDSaI([q])
    run(narrow, [p], grads)
    run(wide, [q], [[g.float() for g in step] for step in grads])
    assert narrow.state[p]["ratio"].dtype == torch.float32
    assert torch.equal(narrow.state[p]["ratio"], wide.state[q]["ratio"])
    assert torch.equal(narrow.state[p]["momentum_buffer"], wide.state[q]["momentum_buffer"])


def test_state_dtype_halves_the_buffer() -> None:
    (p,) = parameters([(4, 5)], torch.float32)
    optimizer = SGDSaI([p], state_dtype=torch.bfloat16)
    run(optimizer, [p], gradients([p], 3))
    assert optimizer.state[p]["momentum_buffer"].dtype == torch.bfloat16


def test_without_momentum_there_is_no_buffer() -> None:
    (p,) = parameters([(4, 5)])
    optimizer = SGDSaI([p], momentum=0.0)
    run(optimizer, [p], gradients([p], 2))
    assert "momentum_buffer" not in optimizer.state[p]


def test_momentum_can_be_switched_on_later() -> None:
    (p,) = parameters([(4, 5)])
    optimizer = SGDSaI([p], momentum=0.0)
    grads = gradients([p], 2)
    run(optimizer, [p], grads[:1])
    optimizer.param_groups[0]["momentum"] = 0.9
    run(optimizer, [p], grads[1:])
    assert torch.allclose(optimizer.state[p]["momentum_buffer"], grads[1][0])


def test_a_regression_with_one_output_bias_converges() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    x = torch.randn(64, 4)
    y = x.sum(1, keepdim=True).sin()
    optimizer = SGDSaI(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    "bad",
    [{"lr": -1.0}, {"momentum": 1.0}, {"eps": -1.0}, {"weight_decay": -1.0}, {"max_ratio": 0.5}],
    ids=str,
)
def test_bad_hyperparameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SGDSaI([torch.zeros(1)], **bad)


def test_a_checkpoint_holds_tensors_only() -> None:
    # A flag beside them breaks torch's distributed checkpoint.
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.arange(3.0)
    optimizer = SGDSaI([p])
    optimizer.step()
    saved = optimizer.state_dict()["state"][0]
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    assert set(saved) == {"ratio", "momentum_buffer"}
