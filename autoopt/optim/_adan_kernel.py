"""Adan's arithmetic on batches of tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from autoopt.optim._base import host
from autoopt.optim._blocks import Row, compute_dtype

# Below float32's rounding (6e-8), and large enough that 1 - (1 - _TINY)^t has 7 digits in double.
_TINY = 2.0**-30


def can_be_fast(tensors: tuple[Tensor, ...]) -> bool:
    """Whether torch's fused kernel takes these: float32 arithmetic on a CPU, one memory order."""
    first = tensors[0]
    single = first.device.type == "cpu" and compute_dtype(first.dtype) == torch.float32
    return single and all(t.is_contiguous() for t in tensors)


class AdanKernel:
    """Adan on a batch of (p, g, m, v, n, previous g), with the last as scratch.

    The order of operations (of all but `_fast`) is the reference's, for equal bits: m's term before v's,
    sqrt(n) / sqrt(1 - b3^t) as a division, lr * b2 / (1 - b2^t) as one scalar.
    """

    def __init__(
        self, group: dict[str, Any], t: float, first: bool, clip: float | Tensor | None, fast: bool
    ) -> None:
        self.b1, self.b2, self.b3 = (host(b) for b in group["betas"])
        self.lr = lr = host(group["lr"])
        self.eps = group["eps"]
        self.no_prox = group["no_prox"]
        self.first = first
        self.clip = clip
        self.maximize = group["maximize"]
        self.step_m = lr / (1.0 - self.b1**t)
        self.step_v = lr * self.b2 / (1.0 - self.b2**t)
        self.root = math.sqrt(1.0 - self.b3**t)
        self.decay = lr * group["weight_decay"]
        self.fast = fast
        self.t = torch.tensor(float(t))
        self._buffer: Tensor | None = None

    def __call__(self, batch: list[Row]) -> None:
        if len(batch) == 1 and not self.fast:
            self._one(*batch[0].tensors)
            return
        columns = [list(column) for column in zip(*(row.tensors for row in batch), strict=True)]
        if self.fast:
            self._fast(*columns)
        else:
            self._many(*columns)

    def _one(self, p: Tensor, g: Tensor, m: Tensor, v: Tensor, n: Tensor, prev: Tensor) -> None:
        if self.maximize:
            g = -g
        if self.clip is not None:
            g = g * self.clip
        d = prev.zero_() if self.first else torch.sub(g, prev, out=prev)
        m.mul_(self.b1).add_(g, alpha=1 - self.b1)
        v.mul_(self.b2).add_(d, alpha=1 - self.b2)
        u = d.mul_(self.b2).add_(g)
        n.mul_(self.b3).addcmul_(u, u, value=1 - self.b3)
        denominator = torch.sqrt(n, out=prev).div_(self.root).add_(self.eps)
        if self.no_prox:
            p.mul_(1 - self.decay)
        p.addcdiv_(m, denominator, value=-self.step_m)
        p.addcdiv_(v, denominator, value=-self.step_v)
        if self.decay and not self.no_prox:
            p.div_(1 + self.decay)
        prev.copy_(g)

    def _many(
        self,
        p: list[Tensor],
        g: list[Tensor],
        m: list[Tensor],
        v: list[Tensor],
        n: list[Tensor],
        prev: list[Tensor],
    ) -> None:
        if self.maximize:
            g = list(torch._foreach_neg(g))
        if self.clip is not None:
            g = list(torch._foreach_mul(g, self.clip))
        if self.first:
            torch._foreach_zero_(prev)
        else:
            torch._foreach_sub_(prev, g)  # -d: a sign costs no rounding, an operation more would cost time
        torch._foreach_mul_(m, self.b1)
        torch._foreach_add_(m, g, alpha=1 - self.b1)
        torch._foreach_mul_(v, self.b2)
        torch._foreach_add_(v, prev, alpha=-(1 - self.b2))
        torch._foreach_mul_(prev, -self.b2)
        torch._foreach_add_(prev, g)
        torch._foreach_mul_(n, self.b3)
        torch._foreach_addcmul_(n, prev, prev, value=1 - self.b3)
        denominator = list(torch._foreach_sqrt(n))
        torch._foreach_div_(denominator, self.root)
        torch._foreach_add_(denominator, self.eps)
        if self.no_prox:
            torch._foreach_mul_(p, 1 - self.decay)
        torch._foreach_addcdiv_(p, m, denominator, value=-self.step_m)
        torch._foreach_addcdiv_(p, v, denominator, value=-self.step_v)
        if self.decay and not self.no_prox:
            torch._foreach_div_(p, 1 + self.decay)
        torch._foreach_copy_(prev, g)

    def _scratch(self, like: Tensor) -> Tensor:
        """A buffer of a shape, kept from block to block."""
        if self._buffer is None or self._buffer.numel() < like.numel():
            self._buffer = torch.empty(like.numel(), dtype=like.dtype)
        return self._buffer[: like.numel()].view(like.shape)

    def _fast(
        self,
        p: list[Tensor],
        g: list[Tensor],
        m: list[Tensor],
        v: list[Tensor],
        n: list[Tensor],
        prev: list[Tensor],
    ) -> None:
        """The same with n and p done by torch's fused AdamW, which is given (g + b2 d) as the gradient.

        Its first moment w is made to be the whole numerator: with a beta of 1 - _TINY it moves by less than
        float32's rounding, and the bias correction that this beta brings is cancelled by the rate.
        """
        if self.maximize:
            g = list(torch._foreach_neg(g))
        if self.clip is not None:
            g = list(torch._foreach_mul(g, self.clip))
        if self.first:
            torch._foreach_copy_(prev, g)
        t = self.t.item()
        u: list[Tensor]
        w: list[Tensor]
        if len(p) == 1:
            # One block of a large tensor: the previous gradient and one kept buffer serve as scratch, because
            # fresh memory of this size would be mapped anew, page by page, at every operation.
            d = torch.sub(g[0], prev[0], out=prev[0])
            m[0].lerp_(g[0], 1 - self.b1)
            v[0].lerp_(d, 1 - self.b2)
            u = [torch.add(g[0], d, alpha=self.b2, out=prev[0])]
            w = [torch.div(m[0], 1 - self.b1**t, out=self._scratch(m[0]))]
        else:
            ds = torch._foreach_sub(g, prev)
            torch._foreach_lerp_(m, g, 1 - self.b1)
            torch._foreach_lerp_(v, ds, 1 - self.b2)
            u = list(torch._foreach_add(g, ds, alpha=self.b2))
            w = list(torch._foreach_div(m, 1 - self.b1**t))
        torch._foreach_add_(w, v, alpha=self.b2 / (1 - self.b2**t))
        if self.no_prox and self.decay:
            torch._foreach_mul_(p, 1 - self.decay)
        beta = 1 - _TINY
        torch._fused_adamw_(
            p,
            u,
            w,
            n,
            [],
            [self.t] * len(p),
            lr=self.lr * (1 - beta**t),
            beta1=beta,
            beta2=self.b3,
            weight_decay=0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
        if self.decay and not self.no_prox:
            torch._foreach_div_(p, 1 + self.decay)
        torch._foreach_copy_(prev, g)
