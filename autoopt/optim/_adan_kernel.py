"""Adan's arithmetic on batches of tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from autoopt.optim._base import host
from autoopt.optim._blocks import Row, compute_dtype
from autoopt.optim.compiled import library

# Below float32's rounding (6e-8), and large enough that 1 - (1 - _TINY)^t has 7 digits in double.
_TINY = 2.0**-30


# Below this beta the second moment's d, taken back from b2 d, would lose digits.
_FAST_BETA = 0.5


def split(rows: list[Row], group: dict[str, Any]) -> tuple[list[Row], list[Row]]:
    """Rows of one kind that torch's fused kernels take (float32 arithmetic on a CPU, contiguous), and the rest."""
    first = rows[0].tensors[0]
    single = first.device.type == "cpu" and compute_dtype(first.dtype) == torch.float32
    if not single or group["foreach"] is not None or host(group["betas"][1]) < _FAST_BETA:
        return [], rows
    fast: list[Row] = []
    rest: list[Row] = []
    for row in rows:
        (fast if all(t.is_contiguous() for t in row.tensors) else rest).append(row)
    return fast, rest


def run_compiled(
    rows: list[Row], group: dict[str, Any], t: float, first: bool, clip: float | Tensor | None
) -> None:
    """Adan on rows of (p, g, m, v, n, previous g), which `library.require` accepts, by the compiled kernel."""
    b1, b2, b3 = (host(b) for b in group["betas"])
    lr = host(group["lr"])
    decay = lr * group["weight_decay"]
    arguments = library.AdanArguments(
        b1=b1,
        b2=b2,
        b3=b3,
        eps=group["eps"],
        factor=(1.0 if clip is None else host(clip)) * (-1.0 if group["maximize"] else 1.0),
        rate_m=lr / (1.0 - b1**t),
        rate_v=lr * b2 / (1.0 - b2**t),
        inverse_root=1.0 / math.sqrt(1.0 - b3**t),
        before=1.0 - decay if group["no_prox"] else 1.0,
        after=1.0 if group["no_prox"] else 1.0 / (1.0 + decay),
        seen=0.0 if first else 1.0,
    )
    library.run("adan", rows, arguments)


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
        """A buffer of a shape, kept from block to block: fresh memory is mapped anew, page by page."""
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
        """The same in six calls: each of torch's fused kernels does what two or three operations would.

        * u = g + b2 d is an extrapolation from the previous gradient through g.
        * SGD with weight decay -1 on "parameters" u sees the gradient g - u = -b2 d. Its momentum is v, where
          the dampening undoes -b2; its rate 0 leaves u alone.
        * SGD without decay makes m of g, and adds it to w, which holds v's part of the step.
        * AdamW has u as gradient, so n is its second moment. Its first moment w is made to be the whole
          numerator: with a beta of 1 - _TINY it moves by less than float32's rounding, and the bias
          correction that this beta brings is cancelled by the rate. Its decay is either form of ours.
        """
        if self.maximize:
            g = list(torch._foreach_neg(g))
        if self.clip is not None:
            g = list(torch._foreach_mul(g, self.clip))
        if self.first:
            torch._foreach_copy_(prev, g)
        t = self.t.item()
        torch._foreach_lerp_(prev, g, 1 + self.b2)
        _sgd(prev, g, v, decay=-1.0, momentum=self.b2, dampening=1 + (1 - self.b2) / self.b2, lr=0.0)
        rate = self.b2 / (1 - self.b2**t)
        w = (
            [torch.mul(v[0], rate, out=self._scratch(v[0]))]
            if len(v) == 1
            else list(torch._foreach_mul(v, rate))
        )
        _sgd(w, g, m, decay=0.0, momentum=self.b1, dampening=self.b1, lr=-1 / (1 - self.b1**t))
        keep = 1 - self.decay if self.no_prox else 1 / (1 + self.decay)
        beta = 1 - _TINY
        lr = self.lr * (1 - beta**t) * (1.0 if self.no_prox else keep)
        torch._fused_adamw_(
            p,
            prev,
            w,
            n,
            [],
            [self.t] * len(p),
            lr=lr,
            beta1=beta,
            beta2=self.b3,
            weight_decay=(1 - keep) / lr if self.decay else 0.0,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
        torch._foreach_copy_(prev, g)


def _sgd(
    p: list[Tensor],
    g: list[Tensor],
    momenta: list[Tensor],
    *,
    decay: float,
    momentum: float,
    dampening: float,
    lr: float,
) -> None:
    torch._fused_sgd_(
        p,
        g,
        momenta,
        weight_decay=decay,
        momentum=momentum,
        lr=lr,
        dampening=dampening,
        nesterov=False,
        maximize=False,
        is_first_step=False,
    )
