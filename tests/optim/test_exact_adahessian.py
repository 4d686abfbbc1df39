"""AdaHessian equals its formula, element by element, for every combination of its options.

The loss is a quartic whose gradient and Hessian are written down here, so that the formula needs no autograd.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from autoopt.optim import AdaHessian
from tests.optim import _naive, _paths
from tests.optim._naive import Numbers
from tests.optim._paths import TENSOR_RATE, along
from tests.optim._sequences import (
    STEPS,
    Shapes,
    assert_close,
    assert_equal_bfloat16,
    gradients,
    numbers,
    parameters,
)

Options = dict[str, Any]
Mask = list[bool]


class Quartic:
    """sign * (1/2 x'Ax + 1/4 sum b x^4 + c_t'x) over all elements x, with c_t drawn anew at every step.

    A couples each element with its 3 neighbours on either side, in the next parameters too. Every
    seventh parameter enters linearly, so that it has no curvature at all.
    """

    def __init__(self, shapes: Shapes, sign: float = 1.0) -> None:
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes]
        generator = torch.Generator().manual_seed(3)
        count = sum(self.sizes)
        coupling = torch.randn(count, count, generator=generator, dtype=torch.float64)
        coupling = (coupling + coupling.T).triu(-3).tril(3)
        self.a = torch.eye(count, dtype=torch.float64) * 2 + 0.2 * coupling
        self.b = torch.rand(count, generator=generator, dtype=torch.float64)
        self.owner = [i for i, size in enumerate(self.sizes) for _ in range(size)]
        linear = torch.tensor([i % 7 == 6 for i in self.owner])
        self.a[linear] = 0
        self.a[:, linear] = 0
        self.b[linear] = 0
        self.a, self.b = self.a * sign, self.b * sign
        self.c = torch.randn(STEPS, count, generator=generator, dtype=torch.float64)
        self.rows = [[(k, x) for k, x in enumerate(row) if x] for row in self.a.tolist()]
        self.b_list, self.c_list = self.b.tolist(), self.c.tolist()

    def loss(self, params: list[Tensor], there: Mask, t: int) -> Tensor:
        plain = [torch.view_as_real(p) if p.is_complex() else p for p in params]
        x = torch.cat([p.reshape(-1) for p, present in zip(plain, there, strict=True) if present]).double()
        keep = torch.tensor([there[i] for i in self.owner])
        a, b, c = self.a[keep][:, keep], self.b[keep], self.c[t][keep]
        return x.dot(a.mv(x) / 2 + c) + (b * x**4).sum() / 4

    def gradient(self, params: list[Numbers], there: Mask, t: int) -> list[Numbers | None]:
        """A x + b x^3 + c, for the parameters that are there."""
        x = [number for p in params for number in p]
        b, c = self.b_list, self.c_list[t]
        ax = self._times(x, there)
        return self._split([ax[k] + b[k] * x[k] ** 3 + c[k] for k in range(len(x))], there)

    def product(self, params: list[Numbers], there: Mask, z: list[Numbers]) -> list[Numbers | None]:
        """(A + 3 b x^2) z, for the parameters that are there."""
        x, probe = [number for p in params for number in p], [sign for signs in z for sign in signs]
        az, b = self._times(probe, there), self.b_list
        return self._split([az[k] + 3 * b[k] * x[k] ** 2 * probe[k] for k in range(len(x))], there)

    def _times(self, x: Numbers, there: Mask) -> Numbers:
        present = [there[i] for i in self.owner]
        return [sum(a * x[k] for k, a in row if present[k]) for row in self.rows]

    def _split(self, flat: Numbers, there: Mask) -> list[Numbers | None]:
        ends = list(itertools.accumulate(self.sizes, initial=0))
        return [flat[ends[i] : ends[i + 1]] if there[i] else None for i in range(len(self.sizes))]


def all_there(shapes: Shapes, t: int) -> Mask:
    return [True] * len(shapes)


def with_holes(shapes: Shapes, t: int) -> Mask:
    """Some come late, also between two refreshes, and some pause."""
    return [not ((i % 4 == 1 and t < 31) or (i % 4 == 3 and t % 7 == 3)) for i in range(len(shapes))]


def rate(t: int) -> float:
    return min(1.0, (t + 1) / 10) * (1 - t / (2 * STEPS))


def run(groups: list[Options], options: Options, eventful: bool, shapes: Shapes, sign: float) -> list[Tensor]:
    quartic = Quartic(shapes, sign)
    mask = with_holes if eventful else all_there
    params = [p for group in groups for p in group["params"]]
    optimizer = AdaHessian(groups, generator=torch.Generator().manual_seed(7), **options)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: rate(t) if eventful else 1.0)
    for t in range(STEPS):
        there = mask(shapes, t)
        optimizer.step(lambda there=there, t=t: quartic.loss(params, there, t))
        schedule.step()
    return params


def naively(
    hypers: list[Options],
    each: int,
    samples: int,
    eventful: bool,
    shapes: Shapes,
    sign: float,
    start: list[Numbers] | None = None,
) -> list[Numbers]:
    quartic = Quartic(shapes, sign)
    mask = with_holes if eventful else all_there
    generator = torch.Generator().manual_seed(7)
    naive = _naive.AdaHessian(start or numbers(parameters(shapes)), hypers, shapes, each, samples)
    for t in range(STEPS):
        there = mask(shapes, t)

        def sample(there: Mask = there) -> _naive.Sample:
            draws = [torch.randint(0, 2, shape, generator=generator) for shape in shapes]
            z = [[2 * bit - 1 for bit in bits] for bits in numbers(draws)]
            return z, quartic.product(naive.params, there, z)

        naive.step(quartic.gradient(naive.params, there, t), sample, rate(t) if eventful else 1.0)
    return naive.params


# Every combination of what a group may have of its own: 72 groups of one optimizer, with one tensor each.
POOL: Shapes = ((3,), (2, 3), (2, 1, 3), (1, 3, 2, 1), (1, 2, 1, 1, 3))
GROUPS: list[Options] = [
    {"weight_decay": decay, "hessian_power": power, "block": block, "bound_step": bound}
    | {"max_grad_norm": limit, "lr": 0.02}
    for decay, power, block, bound, limit in itertools.product(
        (0.0, 0.3), (1.0, 0.5, 0.0), (None, "row", 3), (True, False), (0.0, 5.0)
    )
]
GROUP_SHAPES: Shapes = tuple(POOL[i % len(POOL)] for i in range(len(GROUPS)))


@pytest.mark.parametrize(
    ("each", "samples", "maximize", "foreach"),
    [(1, 2, True, None), (3, 1, False, False)],
)
def test_every_combination_equals_the_formula(
    each: int, samples: int, maximize: bool, foreach: bool | None
) -> None:
    params = parameters(GROUP_SHAPES)
    groups = [{"params": [p], **own} for p, own in zip(params, GROUPS, strict=True)]
    options = {"update_each": each, "n_samples": samples, "maximize": maximize, "foreach": foreach}
    sign = -1.0 if maximize else 1.0
    run(groups, options, True, GROUP_SHAPES, sign)
    hypers = [{**group, "maximize": maximize} for group in GROUPS]
    assert_close(params, naively(hypers, each, samples, True, GROUP_SHAPES, sign), 1e-12)


SHAPES: Shapes = ((), (1,), (3,), (2, 3), (2, 1, 3), (1, 2, 2, 2), (2,), (1, 2, 1, 1, 3))
SINGLE: list[Options] = [
    {},
    {"betas": (0.8, 0.95), "eps": 1e-2, "lr": 0.05},
    {"betas": (0.0, 0.0), "n_samples": 3},
    {"weight_decay": 0.3, "block": "row", "update_each": 4},
    {"hessian_power": 0.5, "bound_step": False, "max_grad_norm": 2.0},
    {"hessian_power": 0.0, "block": 1, "maximize": True},
]


@pytest.mark.parametrize("path", [*_paths.ADAHESSIAN, {TENSOR_RATE: True}], ids=str)
@pytest.mark.parametrize("options", SINGLE, ids=str)
def test_every_rank_equals_the_formula(options: Options, path: Options) -> None:
    options = {"lr": 0.02, **options}
    sign = -1.0 if options.get("maximize") else 1.0
    params = run([{"params": parameters(SHAPES)}], along(path, options), False, SHAPES, sign)
    each, samples = options.get("update_each", 1), options.get("n_samples", 1)
    hypers = [options] * len(SHAPES)
    assert_close(params, naively(hypers, each, samples, False, SHAPES, sign), 1e-12)


def test_complex_parameters_are_pairs_of_real_ones() -> None:
    shapes: Shapes = ((), (3,), (2, 3))
    params = parameters(shapes, torch.complex128)
    pairs: Shapes = tuple((2 * math.prod(shape),) for shape in shapes)
    start = numbers(params)
    run([{"params": params}], {"lr": 0.02}, False, pairs, 1.0)
    assert_close(params, naively([{"lr": 0.02}] * 3, 1, 1, False, pairs, 1.0, start), 1e-12)


@pytest.mark.parametrize("options", SINGLE, ids=str)
def test_float32_equals_the_formula_to_its_rounding(options: Options) -> None:
    options = {"lr": 0.02, **options}
    sign = -1.0 if options.get("maximize") else 1.0
    params = parameters(
        SHAPES, torch.float32
    )  # some end close to 0, where rounding is relative to the way there
    start = numbers(params)
    run([{"params": params}], options, False, SHAPES, sign)
    each, samples = options.get("update_each", 1), options.get("n_samples", 1)
    assert_close(params, naively([options] * len(SHAPES), each, samples, False, SHAPES, sign, start), 1e-4)


def test_bfloat16_parameters_are_rounded_once_a_step() -> None:
    """On a loss without curvature, whose gradient is exact; the denominator is then the gradient's own."""
    shapes: Shapes = ((), (3,), (4, 5), (2, 3, 2, 2))
    params = parameters(shapes, torch.bfloat16)
    grads = gradients(params, 20)
    none = [[0.0] * p.numel() for p in params]
    naive = _naive.AdaHessian(numbers(params), [{"weight_decay": 0.1}] * 4, shapes, store=_naive.to_bfloat16)
    optimizer = AdaHessian(params, weight_decay=0.1)
    for step in grads:
        pairs = list(zip(params, step, strict=True))
        optimizer.step(lambda pairs=pairs: torch.stack([(p * g).sum() for p, g in pairs]).sum())
        naive.step(numbers(step), lambda: (none, none))
    state = [optimizer.state[p]["exp_hessian_diag_sq"] for p in params]
    assert all(h.dtype == torch.float32 for h in state)
    assert_close(state, naive.h, 2e-6)
    assert_equal_bfloat16(params, naive.params)
