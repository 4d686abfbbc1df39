"""Adan equals its formula, element by element, for every combination of its options and on every path."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
from torch import Tensor

from autoopt.optim import Adan
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
    {"lr": 0.02, "weight_decay": decay, "no_prox": no_prox, "max_grad_norm": limit, "maximize": maximize}
    for decay, no_prox, limit, maximize in itertools.product(
        (0.0, 0.3), (False, True), (0.0, 1.0), (False, True)
    )
]
# What the second and the third group have of their own.
SECOND: Options = {"lr": 0.05, "betas": (0.8, 0.0, 0.9), "eps": 1e-3}
THIRD: Options = {"lr": 0.01, "weight_decay": 0.1, "max_grad_norm": 2.0, "no_prox": True}

SINGLE: list[Options] = [
    {},
    {"lr": 0.1, "betas": (0.9, 0.7, 0.95)},
    {"betas": (0.0, 0.0, 0.0), "eps": 1e-2},
    {"weight_decay": 0.3},
    {"weight_decay": 0.3, "no_prox": True, "maximize": True},
    {"max_grad_norm": 1.0, "eps": 0.5},
]


@functools.cache
def course(shapes: Shapes, eventful: bool) -> Course:
    grads = gradients(parameters(shapes))
    return with_holes(grads, restart=60) if eventful else full(grads)


def thirds(values: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    return values[0::3], values[1::3], values[2::3]


@functools.cache
def expected(shapes: Shapes, index: int) -> list[list[float]]:
    own = [COMBINATIONS[index] | other for other in ({}, SECOND, THIRD)]
    hypers = [own[i % 3] for i in range(len(shapes))]
    return follow_naively(_naive.Adan(numbers(parameters(shapes)), hypers), course(shapes, True))


def run_combination(shapes: Shapes, index: int, path: Options) -> list[Tensor]:
    params = [p.detach() for p in parameters(shapes)]
    groups = [
        {"params": members, **along(path, own)}
        for members, own in zip(thirds(params), ({}, SECOND, THIRD), strict=True)
    ]
    follow(Adan(groups, **along(path, COMBINATIONS[index])), params, course(shapes, True))
    return params


every_combination = pytest.mark.parametrize(
    "index", range(len(COMBINATIONS)), ids=[str(options) for options in COMBINATIONS]
)


@pytest.mark.parametrize("path", _paths.ADAN_FLOAT64, ids=str)
@every_combination
def test_every_combination_equals_the_formula(index: int, path: Options) -> None:
    """Three groups, parameters that come late or pause, a scheduled rate, a restart in the middle."""
    assert_close(run_combination(SHAPES, index, path), expected(SHAPES, index), 1e-12)


@pytest.mark.parametrize("path", _paths.ADAN_TENSORS, ids=str)
@every_combination
def test_every_combination_with_tensor_scalars_equals_the_formula(index: int, path: Options) -> None:
    assert_close(run_combination(FEW, index, path), expected(FEW, index), 1e-12)


@pytest.mark.parametrize("path", [*_paths.ADAN, *with_tensor_rates(_paths.ADAN_TENSORS)], ids=str)
@pytest.mark.parametrize("options", SINGLE, ids=str)
def test_every_option_alone_equals_the_formula(options: Options, path: Options) -> None:
    params = [p.detach() for p in parameters(FEW)]
    naive = _naive.Adan(numbers(params), [options] * len(FEW))
    follow(Adan(params, **along(path, options)), params, course(FEW, False))
    assert_close(params, follow_naively(naive, course(FEW, False)), 1e-12)
