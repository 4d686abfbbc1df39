"""H z from two gradients: at the parameters, and at the parameters moved along a probe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from autoopt.optim._base import total_norm
from autoopt.optim._blocks import HALVES, real


def refuse_halves(params: Sequence[Tensor], module: nn.Module | None) -> None:
    """Raises RuntimeError where parameters are of half precision, or `module` computes with such copies."""
    for p in params:
        if p.dtype in HALVES:
            raise RuntimeError(
                f"AdaHessian by finite differences needs float32 parameters, not {p.dtype}: the "
                "perturbation would be rounded away. Keep them in float32 and compute under autocast."
            )
    if module is None:
        if any(isinstance(p, DTensor) for p in params):
            raise RuntimeError(
                "AdaHessian by finite differences needs module= where parameters are sharded: without the "
                "model it cannot see whether the passes round the perturbation away."
            )
        return
    for name, part in module.named_modules():
        dtype = _passes_dtype(part)
        if dtype in HALVES:
            raise RuntimeError(
                f"AdaHessian by finite differences needs passes in float32, but {name or 'the model'} casts "
                f"its parameters to {dtype}, which rounds the perturbation away. Leave param_dtype out of its "
                "mixed precision."
            )


def _passes_dtype(part: nn.Module) -> torch.dtype | None:
    """What FSDP or DistributedDataParallel casts the parameters to, if anything."""
    policy: Any = getattr(
        part, "mixed_precision", None
    )  # DistributedDataParallel's name, and the first FSDP's
    if isinstance(part, FSDPModule):
        wrapper: FSDPModule = part
        policy = wrapper._get_fsdp_state()._mp_policy
    dtype: torch.dtype | None = getattr(policy, "param_dtype", None)
    return dtype


@torch.no_grad()
def step_size(params: Sequence[Tensor], fraction: float) -> float | Tensor:
    """e: a fraction of the parameters' root mean square; a power of two, so that p + e z rounds less.

    A number on a CPU; on a device a 0-d tensor, because reading it would wait.
    """
    if not params:
        return fraction
    count = sum(p.numel() * (2 if p.is_complex() else 1) for p in params)
    if any(isinstance(p, DTensor) for p in params):
        norm = total_norm(params)
    else:
        norms = torch._foreach_norm([p.detach() for p in params])
        norm = torch.linalg.vector_norm(torch.stack([n.to(norms[0].device, norms[0].dtype) for n in norms]))
    rms = norm / max(count, 1) ** 0.5
    size = fraction * torch.where(rms > 0, rms, torch.ones_like(rms))
    size = torch.exp2(torch.log2(size).round())
    return float(size.item()) if size.device.type == "cpu" else size


class Displacement:
    """The parameters at p + e z, until they are put back to the bit."""

    def __init__(self, params: Sequence[Tensor]) -> None:
        self._params = [real(p.detach()) for p in params]
        self._kept = [p.clone() for p in self._params]

    @torch.no_grad()
    def apply(self, moves: Sequence[Tensor]) -> None:
        """Adds e z to each parameter."""
        if moves:
            torch._foreach_add_(self._params, [real(move) for move in moves])

    @torch.no_grad()
    def undo(self) -> None:
        """Copies back, because p + e z - e z is not p to the bit."""
        if self._params:
            torch._foreach_copy_(self._params, self._kept)


@torch.no_grad()
def quotients(
    now: Sequence[Tensor | None], before: Sequence[Tensor], moves: Sequence[Tensor], *, zero_noise: bool
) -> list[Tensor]:
    """z * (H z), local and real: the gradients' difference over e z.

    Args:
        now: gradients at p + e z, overwritten; None counts as zero curvature.
        before: gradients at p.
        moves: e z.
        zero_noise: differences within the rounding of the gradient count as zero.
    """
    first = [real(g) for g in before]
    result = [g.clone() if n is None else real(n) for n, g in zip(now, first, strict=True)]
    if not result:
        return []
    torch._foreach_sub_(result, first)
    if zero_noise:
        _cut_noise(result, first)
    torch._foreach_div_(result, [real(move) for move in moves])  # z is its own inverse
    return result


def _cut_noise(differences: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    norms = torch._foreach_norm(list(gradients))
    for x, g, norm in zip(differences, gradients, norms, strict=True):
        # Each element of a gradient is rounded by itself, and in the sum that made it.
        level = g.abs().clamp_min_(norm / max(g.numel(), 1) ** 0.5)
        x.masked_fill_(x.abs() <= level.mul_(8 * torch.finfo(x.dtype).eps), 0.0)
