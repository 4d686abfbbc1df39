"""Double, single, half and complex parameters: right, or refused clearly before anything moves."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.optim._sequences import gradients, parameters
from tests.optim.conformance.cases import SHAPES, Case, close, copies, finite, same
from tests.optim.conformance.deviations import conforms, demand

CAUTIOUS = ("prodigy",)
"""Its first steps are smaller than half precision can show."""


def cast(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [t.detach().to(dtype) for t in tensors]


@conforms("precision of float32")
def test_float32_steps_as_float64_to_rounding(case: Case) -> None:
    compare(case, torch.float32, 2e-4)


@conforms("precision of bfloat16")
def test_bfloat16_steps_as_float64_to_rounding(case: Case) -> None:
    compare(case, torch.bfloat16, 0.1)


def compare(case: Case, dtype: torch.dtype, relative: float) -> None:
    """Compares parameters of a lower precision with float64 ones."""
    rough = [p.requires_grad_() for p in cast(parameters(SHAPES[2:]), dtype)]
    precise = [p.requires_grad_() for p in cast(rough, torch.float64)]
    grads = [cast(step, dtype) for step in gradients(rough, 6)]
    start = copies(rough)
    case.drive(case.make(rough), rough, grads)
    case.drive(case.make(precise), precise, [cast(step, torch.float64) for step in grads])
    demand(all(p.dtype == dtype for p in rough) and finite(rough), "parameters are no longer finite")
    demand(not same(rough, start) or case.name in CAUTIOUS, "nothing moved")
    demand(close(cast(rough, torch.float64), precise, relative), "the result differs by more than rounding")


@conforms("several precisions at once")
def test_parameters_of_different_dtypes_share_an_optimizer(case: Case) -> None:
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float32)
    mixed = [p.detach().to(d).requires_grad_() for p, d in zip(parameters(SHAPES), dtypes, strict=True)]
    start = copies(mixed)
    plain = gradients(parameters(SHAPES), 3)
    grads = [[g.to(p.dtype) for g, p in zip(step, mixed, strict=True)] for step in plain]
    case.drive(case.make(mixed, lr=0.1), mixed, grads)
    demand([p.dtype for p in mixed] == list(dtypes) and finite(mixed), "parameters are no longer finite")
    still = any(torch.equal(p, q) for p, q in zip(mixed, start, strict=True))
    demand(not still or case.name in CAUTIOUS, "one did not move")


@conforms("complex parameters")
def test_complex_parameters_move_as_pairs_of_real_ones(case: Case) -> None:
    z = torch.randn(4, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    grads = gradients([z], 5)
    one = [z.clone().requires_grad_()]
    two = [torch.view_as_real(z).clone().requires_grad_()]
    optimizer = case.make(one)
    try:
        case.drive(optimizer, one, grads)
    except (RuntimeError, TypeError, ValueError):
        demand(same(one, [z]), "the refused step moved something")
        raise
    pairs = {"block": 1} if case.second_order else {}  # else it averages over what looks like a kernel
    case.drive(case.make(two, **pairs), two, [[torch.view_as_real(g) for g in step] for step in grads])
    demand(close([torch.view_as_real(one[0].detach())], two, 1e-9), "it moves otherwise than pairs do")
