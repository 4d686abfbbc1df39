"""Fixed sequences of gradients, and optimizers' formulas run one element at a time in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (4, 5), (2, 3, 2, 2))
STEPS = 100


def parameters(
    shapes: Sequence[tuple[int, ...]] = SHAPES, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]


def gradients(
    params: Sequence[Tensor], steps: int = STEPS, seed: int = 1, scale: float = 1.0
) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        [scale * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in params]
        for _ in range(steps)
    ]


def run(optimizer: Optimizer, params: Sequence[Tensor], grads: Sequence[Sequence[Tensor]]) -> None:
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g.clone()
        optimizer.step()


def numbers(tensors: Sequence[Tensor]) -> list[list[float]]:
    return [t.detach().double().flatten().tolist() for t in tensors]


def assert_close(params: Sequence[Tensor], expected: Sequence[Sequence[float]], relative: float) -> None:
    for p, e in zip(numbers(params), expected, strict=True):
        for x, y in zip(p, e, strict=True):
            assert math.isclose(x, y, rel_tol=relative, abs_tol=relative * 1e-2), (x, y)


Update = Callable[[float, float, dict[str, float], int], float]


def elementwise(
    params: Sequence[Tensor], grads: Sequence[Sequence[Tensor]], rule: Update
) -> list[list[float]]:
    """Runs `rule(p, g, state, t) -> p` for every element by itself."""
    result = []
    for i, start in enumerate(numbers(params)):
        values = []
        history = [numbers(step)[i] for step in grads]
        for j, x in enumerate(start):
            state: dict[str, float] = {}
            for t, step in enumerate(history, 1):
                x = rule(x, step[j], state, t)
            values.append(x)
        result.append(values)
    return result
