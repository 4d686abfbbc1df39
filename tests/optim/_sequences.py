"""Fixed sequences of gradients, and what happens in the middle of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

STEPS = 100
Shapes = tuple[tuple[int, ...], ...]
SHAPES: Shapes = ((), (3,), (4, 5), (2, 3, 2, 2))


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


@dataclass(frozen=True)
class Course:
    """What befalls an optimizer, step by step."""

    grads: list[list[Tensor | None]]
    rates: list[float] = field(default_factory=lambda: [1.0] * (STEPS + 1))
    """Each step's learning rate, as a factor of the first."""
    restart: int | None = None


def full(grads: list[list[Tensor]]) -> Course:
    """A gradient for every parameter at every step, and nothing else."""
    return Course([list(step) for step in grads])


def with_holes(grads: list[list[Tensor]], restart: int | None = None) -> Course:
    """Parameters that come late, that pause, a step without any gradient, and a rate that rises and falls."""

    def there(i: int, t: int) -> bool:
        return not (t == 50 or (i % 4 == 1 and t < 30) or (i % 4 == 3 and t % 7 == 3))

    steps = [[g if there(i, t) else None for i, g in enumerate(step)] for t, step in enumerate(grads)]
    rates = [min(1.0, (t + 1) / 10) * (1 - t / (2 * len(grads))) for t in range(len(grads) + 1)]
    return Course(steps, rates, restart)


def follow(optimizer: Any, params: Sequence[Tensor], course: Course) -> None:
    """Takes an optimizer through a course; the rates come from one of torch's schedulers."""
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: course.rates[t])
    for t, step in enumerate(course.grads):
        if t == course.restart:
            optimizer.restart()
        for p, g in zip(params, step, strict=True):
            p.grad = None if g is None else g.clone()
        optimizer.step()
        schedule.step()


def follow_naively(optimizer: Any, course: Course) -> list[list[float]]:
    """The same for one of the formulas of `_naive`; where its parameters end."""
    for t, step in enumerate(course.grads):
        if t == course.restart:
            optimizer.restart()
        optimizer.step([None if g is None else numbers([g])[0] for g in step], course.rates[t])
    params: list[list[float]] = optimizer.params
    return params


def numbers(tensors: Sequence[Tensor]) -> list[list[float]]:
    """The tensors' elements in order; complex ones as real and imaginary parts in turn."""
    plain = [t.detach() for t in tensors]
    plain = [torch.view_as_real(t) if t.is_complex() else t for t in plain]
    return [t.double().flatten().tolist() for t in plain]


def assert_close(params: Sequence[Tensor], expected: Sequence[Sequence[float]], relative: float) -> None:
    for p, e in zip(numbers(params), expected, strict=True):
        for x, y in zip(p, e, strict=True):
            assert math.isclose(x, y, rel_tol=relative, abs_tol=relative * 1e-2), (x, y)


def assert_equal_bfloat16(params: Sequence[Tensor], expected: Sequence[Sequence[float]]) -> None:
    """Equal but for the few elements that lay between two neighbours."""
    pairs = [
        (x, y) for p, e in zip(numbers(params), expected, strict=True) for x, y in zip(p, e, strict=True)
    ]
    assert all(math.isclose(x, y, rel_tol=2**-7, abs_tol=1e-3) for x, y in pairs), pairs
    assert sum(x != y for x, y in pairs) <= len(pairs) // 20, pairs
