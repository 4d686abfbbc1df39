"""Whatever mixture of shapes, memory layouts and precisions: each element moves as the formula says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoopt.optim import AdaHessian, Adan, SGDSaI
from tests.optim import _naive, _paths
from tests.optim._sequences import assert_close, assert_equal_bfloat16, numbers

Options = dict[str, Any]
Piece = tuple[tuple[int, ...], str, str]
"""A shape, and the layouts of parameter and gradient."""

LAYOUTS = ("contiguous", "transposed", "strided", "channels_last")
TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-12,
    torch.complex64: 1e-5,
    torch.complex128: 1e-12,
}
STEPS = 4

shapes = st.one_of(
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)),
)
pieces = st.lists(
    st.tuples(shapes, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS)), min_size=1, max_size=5
)
dtypes = st.sampled_from([*TOLERANCE, torch.bfloat16])
quickly = settings(max_examples=40, derandomize=True)


def laid_out(values: Tensor, layout: str) -> Tensor:
    """The same values in memory of another order."""
    if layout == "transposed":
        backwards = tuple(reversed(range(values.dim())))
        return values.permute(backwards).contiguous().permute(backwards)
    if layout == "strided" and values.dim():
        wide = torch.zeros(*values.shape[:-1], 2 * values.shape[-1], dtype=values.dtype)
        wide[..., ::2] = values
        return wide[..., ::2]
    if layout == "channels_last" and values.dim() == 4:
        return values.contiguous(memory_format=torch.channels_last)
    return values


def draw(some: list[Piece], dtype: torch.dtype, seed: int) -> tuple[list[Tensor], list[list[Tensor]]]:
    generator = torch.Generator().manual_seed(seed)
    params = [laid_out(torch.randn(s, generator=generator, dtype=dtype), own) for s, own, _ in some]
    grads = [
        [laid_out(torch.randn(s, generator=generator, dtype=dtype), of_grad) for s, _, of_grad in some]
        for _ in range(STEPS)
    ]
    return params, grads


def compare(
    make: Any, formula: Any, options: Options, path: Options, some: list[Piece], dtype: torch.dtype, seed: int
) -> None:
    if path.get("fused"):  # refuses parameters with gaps in their memory, by a clear error
        some = [(shape, own.replace("strided", "contiguous"), of_grad) for shape, own, of_grad in some]
    params, grads = draw(some, dtype, seed)
    store = _naive.to_bfloat16 if dtype == torch.bfloat16 else _naive.as_it_is
    naive = formula(numbers(params), [options] * len(params), store)
    optimizer = make(params, **options, **path)
    for step in grads:
        for p, g in zip(params, step, strict=True):
            p.grad = g
        optimizer.step()
        naive.step(numbers(step))
    if dtype == torch.bfloat16:
        assert_equal_bfloat16(params, naive.params)
    else:
        assert_close(params, naive.params, TOLERANCE[dtype])


@pytest.mark.parametrize("path", [*_paths.ADAN, *_paths.ADAN_TENSORS], ids=str)
@given(some=pieces, dtype=dtypes, seed=st.integers(0, 1000), limit=st.sampled_from([0.0, 1.0]))
@quickly
def test_adan(path: Options, some: list[Piece], dtype: torch.dtype, seed: int, limit: float) -> None:
    options = {"lr": 0.02, "weight_decay": 0.1, "max_grad_norm": limit}
    compare(Adan, _naive.Adan, options, path, some, dtype, seed)


@pytest.mark.parametrize("path", [*_paths.SGD_SAI, *_paths.SGD_SAI_TENSORS], ids=str)
@given(some=pieces, dtype=dtypes, seed=st.integers(0, 1000), momentum=st.sampled_from([0.0, 0.9]))
@quickly
def test_sgd_sai(path: Options, some: list[Piece], dtype: torch.dtype, seed: int, momentum: float) -> None:
    options = {"lr": 0.02, "weight_decay": 0.1, "momentum": momentum}
    compare(SGDSaI, _naive.SGDSaI, options, path, some, dtype, seed)


@pytest.mark.parametrize("path", _paths.ADAHESSIAN, ids=str)
@given(
    some=pieces,
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 1000),
    block=st.sampled_from([None, "row"]),
)
@quickly
def test_adahessian(
    path: Options, some: list[Piece], dtype: torch.dtype, seed: int, block: str | None
) -> None:
    """On sum c x + a x^2 / 2, whose gradient is c + a x and whose Hessian's diagonal is a."""
    params, grads = draw(some, dtype, seed)
    curvature = [1 + g.abs() for g in grads[0]]
    a = numbers(curvature)
    naive = _naive.AdaHessian(numbers(params), [{"block": block}] * len(some), [s for s, *_ in some])
    leaves = [p.requires_grad_() for p in params]
    optimizer = AdaHessian(leaves, block=block, **path)
    for step in grads:

        def loss(step: list[Tensor] = step) -> Tensor:
            terms = zip(leaves, step, curvature, strict=True)
            return torch.stack([(c * p + a * p.square() / 2).sum() for p, c, a in terms]).sum()

        optimizer.step(loss)
        gradient = [
            [c[j] + a[i][j] * naive.params[i][j] for j in range(len(c))] for i, c in enumerate(numbers(step))
        ]
        ones = [[1.0] * len(x) for x in a]  # z times H z is the same for all probes
        naive.step(gradient, lambda ones=ones: (ones, a))
    assert_close(leaves, naive.params, TOLERANCE[dtype])
