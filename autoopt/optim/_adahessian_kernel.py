"""AdaHessian's arithmetic on batches of tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from autoopt.optim._base import host
from autoopt.optim._blocks import Row, compute_dtype

# torch's fused AdamW is called at a step so late that its own bias corrections are 1, with a first moment that
# does not move: the largest double below 1 as its beta.
_LATE = 1e30
_STILL = 1 - 2.0**-53


def can_be_fast(tensors: tuple[Tensor, ...], power: float) -> bool:
    """Whether torch's fused kernel takes these: float32 arithmetic on a CPU, one memory order, k = 1."""
    first = tensors[0]
    if power != 1 or first.device.type != "cpu" or compute_dtype(first.dtype) != torch.float32:
        return False
    return all([t.is_contiguous() for t in tensors])


class AdaHessianKernel:
    """AdaHessian on a batch of (p, g, m, h, D), with scale 0 where D is known to have no zeros."""

    def __init__(self, group: dict[str, Any], t: float, clip: float | Tensor | None, fast: bool) -> None:
        self.b1, self.b2 = (host(b) for b in group["betas"])
        lr = host(group["lr"])
        self.eps = group["eps"]
        self.power = group["hessian_power"]
        self.bound = group["bound_step"]
        self.clip = clip
        self.maximize = group["maximize"]
        self.step = lr / (1 - self.b1**t)
        self.root = math.sqrt(1 - self.b2**t)
        self.keep = 1 - lr * group["weight_decay"]
        self.fast = fast
        self._late = [torch.tensor(_LATE)] if fast else []
        self._buffer: Tensor | None = None

    def __call__(self, batch: list[Row]) -> None:
        p, g, m, h, d = (list(column) for column in zip(*(row.tensors for row in batch), strict=True))
        if self.maximize:
            g = list(torch._foreach_neg(g))
        if self.clip is not None:
            g = list(torch._foreach_mul(g, self.clip))
        if self.bound:
            d = [
                torch.where(x == 0, y.abs(), x) if row.scale else x
                for x, y, row in zip(d, g, batch, strict=True)
            ]
        if self.fast:
            self._fast(p, g, m, h, d)
        else:
            self._many(p, g, m, h, d)

    def _many(
        self, p: list[Tensor], g: list[Tensor], m: list[Tensor], h: list[Tensor], d: list[Tensor]
    ) -> None:
        torch._foreach_mul_(m, self.b1)
        torch._foreach_add_(m, g, alpha=1 - self.b1)
        torch._foreach_mul_(h, self.b2)
        torch._foreach_addcmul_(h, d, d, value=1 - self.b2)
        denominator = list(torch._foreach_sqrt(h))
        torch._foreach_div_(denominator, self.root)
        if self.power != 1:
            torch._foreach_pow_(denominator, self.power)
        torch._foreach_add_(denominator, self.eps)
        if self.keep != 1:
            torch._foreach_mul_(p, self.keep)
        torch._foreach_addcdiv_(p, m, denominator, value=-self.step)

    def _fast(
        self, p: list[Tensor], g: list[Tensor], m: list[Tensor], h: list[Tensor], d: list[Tensor]
    ) -> None:
        """The same with h and p done by torch's fused AdamW, which is given D as the gradient.

        Its first moment w is a copy of m: D enters it with a weight of 2^-53, which changes a parameter by at
        most lr * 1e-14 (h is at least (1 - b2) D^2), a rounding unless the parameter is below 1e-7. Its two
        bias corrections are 1; the root of the second is multiplied out of the denominator.
        """
        if len(m) == 1:
            w = [torch.lerp(m[0], g[0], 1 - self.b1, out=self._scratch(m[0]))]
        else:
            w = list(torch._foreach_lerp(m, g, 1 - self.b1))
        torch._foreach_copy_(m, w)
        if self.keep != 1:
            torch._foreach_mul_(p, self.keep)
        torch._fused_adamw_(
            p,
            d,
            w,
            h,
            [],
            self._late * len(p),
            lr=self.step * self.root,
            beta1=_STILL,
            beta2=self.b2,
            weight_decay=0.0,
            eps=self.eps * self.root,
            amsgrad=False,
            maximize=False,
        )

    def _scratch(self, like: Tensor) -> Tensor:
        """A buffer of a shape, kept from block to block: fresh memory of this size would be mapped anew."""
        if self._buffer is None or self._buffer.numel() < like.numel():
            self._buffer = torch.empty(like.numel(), dtype=like.dtype)
        return self._buffer[: like.numel()].view(like.shape)
