"""Checks that initial weights really come back: the first step's loss must repeat."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from autoopt.workload.data import clone
from autoopt.workload.seeding import derive, seed_everything

if TYPE_CHECKING:
    from autoopt.workload.workload import Workload

_STEP = 1e-2


def restores(workload: Workload, seed: int) -> Literal["in_place", "rebuilt"]:
    """How the initial state comes back: by writing it in place, or only by building the model anew.

    Takes a step on one batch, puts the initial state back and compares the loss of that batch with the first.
    """
    model = workload.fresh(seed, 1)
    batches = workload.batches(seed)
    batch = next(batches)
    batches.close()  # type: ignore[attr-defined]
    first = _loss(workload, model, batch, seed)
    workload.note(workload.group.settle(model))
    _spoil(model)
    again = _loss(workload, workload.fresh(seed, 1), batch, seed)
    if _same(first, again, workload):
        return "in_place"
    if workload.rebuildable:
        workload.restore = "rebuilt"
        if _same(first, _loss(workload, workload.fresh(seed, 1), batch, seed), workload):
            return "rebuilt"
    workload.note(
        f"The loss of the first batch does not repeat from the same weights ({first:.6g}, then {again:.6g}): "
        "something random or remembered is not restored, and differences between optimizers are less certain."
    )
    return "in_place"


def _loss(workload: Workload, model: nn.Module, batch: Any, seed: int) -> float:
    seed_everything(derive(seed, "verify"))
    model.train()
    with workload.autocast():
        loss = workload.loss(model, clone(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    return workload.group.mean(float(loss.detach()))


def _spoil(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad * _STEP)


def _same(a: float, b: float, workload: Workload) -> bool:
    if not (math.isfinite(a) and math.isfinite(b)):
        return str(a) == str(b)
    exact = workload.device.type == "cpu" and workload.precision == "fp32"
    return math.isclose(a, b, rel_tol=1e-5 if exact else 1e-3, abs_tol=1e-8)
