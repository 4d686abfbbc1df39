"""Adan and SGD-SaI equal their formulas in every precision and for complex numbers, on every path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autoopt.optim import Adan, SGDSaI
from tests.optim import _naive, _paths
from tests.optim._sequences import (
    Course,
    Shapes,
    assert_close,
    assert_equal_bfloat16,
    follow,
    follow_naively,
    full,
    gradients,
    numbers,
    parameters,
    with_holes,
)

Options = dict[str, Any]
Case = tuple[Callable[..., Any], Callable[..., Any], Options, Options]
SHAPES: Shapes = ((), (1,), (3,), (4, 5), (2, 3, 2, 2))

ADAN: Options = {"lr": 0.02, "weight_decay": 0.1, "max_grad_norm": 3.0}
ADAN_NO_PROX: Options = {**ADAN, "no_prox": True, "maximize": True}
SAI: Options = {"lr": 0.01, "weight_decay": 0.1}
SAI_PLAIN: Options = {"lr": 0.01, "momentum": 0.0, "maximize": True}

every_case = pytest.mark.parametrize(
    ("make", "formula", "options", "path"),
    [
        *(
            (Adan, _naive.Adan, o, p)
            for o in (ADAN, ADAN_NO_PROX)
            for p in (*_paths.ADAN, *_paths.ADAN_TENSORS)
        ),
        *(
            (SGDSaI, _naive.SGDSaI, o, p)
            for o in (SAI, SAI_PLAIN)
            for p in (*_paths.SGD_SAI, *_paths.SGD_SAI_TENSORS)
        ),
    ],
)


_known: dict[Any, tuple[Any, Any]] = {}


def _naively(key: Any, naive: Any, grads: Course) -> tuple[Any, Any]:
    """Where the formula ends, and the formula: the same for all paths."""
    if key not in _known:
        _known[key] = (follow_naively(naive, grads), naive)
    return _known[key]


def go(case: Case, dtype: torch.dtype, course: Callable[[list[list[Tensor]]], Course], **more: Any) -> Any:
    """Where the optimizer and its formula end, and the optimizer."""
    make, formula, options, path = case
    params = [p.detach() for p in parameters(SHAPES, dtype)]
    grads = course(gradients(params))
    naive = formula(numbers(params), [options] * len(SHAPES), **more)
    optimizer = make(params, **options, **path)
    follow(optimizer, params, grads)
    key = (formula, str(options), dtype, course, str(more))
    expected, naive = _naively(key, naive, grads)
    return params, expected, optimizer, naive


@every_case
@pytest.mark.parametrize(
    ("dtype", "relative"),
    [(torch.float32, 2e-5), (torch.complex64, 2e-5), (torch.complex128, 1e-12)],
    ids=str,
)
def test_equals_the_formula_to_rounding(
    make: Any, formula: Any, options: Options, path: Options, dtype: torch.dtype, relative: float
) -> None:
    params, expected, *_ = go((make, formula, options, path), dtype, with_holes)
    assert_close(params, expected, relative)


@every_case
def test_bfloat16_parameters_are_rounded_once_a_step(
    make: Any, formula: Any, options: Options, path: Options
) -> None:
    """State and arithmetic are float32; only what is stored in the parameter is rounded."""
    case = (make, formula, options, path)
    params, expected, optimizer, naive = go(case, torch.bfloat16, full, store=_naive.to_bfloat16)
    assert_equal_bfloat16(params, expected)
    names = (
        {"m": "exp_avg", "v": "exp_avg_diff", "n": "exp_avg_sq"} if make is Adan else {"m": "momentum_buffer"}
    )
    if options.get("momentum") == 0:
        return
    for ours, theirs in names.items():
        state = [optimizer.state[p][theirs] for p in params]
        assert {s.dtype for s in state} == {torch.float32}
        assert_close(state, getattr(naive, ours), 2e-5)
