from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from autoopt.optim.adan import Adan
from tests.optim._sequences import SHAPES, gradients, parameters, run

OPTIONS: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.3, "lr": 0.02},
    {"weight_decay": 0.3, "lr": 0.02, "no_prox": True},
    {"max_grad_norm": 1.0},
    {"max_grad_norm": 1.0, "no_prox": True, "weight_decay": 0.1, "maximize": True},
    {"betas": (0.9, 0.8, 0.95), "eps": 1e-3},
]


def timm_adan() -> ModuleType:
    package = importlib.util.find_spec("timm")
    if package is None or package.origin is None:
        pytest.skip("timm is not installed")
    # timm's package imports torchvision; the file alone does not.
    path = Path(package.origin).parent / "optim" / "adan.py"
    spec = importlib.util.spec_from_file_location("timm_adan", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "no_prox": True}], ids=str
)
def test_equals_timm_bit_for_bit(dtype: torch.dtype, foreach: bool, options: dict[str, Any]) -> None:
    shapes = (*SHAPES, (400, 400))  # the last is cut into blocks
    ours, theirs = parameters(shapes, dtype), parameters(shapes, dtype)
    grads = gradients(ours, 30)
    run(Adan(ours, lr=0.01, foreach=foreach, **options), ours, grads)
    run(timm_adan().Adan(theirs, lr=0.01, foreach=foreach, **options), theirs, grads)
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_default_path_equals_the_formula_to_float32_rounding(options: dict[str, Any]) -> None:
    shapes = (*SHAPES, (400, 400))
    fast, plain = parameters(shapes, torch.float32), parameters(shapes, torch.float32)
    exact = [p.detach().double().requires_grad_() for p in fast]
    grads = gradients(fast, 50)
    run(Adan(fast, **options), fast, grads)
    run(Adan(plain, foreach=False, **options), plain, grads)
    run(Adan(exact, **options), exact, [[g.double() for g in step] for step in grads])
    for p, q, r in zip(fast, plain, exact, strict=True):
        # about as far from float64 as the reference's order of operations is
        assert (p - r).abs().max() < 3 * (q - r).abs().max() + 2e-7


def test_clipping_leaves_the_gradient_as_it_was() -> None:
    (p,) = parameters([(4, 5)])
    g = torch.full_like(p, 3.0)
    p.grad = g.clone()
    Adan([p], max_grad_norm=0.1).step()
    assert torch.equal(p.grad, g)


def test_clipping_takes_the_norm_of_all_groups() -> None:
    ours, reference = parameters([(3,), (4,)]), parameters([(3,), (4,)])
    grads = gradients(ours, 10)
    run(Adan([{"params": ours[:1]}, {"params": ours[1:]}], max_grad_norm=0.5), ours, grads)
    run(Adan(reference, max_grad_norm=0.5), reference, grads)
    assert all(torch.equal(p, q) for p, q in zip(ours, reference, strict=True))


def test_a_late_first_gradient_gets_a_whole_first_step() -> None:
    early, late = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = Adan([early, late], lr=1.0)
    for _ in range(20):
        early.grad = torch.ones(1)
        optimizer.step()
    late.grad = torch.ones(1)
    optimizer.step()
    # A first step is lr * sign(g); a step counter of the group would give 0.19 of it here.
    assert late.item() == pytest.approx(-1.0, rel=1e-5)


def test_first_difference_is_zero_even_when_it_comes_late() -> None:
    (p,) = parameters([(3,)])
    optimizer = Adan([p])
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert torch.count_nonzero(optimizer.state[p]["exp_avg_diff"]) == 0


def test_every_element_of_a_large_tensor_moves() -> None:
    p = torch.zeros(3 * 65536 + 17, requires_grad=True)
    p.grad = torch.ones_like(p)
    Adan([p], lr=1.0).step()
    assert torch.allclose(p, torch.full_like(p, -1.0))


@pytest.mark.parametrize("foreach", [None, False])
def test_restart_begins_anew(foreach: bool | None) -> None:
    (p,) = parameters([(3, 4)])
    grads = gradients([p], 12)
    optimizer = Adan([p], foreach=foreach)
    run(optimizer, [p], grads[:6])
    fresh = p.detach().clone().requires_grad_()
    optimizer.restart()
    run(optimizer, [p], grads[6:])
    run(Adan([fresh], foreach=foreach), [fresh], grads[6:])
    assert torch.equal(p, fresh)


def test_half_precision_keeps_its_state_in_float32() -> None:
    p = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    optimizer = Adan([p])
    run(optimizer, [p], gradients([p], 3))
    state = optimizer.state[p]
    assert {state[k].dtype for k in ("exp_avg", "exp_avg_diff", "exp_avg_sq", "prev_grad")} == {torch.float32}


def test_half_precision_computes_in_float32() -> None:
    exact = torch.linspace(-2, 2, 40).requires_grad_()
    rounded = exact.detach().bfloat16().requires_grad_()
    grads = [[g.bfloat16().float() for g in step] for step in gradients([exact], 50)]
    wide, narrow = Adan([exact], lr=0.01), Adan([rounded], lr=0.01)
    run(wide, [exact], grads)
    run(narrow, [rounded], [[g.bfloat16() for g in step] for step in grads])
    for key in ("exp_avg", "exp_avg_diff", "exp_avg_sq"):  # they depend on the gradients alone
        assert torch.equal(wide.state[exact][key], narrow.state[rounded][key])


def test_state_dtype_halves_the_state() -> None:
    (p,) = parameters([(64, 64)], torch.float32)
    exact = p.detach().clone().requires_grad_()
    grads = gradients([p], 30)
    optimizer = Adan([p], lr=1e-2, state_dtype=torch.bfloat16)
    run(optimizer, [p], grads)
    run(Adan([exact], lr=1e-2), [exact], grads)
    tensors = [t for t in optimizer.state[p].values() if t.dim()]
    assert sum(t.numel() * t.element_size() for t in tensors) == 4 * 2 * p.numel()
    assert (p - exact).abs().mean() < 0.1 * (exact - parameters([(64, 64)], torch.float32)[0]).abs().mean()


@pytest.mark.parametrize(
    "bad",
    [{"lr": -1.0}, {"eps": -1.0}, {"betas": (0.9, 0.9, 1.0)}, {"betas": (0.9, 0.9)}, {"weight_decay": -1.0}],
    ids=str,
)
def test_bad_hyperparameters_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Adan([torch.zeros(1)], **bad)
