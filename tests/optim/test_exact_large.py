"""Tensors that are larger than a block equal the formula, written with numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoopt.optim import AdaHessian, Adan, SGDSaI
from autoopt.optim._blocks import CPU_BLOCK
from tests.optim import _paths
from tests.optim._sequences import gradients, parameters, run

Options = dict[str, Any]
Array = NDArray[np.float64]

# The first is cut into a block and a rest, the small ones share a batch with the rest.
SHAPES = ((CPU_BLOCK + 4_097,), (11,), (9, 4, 7, 6), (5, 3))
STEPS = 3
TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6}


def arrays(tensors: list[Tensor]) -> list[Array]:
    return [t.detach().double().numpy().copy() for t in tensors]


def start(dtype: torch.dtype) -> tuple[list[Tensor], list[list[Tensor]]]:
    params = [p.detach() for p in parameters(SHAPES, dtype)]
    return params, gradients(params, STEPS)


def assert_equal(params: list[Tensor], expected: list[Array], dtype: torch.dtype) -> None:
    for p, e in zip(arrays(params), expected, strict=True):
        np.testing.assert_allclose(p, e, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


both_precisions = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@pytest.mark.parametrize("path", [*_paths.ADAN, *_paths.ADAN_TENSORS], ids=str)
@both_precisions
def test_adan(dtype: torch.dtype, path: Options) -> None:
    params, grads = start(dtype)
    b1, b2, b3, lr, eps, decay, limit = 0.98, 0.92, 0.99, 0.02, 1e-8, 0.3, 100.0
    expected = arrays(params)
    m, v, n = ([np.zeros_like(x) for x in expected] for _ in range(3))
    previous: list[Array] = []
    for t, step in enumerate(grads, 1):
        norm = np.sqrt(sum((g**2).sum() for g in arrays(step)))
        clipped = [g * min(1.0, limit / (norm + eps)) for g in arrays(step)]
        for i, g in enumerate(clipped):
            d = g - (previous or clipped)[i]
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * d
            n[i] = b3 * n[i] + (1 - b3) * (g + b2 * d) ** 2
            den = np.sqrt(n[i] / (1 - b3**t)) + eps
            move = lr * (m[i] / (1 - b1**t) + b2 * v[i] / (1 - b2**t)) / den
            expected[i] = (expected[i] - move) / (1 + lr * decay)
        previous = clipped
    run(Adan(params, lr=lr, weight_decay=decay, max_grad_norm=limit, **path), params, grads)
    assert_equal(params, expected, dtype)


@pytest.mark.parametrize("path", [*_paths.SGD_SAI, *_paths.SGD_SAI_TENSORS], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@both_precisions
def test_sgd_sai(dtype: torch.dtype, momentum: float, path: Options) -> None:
    params, grads = start(dtype)
    lr, eps, decay = 1e-3, 1e-8, 0.3
    expected, m = arrays(params), arrays(grads[0])
    ratios = [np.linalg.norm(g) / (g.std(ddof=1) + eps) for g in m]
    for step in grads:
        for i, g in enumerate(arrays(step)):
            m[i] = momentum * m[i] + (1 - momentum) * g
            expected[i] = expected[i] * (1 - lr * decay) - lr * ratios[i] * m[i]
    run(SGDSaI(params, lr=lr, momentum=momentum, weight_decay=decay, **path), params, grads)
    assert_equal(params, expected, dtype)


@pytest.mark.parametrize("path", _paths.ADAHESSIAN, ids=str)
@both_precisions
def test_adahessian(dtype: torch.dtype, path: Options) -> None:
    """On sum c x + a x^2 / 2, whose curvature is a, averaged over the kernels of the 4-dimensional tensor."""
    params, grads = start(dtype)
    curvature = [x.abs() + 0.5 for x in gradients(params, 1, seed=5)[0]]
    b1, b2, lr, eps, decay = 0.9, 0.999, 0.15, 1e-4, 0.3
    a, expected = arrays(curvature), arrays(params)
    d = [x if x.ndim < 3 else np.broadcast_to(x.mean((2, 3), keepdims=True), x.shape) for x in a]
    m, h = ([np.zeros_like(x) for x in expected] for _ in range(2))
    for t, step in enumerate(grads, 1):
        for i, c in enumerate(arrays(step)):
            m[i] = b1 * m[i] + (1 - b1) * (c + a[i] * expected[i])
            h[i] = b2 * h[i] + (1 - b2) * d[i] ** 2
            den = np.sqrt(h[i] / (1 - b2**t)) + eps
            expected[i] = expected[i] - lr * (m[i] / (1 - b1**t) / den + decay * expected[i])
    leaves = [p.requires_grad_() for p in params]
    optimizer = AdaHessian(leaves, weight_decay=decay, **path)
    for step in grads:

        def loss(step: list[Tensor] = step) -> Tensor:
            terms = zip(leaves, step, curvature, strict=True)
            return torch.stack([(c * p + a * p.square() / 2).sum() for p, c, a in terms]).sum()

        optimizer.step(loss)
    assert_equal(params, expected, dtype)
