"""Activations of a step that cannot be traced: a few samples on the real model, and a straight line."""

from __future__ import annotations

import torch

from autoopt.errors import AutooptError
from autoopt.hardware.cpu import available_memory
from autoopt.memory.batches import Longest
from autoopt.memory.fits import Growth
from autoopt.memory.measured import StepMemory
from autoopt.optim.build import state_bytes
from autoopt.workload import Workload
from autoopt.workload.data import clone, convert

_SHARE = 0.25
"""Of the free memory, that weights and gradients may take here."""
_FEW = 2


def activations(
    workload: Workload, batch: Longest, wanted: int | None, weight_bytes: int
) -> tuple[Growth | None, str]:
    """Bytes kept for backward against samples, by running a few; or None and why not.

    Args:
        batch: on the host.
        wanted: samples that the answer is for.
        weight_bytes: of parameters and buffers.

    Raises:
        UserCodeError: the user's loss fails, here as in training.
    """
    if 2 * weight_bytes > _SHARE * available_memory():
        return None, "the model is too large to run a few samples on this machine"
    workload.forget()
    model = workload.sketch()
    sizes = [min(_FEW, batch.samples), min(2 * _FEW, batch.samples)] if batch.samples else [None]
    points = [(size or 1, [_kept(workload, model, _cut(batch, size))]) for size in sizes]
    try:
        growth = Growth.of(points[0], points[-1] if len(points) > 1 else None)
        growth.at(wanted or growth.samples)
    except (AutooptError, ValueError):
        return None, "the batch is not one that can be taken in part"
    return growth, ""


def _kept(workload: Workload, model: torch.nn.Module, batch: object) -> int:
    """Bytes that forward and backward hold beside weights and gradients, as autograd's hooks count them."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    model.zero_grad(set_to_none=True)
    with StepMemory(model, workload.device) as meter:
        with workload.autocast():
            loss = workload.loss(model, clone(batch))
        loss.backward()  # type: ignore[no-untyped-call]
    peak, _ = meter.peak_bytes(optimizer)
    held = [*parameters, *(p.grad for p in parameters if p.grad is not None), *model.buffers()]
    frozen = [p for p in model.parameters() if not p.requires_grad]
    return max(0, (peak or 0) - sum(t.nbytes for t in [*held, *frozen]) - state_bytes(optimizer))


def _cut(batch: Longest, size: int | None) -> object:
    def leaf(value: object) -> object:
        if size and isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == batch.samples:
            return value[:size]
        return value

    return convert(batch.value, leaf)
