"""What torch expects of every optimizer, for ours."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from autoopt.optim import AdaHessian, Adan, SGDSaI
from tests.optim._sequences import gradients, parameters

Make = Callable[..., Any]
ALL: list[Make] = [Adan, SGDSaI, AdaHessian]
FIRST_ORDER: list[Make] = [Adan, SGDSaI]
SHAPES = ((), (3,), (4, 5), (2, 3, 2, 2))


def drive(optimizer: Any, params: list[Tensor], grads: list[list[Tensor]]) -> None:
    """Steps along given gradients; AdaHessian sees them through a loss with that gradient and curvature 2."""
    for step in grads:
        for p in params:
            p.grad = None
        if isinstance(optimizer, AdaHessian):
            fixed = [p.detach().clone() for p in params]
            step_of = list(zip(params, fixed, step, strict=True))

            def loss(step_of: list[tuple[Tensor, Tensor, Tensor]] = step_of) -> Tensor:
                terms = [(p * g.conj()).real.sum() + (p - q).abs().square().sum() for p, q, g in step_of]
                return torch.stack(terms).sum()

            optimizer.step(loss)
        else:
            for p, g in zip(params, step, strict=True):
                p.grad = g.clone()
            optimizer.step()


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(left, right, strict=True))


def twins(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
    return parameters(SHAPES, dtype), parameters(SHAPES, dtype)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_a_checkpoint_resumes_to_the_bit(make: Make, dtype: torch.dtype) -> None:
    one, two = twins(dtype)
    grads = gradients(one, 8)
    options: dict[str, Any] = {}
    if make is AdaHessian:
        options = {"update_each": 3, "generator": torch.Generator().manual_seed(4)}
    first = make(one, **options)
    drive(first, one, grads[:4])
    file = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "params": [p.detach() for p in one]}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    drive(first, one, grads[4:])
    with torch.no_grad():
        for p, q in zip(two, loaded["params"], strict=True):
            p.copy_(q)
    if make is AdaHessian:
        options["generator"] = torch.Generator().manual_seed(99)
    second = make(two, **options)
    second.load_state_dict(loaded["optimizer"])
    drive(second, two, grads[4:])
    assert same(one, two)
    for p, q in zip(one, two, strict=True):
        assert first.state[p].keys() == second.state[q].keys()
        for key, value in first.state[p].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(second.state[q][key])), key
            if isinstance(value, Tensor):
                assert value.dtype == second.state[q][key].dtype


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize(
    "how", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_a_copy_goes_on_as_the_original(make: Make, how: Callable[[Any], Any]) -> None:
    params = parameters(SHAPES)
    grads = gradients(params, 6)
    options = {"generator": torch.Generator().manual_seed(4)} if make is AdaHessian else {}
    optimizer = make(params, **options)
    drive(optimizer, params, grads[:3])
    twin, twin_params = how((optimizer, params))
    drive(optimizer, params, grads[3:])
    drive(twin, twin_params, grads[3:])
    assert same(params, twin_params)


@pytest.mark.parametrize("make", ALL)
def test_parameters_may_be_added_later(make: Make) -> None:
    one, two = parameters(SHAPES), parameters(SHAPES)
    grads = gradients(one, 4)
    optimizer = make(one[:2], lr=1e-3)
    drive(optimizer, one[:2], [g[:2] for g in grads[:2]])
    optimizer.add_param_group({"params": one[2:], "lr": 0.0, "weight_decay": 0.0})
    drive(optimizer, one, grads[2:])
    assert same(one[2:], two[2:])  # their own rate, 0
    optimizer.param_groups[1]["lr"] = 1e-2
    drive(optimizer, one, grads[:1])
    assert not same(one[2:], two[2:])


@pytest.mark.parametrize("make", ALL)
def test_groups_have_their_own_options(make: Make) -> None:
    one, two = twins()
    grads = gradients(one, 3)
    drive(make([{"params": one[:2]}, {"params": one[2:], "lr": 0.0, "weight_decay": 0.0}]), one, grads)
    assert not same(one[:2], two[:2])
    assert same(one[2:], two[2:])


@pytest.mark.parametrize("make", FIRST_ORDER)
def test_maximize_is_minimizing_the_negative(make: Make) -> None:
    one, two = twins()
    grads = gradients(one, 5)
    drive(make(one, maximize=True), one, grads)
    drive(make(two), two, [[-g for g in step] for step in grads])
    assert same(one, two)


def test_adahessian_maximizes() -> None:
    p = torch.tensor([1.0, 2.0], requires_grad=True)
    AdaHessian([p], maximize=True).step(lambda: (p**2).sum())
    assert (p.detach() > torch.tensor([1.0, 2.0])).all()


@pytest.mark.parametrize("make", ALL)
def test_a_tensor_rate_is_a_rate(make: Make) -> None:
    one, two = twins(torch.float64)
    grads = gradients(one, 5)
    options: list[dict[str, Any]] = [{}, {}]
    if make is AdaHessian:
        options = [{"generator": torch.Generator().manual_seed(4)} for _ in range(2)]
    drive(make(one, lr=0.01, **options[0]), one, grads)
    drive(make(two, lr=torch.tensor(0.01, dtype=torch.float64), **options[1]), two, grads)
    assert same(one, two)


@pytest.mark.parametrize("make", ALL)
def test_complex_parameters_move_as_pairs_of_real_ones(make: Make) -> None:
    z = torch.randn(4, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    grads = gradients([z], 5)
    one = [z.clone().requires_grad_()]
    two = [torch.view_as_real(z).clone().requires_grad_()]
    options: list[dict[str, Any]] = [{}, {}]
    if make is AdaHessian:
        options = [{"generator": torch.Generator().manual_seed(4), "block": b} for b in (None, 1)]
    drive(make(one, **options[0]), one, grads)
    drive(make(two, **options[1]), two, [[torch.view_as_real(g) for g in step] for step in grads])
    assert torch.allclose(torch.view_as_real(one[0].detach()), two[0].detach(), rtol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_sparse_gradients_are_refused_before_anything_moves(make: Make) -> None:
    dense = torch.ones(3, requires_grad=True)
    table = nn.Embedding(4, 2, sparse=True)
    before = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    dense.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        make([dense, table.weight]).step()
    assert torch.equal(dense, torch.ones(3))
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("make", ALL)
def test_layouts_need_not_agree(make: Make) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(140, 10, 12, 9, generator=generator)  # larger than a block
    one = [weight.clone().requires_grad_()]
    two = [weight.clone().to(memory_format=torch.channels_last).requires_grad_()]
    grads = gradients(one, 3)
    options: list[dict[str, Any]] = [{}, {}]
    if make is AdaHessian:
        options = [{"generator": torch.Generator().manual_seed(4)} for _ in range(2)]
    drive(make(one, **options[0]), one, grads)
    drive(make(two, **options[1]), two, grads)
    assert torch.allclose(one[0], two[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_hooks_run_around_a_step(make: Make) -> None:
    params = parameters(SHAPES)
    optimizer = make(params)
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append("before"))
    optimizer.register_step_post_hook(lambda *_: seen.append("after"))
    drive(optimizer, params, gradients(params, 2))
    assert seen == ["before", "after"] * 2


@pytest.mark.parametrize("make", FIRST_ORDER)
def test_grad_scaler_gives_the_unscaled_step(make: Make) -> None:
    one, two = twins()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plain, scaled = make(one), make(two)
    for _ in range(3):
        for optimizer, params in ((plain, one), (scaled, two)):
            optimizer.zero_grad()
            loss = torch.stack([(p**2).sum() for p in params]).sum()
            torch.autograd.backward(scaler.scale(loss) if params is two else loss)
        plain.step()
        scaler.step(scaled)
        scaler.update()
    assert same(one, two)


@pytest.mark.parametrize(
    "make", [Adan, partial(Adan, no_prox=True, weight_decay=0.1, max_grad_norm=1.0), SGDSaI]
)
def test_autograd_runs_through_a_differentiable_step(make: Make) -> None:
    start = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    grads = gradients([start], 3)

    def end(rate: Tensor) -> Tensor:
        p = start.clone()
        optimizer = make([p], lr=rate, differentiable=True)
        for (g,) in grads:
            p.grad = g
            optimizer.step()
        return p

    assert torch.autograd.gradcheck(end, (torch.tensor(0.1, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("make", FIRST_ORDER)
def test_a_compiled_step_agrees_and_is_compiled_once(make: Make) -> None:
    torch._dynamo.reset()
    one, two = twins()
    grads = gradients(one, 8)
    eager, traced = make(one), make(two)
    counter = CompileCounter()
    step: Any = torch.compile(traced.step, backend=counter)
    for i, values in enumerate(grads):
        for p, q, g in zip(one, two, values, strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        eager.step()
        step()
        if i == 2:
            warm = counter.frame_count
    assert counter.frame_count == warm
    assert counter.op_count > 0
    for p, q in zip(one, two, strict=True):
        assert torch.allclose(p, q, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", ALL)
def test_schedules_drive_the_rate(make: Make) -> None:
    params = parameters(SHAPES)
    optimizer = make(params, lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    drive(optimizer, params, gradients(params, 1))
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.5
