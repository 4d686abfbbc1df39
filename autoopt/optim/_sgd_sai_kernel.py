"""SGD-SaI's arithmetic on batches of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoopt.optim._base import host
from autoopt.optim._blocks import Row
from autoopt.optim.compiled import library


def run_compiled(rows: list[Row], group: dict[str, Any], new: bool) -> None:
    """One update of rows (p, g[, m]) by the compiled kernel; a row's scale is -lr * r."""
    library.require(rows)
    arguments = library.SaiArguments(
        momentum=host(group["momentum"]),
        keep=1 - host(group["lr"]) * group["weight_decay"],
        sign=-1.0 if group["maximize"] else 1.0,
        first=new,
    )
    library.run("sai", rows, arguments)


class SaiKernel:
    """One update of a batch of (p, g[, m]); a row's scale is -lr * r."""

    def __init__(self, group: dict[str, Any], new: bool, fast: bool) -> None:
        self.mu = host(group["momentum"])
        self.decay = host(group["lr"]) * group["weight_decay"]
        self.sign = -1.0 if group["maximize"] else 1.0
        self.new = new
        self.fast = fast

    def __call__(self, batch: list[Row]) -> None:
        p, g, *rest = (list(column) for column in zip(*(row.tensors for row in batch), strict=True))
        if rest:
            self._move(rest[0], g)
        moves, sign = (rest[0], 1.0) if rest else (g, self.sign)
        if not self.fast and self.decay:
            torch._foreach_mul_(p, 1 - self.decay)
        for row, target, move in zip(batch, p, moves, strict=True):
            if self.fast and row.scale:
                self._decay_and_add(target, move, sign * row.scale)
            else:
                target.add_(move, alpha=sign * row.scale)

    def _move(self, m: list[Tensor], g: list[Tensor]) -> None:
        if self.new:
            torch._foreach_copy_(m, g)
            torch._foreach_mul_(m, self.sign)
        elif self.fast and self.sign > 0:
            torch._foreach_lerp_(m, g, 1 - self.mu)
        else:
            torch._foreach_mul_(m, self.mu)
            torch._foreach_add_(m, g, alpha=self.sign * (1 - self.mu))

    def _decay_and_add(self, p: Tensor, move: Tensor, scale: float) -> None:
        # torch's fused SGD without momentum is p - lr (move + decay p): both in one pass. Its momentum would
        # take the decay in.
        torch._fused_sgd_(
            [p],
            [move],
            [],
            weight_decay=-self.decay / scale,
            momentum=0.0,
            lr=-scale,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )
