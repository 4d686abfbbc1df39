"""SGD-SaI equals its formula, element by element, for every combination of its options and on every path."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from autoopt.optim import SGDSaI
from tests.optim import _naive, _paths
from tests.optim._paths import along, with_tensor_rates
from tests.optim._sequences import (
    Course,
    Shapes,
    assert_close,
    follow,
    follow_naively,
    full,
    gradients,
    numbers,
    parameters,
    with_holes,
)

Options = dict[str, Any]
SHAPES: Shapes = ((), (1,), (3,), (2, 3), (1, 2, 2, 2), (1, 2, 1, 1, 3))
FEW: Shapes = ((), (3,), (2, 1, 3))

COMBINATIONS: list[Options] = [
    {"lr": 0.02, "momentum": mu, "weight_decay": decay, "normalize": normalize, "max_ratio": bound}
    | {"maximize": maximize}
    for mu, decay, normalize, bound, maximize in itertools.product(
        (0.0, 0.9), (0.0, 0.3), (False, True), (None, 10.0), (False, True)
    )
]
# What the second and the third group have of their own.
SECOND: Options = {"lr": 0.05, "eps": 1e-3, "weight_decay": 0.1}
THIRD: Options = {"lr": 0.01, "momentum": 0.5, "max_ratio": 2.0}

SINGLE: list[Options] = [
    {},
    {"lr": 0.5, "normalize": True},
    {"momentum": 0.0, "maximize": True},
    {"weight_decay": 0.0, "max_ratio": 1.0},
    {"momentum": 0.5, "eps": 0.5, "max_ratio": None},
]


@functools.cache
def plain() -> Course:
    return full(gradients(parameters(FEW)))


@functools.cache
def eventful(shapes: Shapes) -> Course:
    """Beside late and pausing parameters: first gradients that say nothing, and one of equal elements."""
    grads = gradients(parameters(shapes))
    vector = next(i for i, shape in enumerate(shapes) if shape == (3,))
    last = len(shapes) - 1
    for t in range(3):
        grads[t][vector] = torch.zeros_like(grads[t][vector])
    grads[0][last] = torch.full_like(grads[0][last], float("nan"))
    grads[1][last] = grads[1][last].clone()
    grads[1][last].view(-1)[1] = float("inf")
    grads[2][last] = torch.full_like(grads[2][last], 2.0)
    return with_holes(grads)


def thirds(values: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    return values[0::3], values[1::3], values[2::3]


@functools.cache
def expected(shapes: Shapes, index: int) -> list[list[float]]:
    own = [COMBINATIONS[index] | other for other in ({}, SECOND, THIRD)]
    hypers = [own[i % 3] for i in range(len(shapes))]
    return follow_naively(_naive.SGDSaI(numbers(parameters(shapes)), hypers), eventful(shapes))


def run_combination(shapes: Shapes, index: int, path: Options) -> list[Tensor]:
    params = [p.detach() for p in parameters(shapes)]
    groups = [
        {"params": members, **along(path, own)}
        for members, own in zip(thirds(params), ({}, SECOND, THIRD), strict=True)
    ]
    follow(SGDSaI(groups, **along(path, COMBINATIONS[index])), params, eventful(shapes))
    return params


every_combination = pytest.mark.parametrize(
    "index", range(len(COMBINATIONS)), ids=[str(options) for options in COMBINATIONS]
)


@pytest.mark.parametrize("path", _paths.SGD_SAI_FLOAT64, ids=str)
@every_combination
def test_every_combination_equals_the_formula(index: int, path: Options) -> None:
    """Three groups, parameters that come late or pause, a scheduled rate, first gradients without a scale."""
    assert_close(run_combination(SHAPES, index, path), expected(SHAPES, index), 1e-12)


@pytest.mark.parametrize("path", _paths.SGD_SAI_TENSORS, ids=str)
@every_combination
def test_every_combination_with_tensor_scalars_equals_the_formula(index: int, path: Options) -> None:
    assert_close(run_combination(FEW, index, path), expected(FEW, index), 1e-12)


@pytest.mark.parametrize("path", [*_paths.SGD_SAI, *with_tensor_rates(_paths.SGD_SAI_TENSORS)], ids=str)
@pytest.mark.parametrize("options", SINGLE, ids=str)
def test_every_option_alone_equals_the_formula(options: Options, path: Options) -> None:
    params = [p.detach() for p in parameters(FEW)]
    naive = _naive.SGDSaI(numbers(params), [options] * len(FEW))
    follow(SGDSaI(params, **along(path, options)), params, plain())
    assert_close(params, follow_naively(naive, plain()), 1e-12)
