"""No step of ours makes a full-size temporary: its tensors are at most one block of the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autoopt.optim import _blocks
from autoopt.optim.adahessian import AdaHessian
from autoopt.optim.adan import Adan
from autoopt.optim.sgd_sai import SGDSaI

BLOCK = 1 << 10
SHAPES = ((64, 100), (3000,), (8, 8, 3, 3), (5,), (7,))
"""Larger than a block by a half, several times larger, and some that share one."""


class Largest(TorchDispatchMode):
    """The most elements that one operation put into memory of its own."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.known = {t.untyped_storage().data_ptr() for t in known}
        self.elements, self.operation = 0, ""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = {
            t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)
        }
        for t in tree_leaves(result):
            if not isinstance(t, Tensor):
                continue
            storage = t.untyped_storage()
            if storage.data_ptr() in inputs | self.known:
                continue
            elements = storage.nbytes() // t.element_size()
            if elements > self.elements:
                self.elements, self.operation = elements, str(func)
        return result


def largest_of_a_step(make: Callable[[list[Tensor]], torch.optim.Optimizer], dtype: torch.dtype) -> Largest:
    """That of a step when the state exists already."""
    torch.manual_seed(0)
    params = [torch.randn(shape).to(dtype).requires_grad_() for shape in SHAPES]
    optimizer = make(params)

    def gradients() -> None:
        for p in params:
            p.grad = torch.randn_like(p)

    for _ in range(2):
        gradients()
        optimizer.step()
    gradients()
    known = [*params, *(p.grad for p in params if p.grad is not None)]
    known += [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    with Largest(known) as watch:
        optimizer.step()
    return watch


def curved(params: list[Tensor], **options: Any) -> AdaHessian:
    """One that refreshes D at its first step only, from gradients with a graph."""
    optimizer = AdaHessian(params, update_each=1000, **options)
    plain = optimizer.step

    def step(*_: Any) -> Any:
        if optimizer.hessian_due:
            return plain(lambda: torch.stack([(p.float() ** 4).sum() for p in params]).sum())
        return plain()

    optimizer.step = step  # type: ignore[method-assign]
    return optimizer


MAKERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adan": Adan,
    "SGDSaI": SGDSaI,
    "AdaHessian": curved,
}
DECAY, CLIP, BF16 = {"weight_decay": 0.01}, {"max_grad_norm": 0.1}, {"state_dtype": torch.bfloat16}
CASES = [
    *[(name, {}) for name in MAKERS],
    *[(name, DECAY) for name in MAKERS],
    *[(name, {"maximize": True}) for name in MAKERS],
    ("Adan", DECAY | CLIP),
    ("Adan", DECAY | CLIP | {"no_prox": True}),
    ("Adan", DECAY | BF16),
    ("Adan", DECAY | CLIP | BF16),
    ("SGDSaI", DECAY | BF16),
    ("SGDSaI", DECAY | {"momentum": 0.0}),
    ("SGDSaI", DECAY | {"normalize": True}),
    ("AdaHessian", DECAY | CLIP),
    ("AdaHessian", DECAY | CLIP | {"hessian_power": 0.5}),
    ("AdaHessian", {"bound_step": False}),
]


@pytest.fixture(autouse=True)
def small_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "CPU_BLOCK", BLOCK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{'-'.join(o) or 'plain'}" for n, o in CASES])
def test_no_temporary_is_larger_than_a_block(
    name: str, options: dict[str, Any], foreach: bool | None, dtype: torch.dtype
) -> None:
    found = largest_of_a_step(lambda params: MAKERS[name](params, foreach=foreach, **options), dtype)
    assert found.elements <= BLOCK, found.operation


def test_a_full_size_temporary_would_be_seen() -> None:
    found = largest_of_a_step(lambda params: torch.optim.AdamW(params, foreach=True), torch.float32)
    assert found.elements == 64 * 100
