"""Which optimizers cannot step the parameters of a sharded model: found out by a step, before any trial pays for it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from torch import nn

from autoopt.optim import build, groups, registry
from autoopt.workload.data import clone

if TYPE_CHECKING:
    from autoopt.workload.workload import Workload

_TINY = 1e-6
"""Of the usual rate; the next `start` restores the weights."""
_LONGEST = 120


def unavailable(workload: Workload, model: nn.Module, batch: Any, known: Collection[str]) -> dict[str, str]:
    """Registry name -> why it cannot step this model, of those that cannot.

    Args:
        batch: on the host; the gradients of one backward serve all.
        known: names that need not be tried.
    """
    user = workload.baseline(model)
    split = groups.split(model, user=user.optimizer if user.given else None)
    with workload.autocast():
        loss = workload.loss(model, clone(batch))
    loss.backward()  # type: ignore[no-untyped-call]
    reasons = {}
    for name in registry.names():
        if name in known:
            continue
        spec = registry.get(name)
        try:
            optimizer = build.build(spec, list(split), {"lr": _TINY * spec.start()["lr"]})
            training = getattr(optimizer, "train", None)
            if callable(training):  # schedule-free ones keep two sets of weights
                training()
            optimizer.step()
        except Exception as error:  # whatever it is, no trial could go on after it
            said = (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]
            reasons[name] = f"it cannot step sharded parameters: {said[:_LONGEST]}"
    model.zero_grad(set_to_none=True)
    return reasons
