"""GradScaler inside an optimizer: for the numbers that the scaler itself does not know of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def scale_of(scaler: torch.amp.GradScaler | None) -> Tensor | None:
    """The present factor of the loss, 0-d on its device; None without an enabled scaler."""
    if scaler is None or not scaler.is_enabled():
        return None
    scale = scaler._get_scale_async()
    if scale is None:
        raise RuntimeError(
            "The GradScaler given to the optimizer has not scaled anything yet. "
            "Call scaler.scale(loss).backward() before the step."
        )
    return scale


def unscale(scaler: torch.amp.GradScaler | None, optimizer: Optimizer, others: list[Tensor]) -> bool:
    """Divides gradients, and `others` in place, by the scaler's scale.

    Args:
        scaler: None or disabled: nothing happens.
        optimizer: its gradients are divided unless `scaler.step` or `scaler.unscale_` has done so.
        others: tensors that carry the same factor.

    Returns:
        Whether a number overflowed, so that this step must be skipped. The scaler knows it then, and
        lowers its scale at `scaler.update()`.
    """
    scale = scale_of(scaler)
    if scale is None or scaler is None:
        return False
    record: dict[str, Any] = scaler._per_optimizer_states[id(optimizer)]
    stage = type(record["stage"])
    if record["stage"] is stage.STEPPED:
        raise RuntimeError(
            "The optimizer has stepped since scaler.update(). Call scaler.update() after each step."
        )
    ours = record["stage"] is stage.READY
    if ours:
        scaler.unscale_(optimizer)
        record["stage"] = stage.STEPPED
    inverse = scale.double().reciprocal().float()
    overflows: dict[torch.device, Tensor] = record["found_inf_per_device"]
    for t in others:
        overflow = overflows.setdefault(t.device, torch.zeros((), device=t.device))
        torch._amp_foreach_non_finite_check_and_unscale_([t], overflow, inverse.to(t.device))
    return sum(float(overflow.item()) for overflow in overflows.values()) > 0
